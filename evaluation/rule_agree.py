"""How often a design ranks pairs of drives as they are labelled."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DataError
from ..rewards import Design, load_design
from ..rewards.pairs import Pair, made_up_pairs
from .rule_replay import judge, list_drives, names_of

COLUMNS = ("better", "worse", "why")


@dataclass(frozen=True)
class Agreement:
    """What one design made of the pairs."""

    design: str
    right: int
    pairs: int
    wrong: tuple[str, ...]  # why the others are labelled so, in the order of the pairs

    @property
    def share(self) -> float:
        """Share of pairs ranked as labelled."""
        return self.right / self.pairs


def agree(pairs: str | None, designs: Sequence[str], data: str | None) -> list[Agreement]:
    """Print how often designs give the better drive of each pair the larger return, and which pairs they see otherwise.

    Args:
        pairs: a CSV file with the columns better, worse (drives as `rules replay` names them: shard/key) and why; None for the made-up
            pairs that come with the package.
        designs: names or files; empty for all shipped ones.
        data: folder of shards of the drives in the file.

    Raises:
        ConfigError: a design that does not exist, or a file of pairs without `data`.
        DataError: a file that is no list of pairs, or names a drive that is not in the shards.
    """
    if pairs is not None and not Path(pairs).is_file():
        raise DataError(f"no file '{pairs}'; give a CSV file with the columns {', '.join(COLUMNS)}")
    if pairs is not None and data is None:
        raise ConfigError(f"'{pairs}' names drives; say with data= in which folder of shards they are")
    names = names_of(designs)
    loaded = [load_design(name) for name in names]
    compared = list(made_up_pairs() if pairs is None else _read_pairs(Path(pairs), str(data)))
    found = [rank(name, design, compared) for name, design in zip(names, loaded, strict=True)]
    for one in found:
        print(f"{one.design}: {one.right} of {one.pairs} pairs as labelled" + (f"; not: {', '.join(one.wrong)}" if one.wrong else ""))
    return found


def rank(name: str, design: Design, pairs: Sequence[Pair]) -> Agreement:
    """Compare the returns of each pair; equal ones count as wrong."""
    earned = lambda track: float(judge(design, track)[0].sum())
    wrong = tuple(pair.fault for pair in pairs if not earned(pair.better) > earned(pair.worse))
    return Agreement(name, len(pairs) - len(wrong), len(pairs), wrong)


def _read_pairs(path: Path, data: str) -> Iterator[Pair]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"'{path}' cannot be read as a list of pairs: {error}") from error
    if missing or not rows:
        raise DataError(f"'{path}' is no list of pairs: it needs the columns {', '.join(COLUMNS)} and a line for each pair")
    known = {drive.name: drive for drive in list_drives(data)}
    for number, row in enumerate(rows, 2):
        if row[COLUMNS[0]] == row[COLUMNS[1]]:
            raise DataError(f"{path}:{number}: '{row[COLUMNS[0]]}' is compared with itself")
        tracks = []
        for column in COLUMNS[:2]:
            if row[column] not in known:
                raise DataError(f"{path}:{number}: no drive '{row[column]}' in '{data}'; name it as `xpeng-world rules replay` does")
            track = known[row[column]].track()
            if track is None:
                raise DataError(f"{path}:{number}: drive '{row[column]}' has no scene")
            tracks.append(track)
        yield Pair(row.get("why") or f"line {number}", *tracks)
