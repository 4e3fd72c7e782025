"""Which split a clip belongs to, and the guard that keeps test roads out of training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import DataError
from ..scenario import SPLITS, nearest
from .clip import Clip


def split_of(clip: Clip | Mapping[str, Any]) -> str:
    """The split of a clip (or of its provenance): by its road network where it has one, else as its importer recorded it.

    Raises:
        DataError: no split can be told, or the recorded one contradicts the network's.
    """
    provenance = clip.provenance if isinstance(clip, Clip) else clip
    recorded = provenance.get("split")
    seed = provenance.get("network_seed")
    if recorded is not None and recorded not in SPLITS:
        raise DataError(f"a clip's split is '{recorded}'; {nearest(recorded, SPLITS)}")
    if seed is None:
        if recorded is None:
            raise DataError("a clip's provenance has neither 'network_seed' nor 'split'; record one of them")
        return str(recorded)
    by_network = next((name for name, seeds in SPLITS.items() if int(seed) in seeds), None)
    if by_network is None:
        raise DataError(f"a clip's network seed {seed} belongs to no split; known: {SPLITS}")
    if recorded not in (None, by_network):
        raise DataError(f"a clip says split '{recorded}' but network seed {seed} belongs to '{by_network}'; record it again")
    return by_network


def check_trainable(clip: Clip | Mapping[str, Any], where: str = "the data") -> None:
    """Refuse to train on anything but the train split.

    Raises:
        DataError: the clip is of another split.
    """
    split = split_of(clip)
    if split != "train":
        provenance = clip.provenance if isinstance(clip, Clip) else clip
        which = (
            f"network seed {provenance['network_seed']}" if provenance.get("network_seed") is not None else f"seed {provenance.get('seed')}"
        )
        raise DataError(f"{where} holds a clip of the {split} split ({which}): training on it would void every score; read split='train'")


def only_trainable(clips: Iterable[Clip], where: str = "the data") -> Iterator[Clip]:
    """Pass clips on, refusing the first that `check_trainable` refuses."""
    for clip in clips:
        check_trainable(clip, where)
        yield clip
