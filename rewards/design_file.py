"""YAML read with the line of everything in it, so that an error can say where it is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..scenario import nearest


class Section:
    """A mapping of a YAML file."""

    def __init__(self, path: Path, node: yaml.Node | None, line: int):
        self.path = path
        self.line = line
        self._values: dict[str, yaml.Node] = {}
        self._lines: dict[str, int] = {}
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
            return
        if not isinstance(node, yaml.MappingNode):
            raise self.error("expected 'key: value' lines here")
        for key, value in node.value:
            name, at = str(key.value), key.start_mark.line + 1
            if name in self._values:
                raise self.error(f"'{name}' stands here twice (first in line {self._lines[name]})", at)
            self._values[name], self._lines[name] = value, at

    def error(self, message: str, line: int | None = None) -> ConfigError:
        """An error at a line of this file, the section's own by default."""
        return ConfigError(f"{self.path}:{line or self.line}: {message}")

    @contextmanager
    def located(self, key: str) -> Iterator[None]:
        """Put file and line of a key before the message of any ConfigError raised inside."""
        try:
            yield
        except ConfigError as error:
            raise self.error(str(error), self._lines.get(key)) from error

    def check_keys(self, known: Iterable[str]) -> None:
        """Refuse keys that are not known."""
        known = tuple(known)
        for key, line in self._lines.items():
            if key not in known:
                raise self.error(f"unknown key '{key}'; {nearest(key, known)}", line)

    def has(self, key: str) -> bool:
        """Whether a key stands here."""
        return key in self._values

    def names(self, key: str) -> list[tuple[str, int]]:
        """The names listed under a key, each with its line; a single name serves as a list of one."""
        node = self._values.get(key)
        if node is None:
            return []
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(item, yaml.ScalarNode) for item in items):
            raise self.error(f"'{key}' must be a list of names", self._lines[key])
        return [(str(item.value), item.start_mark.line + 1) for item in items]

    def inside(self, key: str) -> Section:
        """The mapping under a key, empty if there is none."""
        return Section(self.path, self._values.get(key), self._lines.get(key, self.line))

    def mapping(self, key: str) -> dict[str, Section]:
        """The mappings under the keys of the mapping under a key."""
        inner = self.inside(key)
        return {name: inner.inside(name) for name in inner._values}

    def mapping_values(self, key: str) -> dict[str, Any]:
        """The plain values of the mapping under a key."""
        inner = self.inside(key)
        return {name: inner._plain(name) for name in inner._values}

    def scalar(self, key: str, kind: type, default: Any) -> Any:
        """The value under a key, of a kind; an int serves as a float. Refuses other types, NaN and infinity."""
        if key not in self._values:
            return default
        value = self._plain(key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"'{key}' must be a {kind.__name__}, not {value!r}", self._lines[key])
        if isinstance(value, float) and not math.isfinite(value):
            raise self.error(f"'{key}' must be finite, not {value}", self._lines[key])
        return value

    def _plain(self, key: str) -> Any:
        node = self._values[key]
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(f"'{key}' must be a single value", self._lines[key])
        try:
            return yaml.safe_load(yaml.serialize(node))
        except yaml.YAMLError as error:
            raise self.error(f"'{key}' cannot be read: {error}", self._lines[key]) from error


def read_sections(path: Path) -> Section:
    """The top mapping of a YAML file.

    Raises:
        ConfigError: the file is no YAML, or no mapping.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not readable as YAML: {error.problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not readable as UTF-8 text: {error.reason}") from error
    return Section(path, node, 1)
