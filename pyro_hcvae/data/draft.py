"""`draft_schema`: a first schema of a table that nobody has described yet, with the reason beside each guess."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

import numpy as np
import pandas as pd
import tomli_w
from numpy.typing import NDArray

from pyro_hcvae.data.cells import MISSING
from pyro_hcvae.data.schema import RecipeSchema
from pyro_hcvae.errors import InputError

_SYMBOLS = (
    "Ag|Al|As|Au|Ba|Be|Bi|Br|Ca|Cd|Ce|Cl|Co|Cr|Cs|Cu|Dy|Er|Eu|Fe|Ga|Gd|Ge|Hf|Hg|Ho|In|Ir|La|Li|Lu|Mg|Mn|Mo|Na|Nb|Nd|Ni|"
    "Os|Pb|Pd|Pr|Pt|Rb|Re|Rh|Ru|Sb|Sc|Se|Si|Sm|Sn|Sr|Ta|Tb|Te|Th|Ti|Tl|Tm|Yb|Zn|Zr|B|C|F|H|I|K|N|O|P|S|U|V|W|Y"
)
_ELEMENT = re.compile(rf"(?!H$|N$|O$)(?:{_SYMBOLS})")
_FORMULA = re.compile(rf"(?:(?:{_SYMBOLS})\d*(?:\.\d+)?)+")
_INERT = re.compile(r"N2|Ar|He|Ne|Kr|nitrogen|argon|helium|inert|balance")
_GAS = re.compile(
    rf"{_INERT.pattern}|CH4|CO2|CO|H2|O2|H2O|NH3|NO|NO2|N2O|SO2|H2S|C[2-4]H\d+|CH3OH|C2H5OH|methane|ethane|ethene|ethylene|"
    r"propane|propene|propylene|butane|methanol|ethanol|hydrogen|oxygen|steam|water|air|ammonia"
)
_UNIT_WORD = re.compile(
    r"[a-z]*%|°C|degC|℃|C|K|°F|[mµu]?s|sec|min|h|hr|hours?|m?bar|atm|[kM]?Pa|torr|psi|[kmµu]?g|m?L|ml|[nc]?m|m?mol|"
    r"cat|wt|at|vol|ppm|fraction|STP|N?mL|sccm"
)
_AMOUNT_UNIT = re.compile(r"$|.*(%|mol|ppm|fraction)|m?g/g")
_IDENTIFIER = re.compile(
    r"(?:(?:id|no|nr|number|index|name|sample|catalyst|cat|experiment|exp|entry|label|batch|lot|row|run|paper|article|"
    r"title|journal|operator|source|code|unnamed|\d+)\b ?)+|.*\b(?:id|doi|date|year|refs?|references?|authors?|"
    r"comments?|remarks?|notes?)\b.*"
)
_RESULT = re.compile(
    r".*\b(?:conver\w*|yield\w*|selectiv\w*|activity|tof|ton|productiv\w*|sty|performance|deactivat\w*|"
    r"(?:reaction|formation|production|consumption) rate)\b.*"
)
_MEASURED = re.compile(r".*\b(?:bet|surface|area|pore|dispersion|crystallite|particle|acidity|basicity|xrd|xps)\b.*")
_STEPS = {
    "calcination": r"calc\w*", "reduction": r"red|reduc\w*", "activation": r"act|activation|activated",
    "drying": r"dry\w*|dried", "ageing": r"age?ing|aged", "annealing": r"anneal\w*", "sintering": r"sinter\w*",
    "pyrolysis": r"pyroly\w*", "washing": r"wash\w*", "treatment": r"pre ?treat\w*|treat\w*|heat\w*|hydrotherm\w*",
    "synthesis": r"synth\w*|prep\w*|impreg\w*|precip\w*",
}  # fmt: skip
_VELOCITY = r"[gwl]hsv|sv|velocity|flow\w*|contact|w f"
_CONDITION = re.compile(
    rf".*\b(?:react\w*|feed\w*|inlet|{_VELOCITY}|pressure|p|tos|stream|catalyst (?:mass|weight|amount)|t|temp|"
    r"temperature|time|duration)\b.*"
)
_FILLER = {"wt", "mol", "at", "loading", "content", "amount", "fraction", "metal", "share", "x"}
_TOTALS = (1.0, 100.0)
_PARSING = "If numbers are written with a decimal comma, read the file with --decimal ,"


@dataclass(frozen=True, eq=False)
class _Profile:
    """One column of the table: what its name and its values say."""

    name: str
    title: str
    """Name without its unit."""
    unit: str
    values: NDArray[np.float64]
    """NaN where a cell holds no number."""
    texts: tuple[str, ...]
    """Distinct cells of a column of text; empty for a column of numbers."""
    empty: int

    @property
    def words(self) -> str:
        return " ".join(re.findall(r"[a-z]+|\d+", self.title.lower()))

    @property
    def tokens(self) -> list[str]:
        return re.findall(r"[A-Za-z0-9.]+", self.title.replace("_", " "))

    @property
    def number(self) -> bool:
        return bool(np.isfinite(self.values).any())

    @property
    def known(self) -> NDArray[np.float64]:
        return self.values[np.isfinite(self.values)]

    @property
    def gas(self) -> str:
        return next((t for t in self.tokens if _GAS.fullmatch(t) or _GAS.fullmatch(t.lower())), "")

    @property
    def percent(self) -> bool:
        return "%" in self.unit or bool(self.gas)

    @property
    def temperature(self) -> bool:
        named = "T" in self.tokens or re.search(r"\btemp(erature)?\b", self.words)
        return bool(named) or self.unit in ("K", "degC", "°C", "℃", "C", "°F")

    @property
    def time(self) -> bool:
        return self.unit in ("s", "sec", "min", "h", "hr", "hour", "hours") or bool(
            re.search(r"\b(time|duration|tos)\b", self.words)
        )

    @property
    def component(self) -> bool:
        """Whether name or unit is that of an amount: an element, ``wt%``, or a formula over a column mostly zero."""
        core = [t for t in self.tokens if t.lower() not in _FILLER]
        if not self.number or not _AMOUNT_UNIT.match(self.unit) or np.mean(self.known < 0) > 0.05:
            return False
        formula = _FORMULA.fullmatch(core[0]) and np.mean(self.known == 0) > 0.5 if len(core) == 1 else None
        return bool(formula or _ELEMENT.fullmatch(" ".join(core)) or re.match(r"(wt|mol|at)\W", self.unit))

    @property
    def codes(self) -> tuple[int | str, ...]:
        """Levels of the column, if it looks like a column of codes."""
        if self.texts:
            return self.texts if 2 <= len(self.texts) <= min(20, len(self.values) - self.empty - 1) else ()
        levels = np.unique(self.known)
        plain = not (self.unit or self.temperature or self.time or self.percent or self.component)
        whole = plain and bool((levels == np.round(levels)).all()) and levels[0] >= 0 and levels[-1] <= 20
        return tuple(int(x) for x in levels) if whole and 2 <= len(levels) <= 10 else ()


@dataclass
class _Draft:
    """Columns by what they were taken for, in file order."""

    identifiers: list[tuple[str, str]] = field(default_factory=list)
    amounts: dict[str, list[_Profile]] = field(default_factory=dict)
    shares: list[tuple[list[_Profile], float]] = field(default_factory=list)
    categories: list[_Profile] = field(default_factory=list)
    steps: dict[str, list[_Profile]] = field(default_factory=dict)
    conditions: list[_Profile] = field(default_factory=list)


def draft_schema(frame: pd.DataFrame, *, name: str) -> str:
    """Guess a schema from the names and values of a table's columns, for a person to correct.

    Args:
        frame: Cells as `pyro_hcvae.data.reading.read_frame` returns them.
        name: Name of the schema.

    Returns:
        A TOML file with comments that say what was guessed and why. `RecipeSchema.from_toml` reads it as it is.

    Raises:
        InputError: If no column holds numbers, or none looks like part of a recipe.
    """
    if not frame.columns.is_unique:
        raise InputError("some columns have the same name: rename them, then draft the schema")
    profiles = [_profile(str(c), frame[c]) for c in frame.columns]
    draft, rest = _Draft(), []
    for p in profiles:
        if why := _not_modelled(p):
            draft.identifiers.append((p.name, why))
        else:
            rest.append(p)
    results = [p for p in rest if p.number and _RESULT.fullmatch(p.words)]
    numbers = [p for p in rest if p.number]
    if not numbers:
        raise InputError(f"cannot draft a schema: no column holds measured numbers. {_PARSING}")
    target = (results or numbers)[-1]
    draft.identifiers += [(p.name, "another result; only one is modelled") for p in results if p is not target]
    _sort([p for p in rest if p not in results and p is not target], draft)
    stages = _stages(draft)
    if not stages:
        raise InputError(
            "cannot draft a schema: no column looks like part of a recipe. Name the components by element or formula "
            f"(Ni, 'Ni (wt%)', Al2O3) and the processing by step ('Calcination T / K'). {_PARSING}"
        )
    head = [
        f"# Draft of a schema, guessed from {len(frame)} rows and {len(profiles)} columns. Check each guess; "
        "fill in units and limits.",
        "# Stages stand in the order in which you decide them: move blocks between stages and rename them as you like.",
        _item("name", name),
        *_listing("identifiers", draft.identifiers, "columns that may stand in the file and are not modelled"),
    ]
    feed, conditions = _feed(draft.conditions, {p.name for p in profiles})
    setup = [p.name for p in draft.conditions if p.gas or re.search(rf"\b(?:{_VELOCITY})\b", p.words)]
    if setup:
        why = "conditions that tell one laboratory's campaign from another's"
        head += ["", f"# guess: {why}", _array("laboratory", setup)]
    for p in conditions:
        feed += ["", "[[conditions]]", *_setting(p, "named like a condition of the reaction, not of the recipe")]
    why = "the last column of numbers that is named like a result" if results else "the last column of numbers"
    tail = ["", "[performance]", *_setting(target, why), "# higher_is_better = false"]
    text = "\n".join(head + stages + feed + tail) + "\n"
    RecipeSchema.from_toml(text, source="drafted schema")
    return text


def _profile(name: str, cells: pd.Series) -> _Profile:
    title, unit = name, ""
    for pattern in (r"(.+?)\s*/\s*(.+)", r"(.+?)\s*\[(.+)\]", r"(.+?)\s*\((.+)\)"):
        if unit or not (found := re.fullmatch(pattern, name.strip(), flags=re.DOTALL)):
            continue
        hint = re.sub(r"^[\[(]([^\[\]()]*)[\])]$", r"\1", found.group(2)).strip()
        parts = [x for x in re.split(r"[^A-Za-zµ%°℃]+", hint) if x]
        if parts and all(_UNIT_WORD.fullmatch(x) for x in parts):
            title, unit = found.group(1), hint
    texts = cells.astype(object).map(lambda x: str(x).strip(), na_action="ignore")
    lowered = texts.astype(str).str.lower()
    texts = texts.where(~lowered.isin(MISSING - {"none"}))  # "none" is a likely code
    filled = int(texts.notna().sum() - (lowered == "none").sum())
    values = pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isfinite(values).sum() < 0.9 * filled:
        values = np.full(len(cells), np.nan)
    if np.isfinite(values).any():
        return _Profile(name, title, unit, values, (), len(cells) - filled)
    levels = tuple(sorted(set(texts.dropna())))
    return _Profile(name, title, unit, values, levels, int(texts.isna().sum()))


def _not_modelled(p: _Profile) -> str:
    if not p.number and not p.texts:
        return "empty"
    if _IDENTIFIER.fullmatch(p.words) and not (p.unit or p.component):
        return "named like an identifier"
    plain = not (p.unit or p.component) and len(p.known) > 5
    if plain and p.empty == 0 and np.array_equal(p.known, p.known[0] + np.arange(len(p.known))):
        return "counts the rows"
    if p.texts and all(re.match(r"\d{4}-\d\d-\d\d", x) for x in p.texts):
        return "dates"
    if p.texts and not p.codes:
        return f"text with {len(p.texts)} different values"
    if _MEASURED.fullmatch(p.words) and p.number:
        return "named like a measured property of the catalyst, which nobody decides"
    return ""


def _step(p: _Profile) -> str:
    return next((step for step, pattern in _STEPS.items() if re.search(rf"\b(?:{pattern})\b", p.words)), "")


def _sort(rest: list[_Profile], draft: _Draft) -> None:
    """Distribute the columns that are neither identifiers nor results."""
    open_columns: list[_Profile | None] = []
    for p in rest:
        step = _step(p)
        condition = not p.component and not step and bool(p.gas or _CONDITION.fullmatch(p.words))
        if step and p.number and not p.codes:
            draft.steps.setdefault(step, []).append(p)
        elif condition and p.number:
            draft.conditions.append(p)
        elif condition and p.texts:
            draft.identifiers.append((p.name, "text; conditions must be numbers"))
        elif step or not p.number:
            draft.categories.append(p)
        else:
            open_columns.append(p)
            continue
        open_columns.append(None)
    while group := _best_shares(open_columns):
        start, stop, total = group
        draft.shares.append(([p for p in open_columns[start:stop] if p is not None], total))
        open_columns[start:stop] = [None] * (stop - start)
    for p in filter(None, open_columns):
        if p.component:
            draft.amounts.setdefault(p.unit, []).append(p)
        elif p.codes:
            draft.categories.append(p)
        else:
            draft.steps.setdefault("settings", []).append(p)


def _best_shares(columns: Sequence[_Profile | None]) -> tuple[int, int, float] | None:
    """Adjacent columns whose rows most often sum to 1 or 100; the longest of equals."""
    best: tuple[float, int] = (0.6, 0)
    found = None
    for start in range(len(columns)):
        total: Any = 0.0
        for stop, p in enumerate(columns[start:], start=start + 1):
            if p is None or p.known.min() < 0:
                break
            if np.mean(total > 1.02 * _TOTALS[-1]) > 0.4:  # sums only grow
                break
            total = total + p.values
            for whole in _TOTALS:
                fit = float(np.mean(np.abs(total - whole) <= 0.02 * whole))
                if stop - start > 1 and (fit, stop - start) > best and _varied(columns[start:stop], whole):
                    best, found = (fit, stop - start), (start, stop, whole)
    return found


def _varied(columns: Sequence[_Profile | None], whole: float) -> bool:
    # One column alone that sums to the whole, plus empty or tiny ones, is no set of shares.
    return sum(p is not None and bool((p.known > 0.02 * whole).any()) for p in columns) > 1


def _stages(draft: _Draft) -> list[str]:
    first: list[str] = []
    support: list[str] = []
    process: list[str] = []
    used = {"metal", "composition", "support", "pretreatment", *draft.steps}

    def new(title: str) -> str:
        name = next(s for s in chain([title], (f"{title}_{i}" for i in count(2))) if s not in used)
        used.add(name)
        return name

    for unit, columns in draft.amounts.items():
        first += _components("amounts", new("amounts"), columns, unit, None)
    for columns, total in draft.shares:
        unit = columns[0].unit or ("%" if total > 1 else "fraction")
        support += _components("fractions", new("shares"), columns, unit, total)
    for p in draft.categories:
        block = _category(p, new(re.sub(r"[^a-z0-9]+", "_", p.title.lower()).strip("_") or "code"))
        if re.search(r"\b(support|carrier)\b", p.words):
            support += block
        else:
            process += block
    for step, columns in draft.steps.items():
        process += _step_block(step, columns)
    names = ("metal", "support") if first and support else ("composition", "composition")
    stages = [*zip(names, (first, support), strict=True), ("pretreatment", process)]
    return [x for stage, lines in stages if lines for x in ("", "[[stages]]", _item("name", stage), *lines)]


def _components(kind: str, name: str, columns: list[_Profile], unit: str, total: float | None) -> list[str]:
    values = np.column_stack([p.values for p in columns])
    sums, most = np.nansum(values, axis=1), int((values > 0).sum(axis=1).max())
    why = "columns named like elements or formulas, zero or positive"
    extra = []
    if total is not None:
        fit = np.mean(np.abs(sums - total) <= 0.02 * total)
        why = f"adjacent columns that sum to {total:g} in {100 * fit:.1f} % of the rows"
        extra = [_item("total", total)] + ([_item("may_be_empty", True)] if (sums == 0).any() else [])
    return [
        "", "[[stages.blocks]]", f"# guess: {why}", _item("kind", kind), _item("name", name),
        _item("unit", unit) if unit else '# unit = "wt%"  # not in the names: check',
        f"{_item('max_present', max(most, 1))}  # guess: the most in one row of the file",
        *extra, *_resolution(values[values > 0]), _array("columns", [p.name for p in columns]),
    ]  # fmt: skip


def _category(p: _Profile, slug: str) -> list[str]:
    return [
        "", "[[stages.blocks]]", _item("kind", "category"), _item("name", slug), _item("column", p.name),
        f"# guess: {len(p.codes)} {'texts' if p.texts else 'small integers'}"
        + (f"; {p.empty} cells are empty and need a code" if p.empty else ""),
        _array("codes", p.codes),
    ]  # fmt: skip


def _step_block(step: str, columns: list[_Profile]) -> list[str]:
    columns = sorted(columns, key=lambda p: (not p.temperature, not p.time))  # stable: the first column decides
    lead = columns[0].values
    optional = step != "settings" and bool((lead == 0).any() and (np.nan_to_num(lead) >= 0).all())
    why = "numbers without a telling name: move what is measured to 'identifiers', reaction conditions to 'conditions'"
    if step != "settings":
        why = f"columns named like {step}; the first decides whether it was carried out"
    lines = ["", "[[stages.blocks]]", f"# guess: {why}", _item("kind", "step"), _item("name", step)]
    if optional:
        lines.append(f"optional = true  # guess: 0 in {(lead == 0).sum()} rows, read as: not carried out")
    for p in columns:
        done = p.values if not optional else p.values[lead != 0]
        zero = bool((done == 0).any()) and p is not columns[0] and p.percent
        lines += ["", "[[stages.blocks.columns]]", *_setting(p, "", done[(done != 0) | (not (zero or optional))])]
        lines += _resolution(done[done > 0])
        if zero:
            lines.append(f"{_item('zero_means', f'no {p.gas or p.title}')}  # guess: what 0 stands for")
        elif optional and bool((done == 0).any()):
            lines.append("# 0 in rows where the step was carried out: is it a value, or was it not recorded?")
    return lines


def _setting(p: _Profile, why: str, values: NDArray[np.float64] | None = None) -> list[str]:
    known = p.known if values is None else values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    lines = [f"# guess: {why + '; ' if why else ''}{low:g} to {high:g} in the file", _item("name", p.name)]
    lines.append(_item("unit", p.unit) if p.unit else 'unit = ""  # not in the name: fill in')
    if p.time or re.search(rf"\b(?:{_VELOCITY})\b", p.words):
        lines += [_item("transform", "log" if low > 0 else "log1p")] if low >= 0 < high else []
    elif p.unit == "K" and low >= 0:
        lines.append("minimum = 0.0")
    elif (p.percent or (_RESULT.fullmatch(p.words) and not p.unit)) and low >= 0 and 1.5 < high <= 100:
        lines += ["minimum = 0.0", "maximum = 100.0  # guess: a percentage"]
    return lines


def _feed(conditions: list[_Profile], taken: set[str]) -> tuple[list[str], list[_Profile]]:
    """Lines of the feed, if the gases sum to a whole, and the conditions that remain."""
    gases = [p for p in conditions if p.gas and not p.time and not p.temperature]
    reactants = [p for p in gases if not _INERT.fullmatch(p.gas) and bool((p.known > 0).all())]
    sums = sum((p.values for p in gases), start=np.zeros(1))
    for whole in _TOTALS:
        fit = np.mean(np.abs(sums - whole) <= 0.02 * whole)
        if len(reactants) < 2 or fit < 0.8 or any(p.known.min() < 0 for p in gases):
            continue
        rest = [p for p in conditions if p not in gases]
        first = reactants[0].gas
        ratios = [f"{p.gas}/{first}" for p in reactants[1:]]
        if len(set(ratios)) < len(ratios) or taken & {*ratios, "Diluent"}:
            ratios = [f"{p.name} to {reactants[0].name}" for p in reactants[1:]]
        diluents = [p.name for p in gases if p not in reactants]
        lines = [
            "", "[feed]", f"# guess: gases that sum to {whole:g} in {100 * fit:.1f} % of the rows",
            "# reactants: above 0 in every row and not inert; all others are summed as diluents",
            _array("reactants", [p.name for p in reactants]), _array("diluents", diluents), _array("ratios", ratios),
            _item("total", whole), _item("tolerance", 0.01 * whole), _item("unit", "%" if whole > 1 else "fraction"),
        ]  # fmt: skip
        return lines + ([_item("diluent", "Diluted share")] if "Diluent" in taken else []), rest
    return [], conditions


def _resolution(values: NDArray[np.float64]) -> list[str]:
    known = values[np.isfinite(values)]
    for grid in (5.0, 1.0, 0.5, 0.1, 0.05, 0.01) if len(known) else ():
        if (np.abs(known / grid - np.round(known / grid)) < 1e-6).all():
            return [f"{_item('resolution', grid)}  # guess: grid of the values in the file"]
    return []


def _item(key: str, value: str | float | bool) -> str:
    return tomli_w.dumps({key: value}).rstrip("\n")


def _array(key: str, values: Iterable[str | int]) -> str:
    lines, items = [""], [_item("x", v)[4:] for v in values]
    for item in items:
        if lines[-1] and len(lines[-1]) + len(item) > 110:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else ''}{item},"
    return f"{key} = [" + "".join(f"\n  {line}" for line in lines if line) + ("\n]" if items else "]")


def _listing(key: str, values: list[tuple[str, str]], what: str) -> list[str]:
    items = [f"  {_item('x', name)[4:]},  # guess: {why}" for name, why in values]
    return [f"# {what}", f"{key} = [", *items, "]"]
