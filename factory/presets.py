"""Presets of the factory: how large each command of the line is, and the words that start it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..configs.compose import FOLDER, MISSING, check_values, keys, preset
from ..errors import ConfigError, nearest
from .stages import Call, Stage

PRESETS = FOLDER / "presets"

Values = dict[str, dict[str, dict[str, Any]]]  # of presets: stage, call, key


@dataclass(frozen=True)
class Order:
    """A call with all its values; folders are still named by their place in the line, "{record}" say."""

    name: str
    command: str
    values: dict[str, Any]

    def words(self, folders: Mapping[str, str]) -> list[str]:
        """The words of the command line: what differs from the command's own defaults, with "{NAME}" replaced by `folders`."""
        words = [self.command]
        for key, value in sorted(_flat(self.command, self.values).items()):
            if value != _flat(self.command, _defaults(self.command)).get(key, MISSING):
                words.append(f"{key}={_word(_placed(value, folders))}")
        return words


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name_or_path: str, line: Sequence[Stage], changes: Mapping[str, Any] | None = None) -> Values:
    """Values of a shipped preset by name, or of a YAML file, with `changes` of the same form laid over it.

    Raises:
        ConfigError: no such preset, or a stage, command or key in it that does not exist or that the line sets itself.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigError(f"no preset file '{path}'; known presets: {', '.join(preset_names())}")
    else:
        if name_or_path not in preset_names():
            raise ConfigError(f"unknown preset '{name_or_path}'; {nearest(name_or_path, preset_names())}")
        path = PRESETS / f"{name_or_path}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ConfigError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from error
    values: Values = {}
    for source, where in ((content, f"'{path.name}'"), (changes or {}, "change=")):
        for stage, calls in _mapping(source, where).items():
            known = {s.name: s for s in line}
            if stage not in known:
                raise ConfigError(f"unknown stage '{stage}' in {where}; {nearest(stage, known)}")
            by_name = {call.name: call for call in known[stage].calls}
            for call, given in _mapping(calls, f"{stage} in {where}").items():
                if call not in by_name:
                    raise ConfigError(f"stage '{stage}' has no command '{call}' ({where}); {nearest(call, by_name)}")
                for key, value in _mapping(given, f"{stage}.{call} in {where}").items():
                    _check_key(by_name[call], stage, key, where)
                    values.setdefault(stage, {}).setdefault(call, {})[key] = value
    return values


def orders(stage: Stage, values: Values, seed: int, threads: int) -> list[Order]:
    """The calls of a stage with every value they will run with: the command's defaults, the preset's values, the line's own."""
    found = []
    for call in stage.calls:
        given = {**values.get(stage.name, {}).get(call.name, {}), **{k: _number(v, seed, threads) for k, v in call.keys.items()}}
        merged = json.loads(json.dumps(_defaults(call.command)))
        for key, value in given.items():
            head, _, rest = key.partition(".")
            if rest:
                merged[head][rest] = value
            else:
                merged[key] = value
        found.append(Order(call.name, call.command, merged))
    return found


def check_orders(found: Sequence[Order]) -> None:
    """Raise ConfigError for a value of a type that its command does not take, before any stage has run."""
    from ..cli import COMMANDS

    for order in found:
        check_values(order.command, COMMANDS[order.command].function(), json.loads(json.dumps(order.values)))


@cache
def _defaults(command: str) -> dict[str, Any]:
    return dict(yaml.safe_load(preset(command).read_text(encoding="utf-8")) or {})


def _check_key(call: Call, stage: str, key: str, where: str) -> None:
    if key in call.keys:
        raise ConfigError(f"'{key}' of {stage}.{call.name} is set by the factory itself; leave it out of {where}")
    known = [k.name for k in keys(call.command)]
    if key not in known:
        raise ConfigError(
            f"unknown key '{key}' of {stage}.{call.name} in {where}; {nearest(key, [k for k in known if k not in call.keys])}"
        )


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"{where} must be names with values below them, not {value!r}")
    return dict(value)


def _number(value: Any, seed: int, threads: int) -> Any:
    """A value with "{seed}", "{seed+K}" and "{threads}" as numbers; every seed of the factory has three of its own."""
    if value == "{threads}":
        return threads
    found = re.fullmatch(r"\{seed(?:\+(\d))?\}", value) if isinstance(value, str) else None
    return 3 * seed + int(found[1] or 0) if found else value


def _placed(value: Any, folders: Mapping[str, str]) -> Any:
    if not isinstance(value, str):
        return value
    return re.sub(r"\{([\w-]+)\}", lambda found: folders[found[1]], value)


def _flat(command: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names that the command line knows: `group.key` inside groups."""
    groups = {key.name.partition(".")[0] for key in keys(command) if "." in key.name}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= {f"{key}.{inner}": v for inner, v in value.items()} if key in groups else {key: value}
    return flat


def _word(value: Any) -> str:
    """A value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_word(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_word, value)) + "]"
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z_./][\w./-]*", value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value)
