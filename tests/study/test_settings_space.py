"""Spaces of settings: what can be written, and what is refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.config import RunConfig, TrainConfig
from pyro_hcvae.study.settings_space import DEFAULT, Choice, SettingsSpace, Span


def ranges(*texts: str) -> dict[str, Span | Choice]:
    return dict(SettingsSpace(RunConfig(), texts).ranges)


def test_texts_are_read() -> None:
    found = ranges(
        "learning_rate = 1e-4..1e-2:log", "weight_decay=.1 .. 1.5", "steps=100..2000", "hidden=64|64,32 | 128,",
        "gamma=balanced|0.1,0.05,0.02", "gamma_release=true|false", "presence=subset|independent",
    )  # fmt: skip
    assert found["learning_rate"] == Span(1e-4, 1e-2, log=True)
    assert found["weight_decay"] == Span(0.1, 1.5)
    assert found["steps"] == Span(100, 2000)
    assert found["hidden"] == Choice({"64": (64,), "64,32": (64, 32), "128,": (128,)})
    assert found["gamma"] == Choice({"balanced": "balanced", "0.1,0.05,0.02": (0.1, 0.05, 0.02)})
    assert found["gamma_release"].values == (True, False)
    assert found["presence"].values == ("subset", "independent")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat=1..2", "unknown setting 'learning_rat': did you mean 'learning_rate'?"),
        ("xyzzy=1..2", "unknown setting 'xyzzy': choose from latent_dims, hidden"),
        ("seed=1..2", "'seed' is the same for all trials: set it with --seed"),
        ("learning_rate", "cannot read 'learning_rate': write NAME=LOW..HIGH"),
        ("learning_rate=1e-4..x", "learning_rate: 'x' is not a number"),
        ("learning_rate=1e-4..inf", "'inf' is not a number"),
        ("learning_rate=1e-4..1e-2:lin", "after the colon stands log or nothing"),
        ("learning_rate=0..1:log", "a logarithmic range begins above 0"),
        ("learning_rate=2..1", "the lower end comes first"),
        ("hide_probability=0..2", "hide_probability = 2.0: train.hide_probability: Input should be less than or equal to 1"),
        ("steps=10..20.5", "steps takes whole numbers"),
        ("hidden=3..4", "hidden is not a number that can lie between two others"),
        ("hidden=64,|", "an option is empty or stands there twice"),
        ("hidden=64|64", "an option is empty or stands there twice"),
        ("presence=subset|indep", "presence = indep: .*Input should be 'subset' or 'independent'"),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_meant(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said.replace("|", r"\|").replace("?", r"\?")):
        ranges(text)


def test_a_setting_is_varied_once() -> None:
    with pytest.raises(InputError, match="'steps' is varied twice"):
        ranges("steps=1..2", "steps=3..4")


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('learning_rate = "1e-4..1e-2:log"\nhidden = "64|128"\n')
    space = SettingsSpace.read(RunConfig(), ["steps=100..200"], file)
    assert list(space.ranges) == ["steps", "learning_rate", "hidden"]
    assert SettingsSpace.read(RunConfig()).texts == DEFAULT
    file.write_text("learning_rate = 3\n")
    with pytest.raises(InputError, match=r"learning_rate = 3: write the range as a text"):
        SettingsSpace.read(RunConfig(), (), file)
    file.write_text("learning_rate = ")
    with pytest.raises(InputError, match="not a TOML file"):
        SettingsSpace.read(RunConfig(), (), file)
    with pytest.raises(InputError, match="No such file"):
        SettingsSpace.read(RunConfig(), (), tmp_path / "none.toml")


def test_settings_and_parameters_are_one_another() -> None:
    base = RunConfig(train=TrainConfig(learning_rate=3e-3))
    space = SettingsSpace(base, ("learning_rate=1e-4..1e-2:log", "hidden=64,64|128,128", "steps=10..20"))
    assert space.base_parameters() == {"learning_rate": 3e-3, "hidden": "64,64"}  # 3000 steps lie outside
    settings = space.from_parameters({"learning_rate": 1e-3, "hidden": "128,128", "steps": 12})
    config = space.with_settings(settings)
    assert (config.train.learning_rate, config.model.hidden, config.train.steps) == (1e-3, (128, 128), 12)
    assert config.train.members == base.train.members


def test_what_may_differ_between_members() -> None:
    assert SettingsSpace(RunConfig(), ("learning_rate=1e-4..1e-2", "final_beta=0.5..1")).per_member
    assert not SettingsSpace(RunConfig(), ("learning_rate=1e-4..1e-2", "weight_decay=0..1")).per_member
