"""From `key=value` words to checked values: Hydra composes the preset, the function's own signature says the types."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import inspect
import operator
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, nearest

FOLDER = Path(__file__).parent
MISSING = "???"  # OmegaConf's mark of a value that must be given


@dataclass(frozen=True)
class Key:
    """One key of a command: its default as YAML writes it, and the comment beside it."""

    name: str
    default: str
    description: str


def preset(command: str) -> Path:
    """The YAML file that holds a command's keys; it need not exist for commands without any."""
    return FOLDER / f"{re.sub('[- ]', '_', command)}.yaml"


def keys(command: str) -> list[Key]:
    """The keys of a command in the order of its preset; those inside a group are named `group.key`."""
    path = preset(command)
    if not path.exists():
        return []
    found, group = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"( *)(\w+):(?: +([^#\s].*?))?(?: +# *(.*))?", line)
        if match is None:
            continue
        indent, name, default, description = match.groups()
        if default is None:
            group = f"{name}."
        else:
            found.append(Key(f"{group}{name}" if indent else name, default, description or ""))
    return found


def compose(command: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The command's preset with `overrides` (`key=value`, in Hydra's grammar) applied.

    Raises:
        ConfigError: an unknown key, or a value that cannot be read.
    """
    known = [key.name for key in keys(command)]
    for override in overrides:
        name = override.split("=", 1)[0]
        if name not in known:
            where = f"unknown key '{name}' for {command}"
            raise ConfigError(f"{where}; {nearest(name, known)}" if known else f"{where}, which takes none")
    if not known:
        return {}

    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(FOLDER.resolve())):
        try:
            config = hydra.compose(preset(command).stem, overrides=list(overrides))
            return typing.cast(dict[str, Any], OmegaConf.to_container(config, resolve=True))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(f"cannot read {' '.join(overrides)} for {command}: {_first_line(error)}") from error


def schema(function: Callable[..., Any]) -> tuple[type, type | None]:
    """A command's values as a dataclass of plain types, and the dataclass that is the function's first argument, if it is one."""
    parameters = list(inspect.signature(function).parameters.values())
    hints = typing.get_type_hints(function)
    whole: Any = hints.get(parameters[0].name) if parameters else None
    if not dataclasses.is_dataclass(whole):
        whole = None
    else:
        hints = typing.get_type_hints(whole)
    names = [p.name for p in (inspect.signature(whole).parameters.values() if whole else parameters)]
    fields = [(name, _plain(hints.get(name, Any)), dataclasses.field(default=MISSING)) for name in names]
    return dataclasses.make_dataclass("Values", fields), whole


def check_values(command: str, function: Callable[..., Any], values: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments for `function` from a composed preset, converted to the types it names.

    Raises:
        ConfigError: a value of the wrong type, or one that must be given and is not.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    missing = [name for name, value in values.items() if value == MISSING]
    if missing:
        raise ConfigError(f"{command} needs {missing[0]}=...; `xpeng-world help {command}` says what it is")
    kind, whole = schema(function)
    try:
        config: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{command}: wrong value for {error.full_key}: {_first_line(error)}") from error
    checked = {name: getattr(config, name) for name in values}
    return {next(iter(inspect.signature(function).parameters)): whole(**checked)} if whole else checked


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _plain(hint: Any) -> Any:
    """The type as OmegaConf knows it: a primitive, a dataclass, a mapping of names, a union of primitives, or anything."""
    arguments = typing.get_args(hint)
    if hint in (int, float, bool, str) or dataclasses.is_dataclass(hint):
        return hint
    if typing.get_origin(hint) in (dict, collections.abc.Mapping):
        return dict[str, _plain(arguments[1])]  # type: ignore[misc]
    if typing.get_origin(hint) not in (typing.Union, types.UnionType) or any(typing.get_origin(a) in (list, tuple) for a in arguments):
        return Any
    kept = [plain for plain in map(_plain, arguments) if plain is not Any]
    if not kept:
        return Any
    plain = functools.reduce(operator.or_, kept)
    return plain | None if type(None) in arguments else plain
