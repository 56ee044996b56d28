"""Names of the sample sites. They follow from the schema; no other file spells one."""

from __future__ import annotations

from pyro_hcvae.data.schema import Amounts, Block, Category, Fractions, RecipeSchema, Stage, Step


def latent(stage: Stage | str) -> str:
    """Latent of a stage: ``z_metal``."""
    return f"z_{stage if isinstance(stage, str) else stage.name}"


def latents(schema: RecipeSchema) -> tuple[str, ...]:
    """Latents of all stages, top first."""
    return tuple(latent(stage) for stage in schema.stages)


def presence(block: Amounts | Fractions) -> str:
    """Which components are present, 0/1, event shape ``(F,)``."""
    return f"{block.name}.presence"


def amount(block: Amounts) -> str:
    """Standardised log amount of each present component, event shape ``(F,)``."""
    return f"{block.name}.amount"


def ratio(block: Fractions) -> str:
    """Standardised log ratio of each present component to the reference one, event shape ``(F,)``."""
    return f"{block.name}.ratio"


def code(block: Category) -> str:
    """Position of the code in the schema's list, a scalar."""
    return f"{block.name}.code"


def state(block: Step) -> str:
    """Position of the step's state in `Step.states`, a scalar."""
    return f"{block.name}.state"


def value(block: Step) -> str:
    """Standardised settings of the step, event shape ``(F,)``."""
    return f"{block.name}.value"


def of_block(block: Block) -> dict[str, int | None]:
    """Sites of one block in sampling order, with the length of their event (None: a scalar)."""
    match block:
        case Amounts():
            return {presence(block): len(block.columns), amount(block): len(block.columns)}
        case Fractions():
            return {presence(block): len(block.columns), ratio(block): len(block.columns)}
        case Category():
            return {code(block): None}
        case Step():
            return {state(block): None, value(block): len(block.columns)}


def of_stage(stage: Stage) -> dict[str, int | None]:
    """Observed sites of one stage in sampling order, with the length of their event."""
    return {name: size for block in stage.blocks for name, size in of_block(block).items()}


def observed(schema: RecipeSchema) -> dict[str, int | None]:
    """Observed sites of all stages in sampling order, with the length of their event."""
    return {name: size for stage in schema.stages for name, size in of_stage(stage).items()}
