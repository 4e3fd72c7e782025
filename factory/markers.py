"""What a finished stage leaves beside its result: the recipe it was made by, and the digests of its files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..evaluation.evidence import write_text
from ..training_state import replace_folder

MARKER = "stage.json"
BEGUN = "begun.json"  # in the folder of an unfinished stage: the key it was begun with
FORMAT = 1


@dataclass(frozen=True)
class Marker:
    """A finished stage."""

    key: str  # digest of the recipe
    recipe: dict[str, Any]
    outputs: dict[str, str]  # digest by file
    seconds: float  # that the last call took; not part of any digest
    broken: bool  # whether it was interrupted on the way

    @property
    def digest(self) -> str:
        """One digest of all outputs, which is what later stages depend on."""
        return digest_of(self.outputs)


def digest_of(value: Any) -> str:
    """Digest of a value as canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def digest_outputs(folder: Path, patterns: Sequence[str]) -> dict[str, str]:
    """SHA-256 of every file that the patterns name, hidden files left out; "FILE.json#KEY" is digested as canonical JSON.

    Raises:
        DataError: a pattern that finds nothing, or a JSON file without that key.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        name, _, key = pattern.partition("#")
        if key:
            try:
                found[pattern] = digest_of(json.loads((folder / name).read_text(encoding="utf-8"))[key])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(f"'{folder / name}' has no '{key}' to be read ({error!r}); delete the folder and run again") from None
            continue
        below = sorted(folder.rglob("*")) if name.endswith("/**") else sorted(folder.glob(name))
        top = folder / name.removesuffix("/**") if name.endswith("/**") else folder
        paths = [p for p in below if p.is_file() and p.is_relative_to(top) and not _hidden(p.relative_to(folder))]
        if not paths:
            raise DataError(f"'{folder}' holds no '{pattern}', which the stage should have written; delete the folder and run again")
        for path in paths:
            with open(path, "rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(sorted(found.items()))


def read_marker(folder: Path) -> Marker | None:
    """The marker of a finished stage, None where there is none or it cannot be read."""
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            return None
        marker = Marker(**content)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return marker if marker.key == digest_of(marker.recipe) else None


def write_marker(folder: Path, marker: Marker) -> None:
    """Write a marker whole or not at all."""
    text = json.dumps({"format": FORMAT, **marker.__dict__}, indent=1, sort_keys=True)
    write_text(folder / MARKER, text + "\n")


def begin(partial: Path, key: str, exact: bool) -> bool:
    """Make the folder of an unfinished stage ready; returns whether it goes on from what an interrupted run left there.

    What another recipe left is deleted, and what this one left too, where the stage cannot go on exactly.
    """
    try:
        same = json.loads((partial / BEGUN).read_text(encoding="utf-8")) == {"key": key}
    except (OSError, ValueError):
        same = False
    if not (same and exact):
        shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, exist_ok=True)
    write_text(partial / BEGUN, json.dumps({"key": key}) + "\n")
    return same


def finish(partial: Path, final: Path, marker: Marker) -> None:
    """Write the marker and put the folder in its place."""
    (partial / BEGUN).unlink(missing_ok=True)
    write_marker(partial, marker)
    replace_folder(partial, final)


def recover(partial: Path, final: Path) -> None:
    """Put a folder in its place that was finished but not renamed when its run was stopped."""
    if read_marker(partial) is not None:
        replace_folder(partial, final)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """In words, the first thing in which two recipes differ."""
    for name, digest in new["inputs"].items():
        if old["inputs"].get(name) != digest:
            return f"the result of '{name}' changed"
    before = {call["name"]: call for call in old["calls"]}
    for call in new["calls"]:
        was = before.get(call["name"])
        if was is None or was["command"] != call["command"]:
            return f"command '{call['name']}' is new"
        for key, value in call["values"].items():
            if was["values"].get(key) != value:
                return f"{call['name']}.{key} changed from {_short(was['values'].get(key))} to {_short(value)}"
    for place, version in new["code"].items():
        if old["code"].get(place) != version:
            return f"the code in '{place or 'the root'}' changed" if len(version) == 16 else f"{place} is now {version}"
    return "its declaration changed"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else text[:37] + "..."


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
