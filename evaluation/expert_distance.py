"""How far the privileged expert gets on each episode: the measure of ego progress, driven once and kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ..envs.core import DrivingLoop
from ..policies import load_policy
from ..scene import Track
from ..world_model.learned import SHIPPED
from .drive import drive
from .evidence import write_text
from .score import route_distance
from .suites import Episode

CODE = ("reference", "policies", "world_model", "*.py")  # what decides how far the expert gets


class ExpertDistances:
    """Distances in metres along the route, by episode; kept in the user's cache folder for worlds that have a name.

    `XDG_CACHE_HOME` moves the folder. Code or weights that changed give new files, so nothing stale is read.
    """

    def __init__(self, world: str | None, steps: int) -> None:
        self._path = None if world is None else cache_folder() / f"expert_{_digest(world)}_{steps}.json"
        self._known: dict[str, float] = {}
        self._read()

    def get(self, episode: Episode) -> float | None:
        """The distance of an episode, None where it has not been driven."""
        return self._known.get(_key(episode))

    def put(self, episode: Episode, distance: float) -> None:
        """Remember a distance, on disk too."""
        self._read()
        self._known[_key(episode)] = distance
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._path, json.dumps(self._known, indent=0, sort_keys=True))

    def _read(self) -> None:
        if self._path is not None and self._path.exists():
            try:
                self._known = {**json.loads(self._path.read_text(encoding="utf-8")), **self._known}
            except ValueError:
                self._path.unlink(missing_ok=True)  # only a cache: what is lost is driven again


def drive_expert(loop: DrivingLoop, episodes: Sequence[Episode]) -> list[float]:
    """Distances of the expert on episodes side by side."""
    return [distance_of(driven.track) for driven in drive(loop, load_policy("expert"), episodes)]


def distance_of(track: Track) -> float:
    """Distance along the route of a track [1, T] in metres."""
    return float(route_distance(track)[0])


def cache_folder() -> Path:
    """Where things live that can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xpeng_world"


def _key(episode: Episode) -> str:
    return json.dumps([episode.seed, episode.scenario], sort_keys=True)


@cache
def _digest(world: str) -> str:
    """Digest of a world's name, of its weights, and of the code that drives it."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256(world.encode())
    files = [
        path for place in CODE for path in (sorted((root / place).rglob("*.py")) if (root / place).is_dir() else sorted(root.glob(place)))
    ]
    weights = SHIPPED if world == "learned" else Path(world)
    if weights.is_dir():
        files += sorted(path for path in weights.rglob("*") if path.is_file())
    for path in files:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
