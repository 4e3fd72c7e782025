"""What a rule is: one causal function of a track, declared by a decorator, found by name, checked at every call."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ..errors import ConfigError, XPengWorldError
from ..scenario import nearest
from ..scene import DT, Ego, Track

Kind = Literal["gate", "term", "cost"]
ENTRY_POINTS = "xpeng_world.rules"
WINDOW_STEPS = 32  # columns of a running window on which the built-in rules equal those of the whole track
_NEEDED = ("ego", "agents", "signals", "time", "valid", "road", "route", "profile")
_ROUNDING = 1e-5  # that a value may be out of its range
_TYPES: dict[str, type] = {"float": float, "int": int, "bool": bool, "str": str}


class RuleError(XPengWorldError):
    """A rule that failed or returned something that is no value."""


@dataclass(frozen=True)
class Parameter:
    """A keyword-only parameter of a rule."""

    name: str
    type: type
    default: float | int | bool | str


@dataclass(frozen=True, eq=False)
class Rule:
    """A rule: call it with a track and parameters to get its values [B, T]."""

    name: str
    function: Callable[..., Tensor]
    kind: Kind  # gate: multiplies, 1 is good; term: 1 is good or an amount; cost: 0 is good
    unit: str  # "1" for a share
    low: float
    high: float
    neutral: float  # the value of columns that are not valid
    source: str
    parameters: Mapping[str, Parameter]

    def __call__(self, track: Track, **parameters: Any) -> Tensor:
        """Values [B, T] in [low, high], `neutral` where the track is not valid.

        Raises:
            RuleError: the function failed, or its values have the wrong shape or type, are NaN or out of range.
        """
        return evaluate_rules(track, ((self, parameters),))[0]

    def _unchecked(self, track: Track, parameters: Mapping[str, Any]) -> Tensor:
        try:
            values = self.function(track, **parameters)
        except XPengWorldError:
            raise
        except Exception as error:
            told = f"rule '{self.name}' failed at {_last_step(track)}: {type(error).__name__}: {error}"
            raise RuleError(f"{where_from(self, error)}: {told}") from error
        if not isinstance(values, Tensor) or values.shape != track.valid.shape or not values.is_floating_point():
            got = f"{values.dtype} {list(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            expected = list(track.valid.shape)
            told = f"rule '{self.name}' returned {got} at {_last_step(track)}; it must return a float tensor {expected}"
            raise RuleError(f"{where_from(self)}: {told}")
        return values

    def check_parameters(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given parameters in the types that the rule declares.

        Raises:
            ConfigError: an unknown name, a wrong type or a number that is not finite.
        """
        checked = {}
        for name, value in given.items():
            if name not in self.parameters:
                raise ConfigError(f"rule '{self.name}' has no parameter '{name}'; {nearest(name, self.parameters) or 'it has none'}")
            checked[name] = check_type(value, self.parameters[name].type, f"parameter '{name}' of rule '{self.name}'")
        return checked


def evaluate_rules(track: Track, calls: Sequence[tuple[Rule, Mapping[str, Any]]]) -> Tensor:
    """Values [R, B, T] of several rules with their parameters, checked together: each in its range, neutral where not valid.

    Raises:
        RuleError: as for a call of the rule.
    """
    _check_track(track)
    rules = tuple(called for called, _ in calls)
    low, high, neutral = _limits(rules, track.valid.device)
    values = torch.where(track.valid, torch.stack([called._unchecked(track, parameters) for called, parameters in calls]), neutral)
    fine = (values >= low) & (values <= high)
    if not bool(fine.all()):
        which, row, column = (int(i) for i in (~fine).nonzero()[0])
        wrong, value, time = rules[which], float(values[which, row, column]), float(track.time[row, column])
        what = "NaN" if math.isnan(value) else f"{value:.6g}, outside [{wrong.low:g}, {wrong.high:g}],"
        raise RuleError(f"rule '{wrong.name}' returned {what} at step {column} (t = {time:.1f} s) of batch element {row}")
    return values


def needs_scene(rule: Rule, parameters: Mapping[str, Any] | None = None) -> bool:
    """Whether a rule looks at anything but the ego, its vehicle and the time: it fails on a track that has nothing else."""
    from ..vehicles import vehicle_profile

    steps = WINDOW_STEPS
    time = torch.arange(steps).unsqueeze(0) * DT
    nothing: Any = None
    bare = Track(
        Ego(torch.zeros(1, steps, 7)), nothing, nothing, time, torch.ones(1, steps, dtype=torch.bool), nothing, nothing, nothing,
        vehicle_profile(),
    )  # fmt: skip
    try:
        rule._unchecked(bare, parameters or {})
    except XPengWorldError:
        return True
    return False


def _check_track(track: Track) -> None:
    """Refuse a track that lacks what rules look at."""
    missing = next((name for name in _NEEDED if getattr(track, name) is None), None)
    if missing is not None:
        raise RuleError(f"the track has no {missing}; rules need drives recorded in a world that knows its scene")
    lanes, signals = track.road.width.shape[1], track.road.signal_lane.shape[1]
    if lanes == 0:
        raise RuleError("the track's road map has no lane; give the map that was driven on")
    shown = track.signals.shape[-1]
    if shown != signals:
        raise RuleError(f"the track shows {shown} signals and its road map has {signals}; give the map that was driven on")


@lru_cache(maxsize=256)
def _limits(rules: tuple[Rule, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    with torch.inference_mode(False):
        column = lambda numbers: torch.tensor(numbers, device=device).view(-1, 1, 1)
        return (
            column([float(r.low) - _ROUNDING for r in rules]),
            column([float(r.high) + _ROUNDING for r in rules]),
            column([float(r.neutral) for r in rules]),
        )


def check_type(value: Any, wanted: type, what: str) -> Any:
    """`value` as `wanted`; an int serves as a float, nothing else is converted.

    Raises:
        ConfigError: another type, NaN or infinite.
    """
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise ConfigError(f"{what} must be a {wanted.__name__}, not {value!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{what} must be finite, not {value}")
    return value


def _last_step(track: Track) -> str:
    time = float(track.time[0, -1]) if track.time.numel() else math.nan
    return f"step {track.steps - 1} (t = {time:.1f} s)" if track.steps == 1 else f"steps 0 to {track.steps - 1} (until {time:.1f} s)"


def where_from(rule: Rule, error: Exception | None = None) -> str:
    """File and line of a rule: of its definition, or of what failed in it."""
    source = _origin(rule.function)
    frames = [] if error is None else [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == source]
    line = frames[-1].lineno if frames else rule.function.__code__.co_firstlineno
    path = Path(source)
    return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}:{line}"


RULES: dict[str, Rule] = {}


def rule(*, kind: Kind, unit: str, low: float, high: float, source: str, neutral: float) -> Callable[[Callable[..., Tensor]], Rule]:
    """Declare a function `name(track, *, parameter_unit: float = default) -> Tensor [B, T]` a rule and register it by its name.

    Args:
        kind: gate, term or cost.
        unit: of the values, "1" for a share.
        low: smallest value.
        high: largest value.
        source: the standard, paper or reference file that it follows.
        neutral: the value of columns where the track is not valid.

    Raises:
        ConfigError: a wrong declaration, or another rule of that name.
    """

    def declare(function: Callable[..., Tensor]) -> Rule:
        name = function.__name__
        if kind not in get_args(Kind):
            raise ConfigError(f"{_origin(function)}: rule '{name}': unknown kind '{kind}'; {nearest(kind, get_args(Kind))}")
        if not low <= neutral <= high:
            raise ConfigError(f"{_origin(function)}: rule '{name}': neutral {neutral:g} is outside [{low:g}, {high:g}]")
        made = Rule(name, function, kind, unit, low, high, neutral, source, _parameters(function))
        known = RULES.get(name)
        if known is not None and _origin(known.function) != _origin(function):
            raise ConfigError(f"a rule named '{name}' exists already, from {_origin(known.function)}; choose another name")
        RULES[name] = made
        return made

    return declare


def _origin(function: Callable[..., Tensor]) -> str:
    return inspect.getsourcefile(function) or function.__module__


def _parameters(function: Callable[..., Tensor]) -> dict[str, Parameter]:
    first, *rest = inspect.signature(function).parameters.values()
    found = {}
    for p in rest:
        annotation = p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", "")
        if p.kind is not p.KEYWORD_ONLY or p.default is p.empty or annotation not in _TYPES:
            raise ConfigError(
                f"rule '{function.__name__}': parameter '{p.name}' must be keyword-only, typed ({', '.join(_TYPES)}) and have a default"
            )
        found[p.name] = Parameter(p.name, _TYPES[annotation], p.default)
    if first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        raise ConfigError(f"rule '{function.__name__}' must take the track as its first argument")
    return found


def find_rule(name: str, beside: Path | None = None) -> Rule:
    """The rule of that name: built in, from the entry-point group `xpeng_world.rules`, or `path/to/file.py` (`:name` if it holds several).

    Args:
        name: the rule's name or a path, relative paths from `beside`.
        beside: folder that relative paths start from; the working folder by default.

    Raises:
        ConfigError: there is none.
    """
    from . import rules  # noqa: F401  (registers the built-in ones)

    if ".py" in name:
        return _rule_from_file(name, beside or Path())
    if name not in RULES:
        load_entry_points()
    if name not in RULES:
        raise ConfigError(f"unknown rule '{name}'; {nearest(name, RULES)}")
    return RULES[name]


def load_entry_points() -> None:
    """Register the rules that installed packages offer in the entry-point group `xpeng_world.rules`.

    Raises:
        ConfigError: one cannot be loaded or is no rule.
    """
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            loaded = entry.load()
        except Exception as error:
            raise ConfigError(f"the rule '{entry.name}' of entry point '{entry.value}' cannot be loaded: {error}") from error
        if not isinstance(loaded, Rule):
            raise ConfigError(f"entry point '{entry.name}' ({entry.value}) is no rule; decorate the function with @rule")
        if RULES.setdefault(entry.name, loaded) is not loaded:
            taken = _origin(RULES[entry.name].function)
            raise ConfigError(f"entry point '{entry.name}' ({entry.value}): a rule of that name exists already, from {taken}; rename one")


def _rule_from_file(name: str, beside: Path) -> Rule:
    stem, _, wanted = name.partition(".py")
    wanted = wanted.removeprefix(":")
    path = (beside / f"{stem}.py").resolve()
    if not path.is_file():
        raise ConfigError(f"no file {path} to take a rule from")
    spec = importlib.util.spec_from_file_location(f"xpeng_world_rule_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except XPengWorldError:
        raise
    except Exception as error:
        raise ConfigError(f"the rule file {path} cannot be loaded: {type(error).__name__}: {error}") from error
    found = {r.name: r for r in vars(module).values() if isinstance(r, Rule) and Path(_origin(r.function)).resolve() == path}
    if not wanted and len(found) == 1:
        return next(iter(found.values()))
    if wanted not in found:
        if not found:
            raise ConfigError(f"{path} defines no rule; decorate a function with @rule(...), as `xpeng-world rules new` writes it")
        several = f"{path} holds {len(found)} rules; add one of {', '.join(f':{one}' for one in found)}"
        raise ConfigError(f"{path} holds no rule '{wanted}'; {nearest(wanted, found)}" if wanted else several)
    return found[wanted]
