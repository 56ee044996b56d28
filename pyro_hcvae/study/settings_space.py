"""`SettingsSpace`: which settings a sweep varies and between what, read from short texts."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import ValidationError

from pyro_hcvae.data.schema import describe
from pyro_hcvae.errors import InputError
from pyro_hcvae.inference.config import PER_MEMBER, RunConfig, TrainConfig
from pyro_hcvae.model.config import ModelConfig

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = float | int | bool | str | tuple[float | int | str, ...]
DEFAULT = (
    "learning_rate=5e-4..8e-3:log",
    "weight_decay=1e-4..1e-1:log",
    "hidden=64,64|96,96|128,128",
    "hide_probability=0..0.5",
    "condition_dropout=0..0.3",
    "beta_warmup=0.1..0.6",
)
"""What is varied if nothing else is asked for: what fits the model to the size of a table."""
_ELSEWHERE = {
    "members": "--members", "seed": "--seed", "jobs": "--jobs", "compile": "--compile",
}  # fmt: skip
"""Settings that a sweep has for all its trials, and the options that set them."""
_FORMS = (
    "write NAME=LOW..HIGH, NAME=LOW..HIGH:log, or NAME=ONE|ANOTHER, e.g. 'learning_rate=1e-4..1e-2:log' or "
    "'hidden=64,64|128,128'"
)


@dataclass(frozen=True)
class Span:
    """Numbers between two ends, both possible.

    Attributes:
        low: Lower end.
        high: Upper end.
        log: Whether equal ratios are equally likely, instead of equal differences.
    """

    low: float
    high: float
    log: bool = False

    @property
    def values(self) -> tuple[Value, ...]:
        """What has to be possible."""
        return self.low, self.high

    def suggest(self, trial: Trial, name: str) -> Value:
        """The value of a trial."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return int(trial.suggest_int(name, self.low, self.high, log=self.log))
        return float(trial.suggest_float(name, self.low, self.high, log=self.log))

    def value(self, written: Any) -> Value:
        """The value that a study has written."""
        number: Value = written
        return number

    def parameter(self, value: Any) -> float | None:
        """How a study writes a value; None if it lies outside."""
        inside = isinstance(value, int | float) and self.low <= value <= self.high
        return value if inside else None


@dataclass(frozen=True)
class Choice:
    """Some values.

    Attributes:
        options: By the text that stands for each.
    """

    options: Mapping[str, Value]

    @property
    def values(self) -> tuple[Value, ...]:
        """What has to be possible."""
        return tuple(self.options.values())

    def suggest(self, trial: Trial, name: str) -> Value:
        """The value of a trial."""
        return self.value(trial.suggest_categorical(name, list(self.options)))

    def value(self, written: Any) -> Value:
        """The value that a study has written."""
        return self.options[written]

    def parameter(self, value: Any) -> str | None:
        """How a study writes a value; None if it is not among them."""
        return next((text for text, option in self.options.items() if option == value), None)


@dataclass(frozen=True)
class SettingsSpace:
    """Settings that are varied, around settings that are not.

    Attributes:
        base: All settings.
        texts: What is varied, one text a setting.

    Raises:
        InputError: If a text cannot be read, or names a setting or a value that does not exist.

    Example:
        >>> space = SettingsSpace(RunConfig(), ("learning_rate=1e-4..1e-2:log", "hidden=64,64|128"))
        >>> space.ranges["hidden"].options
        {'64,64': (64, 64), '128': (128,)}
    """

    base: RunConfig
    texts: tuple[str, ...] = DEFAULT

    def __post_init__(self) -> None:
        if not self.ranges:
            raise InputError("a sweep has to vary something: " + _FORMS)
        for name, span in self.ranges.items():
            for value in span.values:
                self.with_settings({name: value})

    @classmethod
    def read(cls, base: RunConfig, texts: Iterable[str] = (), file: Path | None = None) -> Self:
        """From texts and a TOML file whose keys are the names; `DEFAULT` where neither says anything.

        Raises:
            InputError: If the file cannot be read, or as above.
        """
        lines = list(texts)
        if file is not None:
            try:
                content = tomllib.loads(file.read_text(encoding="utf-8"))
            except OSError as error:
                raise InputError(f"--space {file}: {error.strerror}") from None
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise InputError(f"--space {file}: not a TOML file: {error}") from None
            for name, text in content.items():
                if not isinstance(text, str):
                    raise InputError(
                        f'--space {file}: {name} = {text!r}: write the range as a text, e.g. {name} = "1..2"'
                    )
                lines.append(f"{name}={text}")
        return cls(base, tuple(lines) or DEFAULT)

    @cached_property
    def ranges(self) -> Mapping[str, Span | Choice]:
        """Range of each setting that is varied."""
        out: dict[str, Span | Choice] = {}
        for text in self.texts:
            name, sign, spec = (part.strip() for part in text.partition("="))
            if not sign or not spec:
                raise InputError(f"cannot read {text!r}: {_FORMS}")
            if name in out:
                raise InputError(f"{name!r} is varied twice: {text!r}")
            out[name] = _range(name, spec, _default(name))
        return out

    @property
    def per_member(self) -> bool:
        """Whether members of one training can differ in all that is varied, so that it can serve several trials."""
        return all(name in PER_MEMBER for name in self.ranges)

    def with_settings(self, settings: Mapping[str, Any]) -> RunConfig:
        """The base with some settings replaced.

        Raises:
            InputError: If a value is not possible.
        """
        data = self.base.model_dump()
        for name, value in settings.items():
            data["model" if name in ModelConfig.model_fields else "train"][name] = value
        try:
            return RunConfig.model_validate(data)
        except ValidationError as error:
            shown = ", ".join(f"{name} = {value}" for name, value in settings.items())
            raise InputError(f"{shown}: {describe(error)}") from None

    def suggest(self, trial: Trial) -> dict[str, Value]:
        """The settings of a trial; the same again when asked again."""
        return {name: span.suggest(trial, name) for name, span in self.ranges.items()}

    def from_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Value]:
        """The settings of a trial from what the study wrote of them."""
        return {name: self.ranges[name].value(written) for name, written in parameters.items()}

    def base_parameters(self) -> dict[str, Any]:
        """The base as a trial, as far as it lies in the ranges."""
        values = self.base.model_dump()
        named = {name: values["model" if name in ModelConfig.model_fields else "train"][name] for name in self.ranges}
        written = {name: self.ranges[name].parameter(value) for name, value in named.items()}
        return {name: value for name, value in written.items() if value is not None}


def _default(name: str) -> Any:
    fields = {**ModelConfig.model_fields, **TrainConfig.model_fields}
    if name in _ELSEWHERE:
        raise InputError(f"{name!r} is the same for all trials: set it with {_ELSEWHERE[name]}")
    if name not in fields:
        known = [field for field in fields if field not in _ELSEWHERE]
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(known)}"
        raise InputError(f"unknown setting {name!r}: {hint}")
    return fields[name].default


def _range(name: str, spec: str, default: Any) -> Span | Choice:
    if ".." not in spec:
        options = [option.strip() for option in spec.split("|")]
        if not all(option.strip(", ") for option in options) or len(set(options)) < len(options):
            raise InputError(f"{name}={spec}: an option is empty or stands there twice")
        return Choice({option: _value(option, wrap=isinstance(default, tuple)) for option in options})
    span, colon, scale = (part.strip() for part in spec.partition(":"))
    if colon and scale != "log":
        raise InputError(f"{name}={spec}: after the colon stands log or nothing: {_FORMS}")
    if isinstance(default, bool | str | tuple):
        raise InputError(f"{name} is not a number that can lie between two others: write {name}=ONE|ANOTHER")
    ends = span.split("..", 1)
    if ends[0].endswith(".") or ends[1].startswith("."):
        raise InputError(f"{name}={spec}: write two dots between the ends, and a digit on either side of them")
    low, high = (_number(name, end) for end in ends)
    if isinstance(default, int) and not (isinstance(low, int) and isinstance(high, int)):
        raise InputError(f"{name}={spec}: {name} takes whole numbers")
    if not isinstance(default, int):
        low, high = float(low), float(high)
    if not low < high:
        raise InputError(f"{name}={spec}: the lower end comes first, and the ends differ")
    if colon and low <= 0:
        raise InputError(f"{name}={spec}: a logarithmic range begins above 0")
    return Span(low, high, bool(colon))


def _number(name: str, text: str) -> float | int:
    value = _scalar(text.strip())
    if isinstance(value, bool | str) or not math.isfinite(value):
        raise InputError(f"{name}: {text.strip()!r} is not a number")
    return value


def _value(text: str, *, wrap: bool) -> Value:
    parts = tuple(_scalar(part.strip()) for part in text.split(",") if part.strip())
    return parts if wrap or len(parts) > 1 else parts[0]


def _scalar(text: str) -> float | int | bool | str:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
