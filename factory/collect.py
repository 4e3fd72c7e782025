"""Collect the start bank of a learned world from recorded logs: roads, and the scenes that episodes on them begin from."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.shards import list_clips, load_clip
from ..errors import ConfigError, DataError
from ..scenario import SPLITS, nearest
from ..scene import Scene
from ..world_model.starts import StartBank
from .failure import has_failed

STARTS_APART = 30  # steps between two start scenes of one clip
ROUTE_LEFT = 250.0  # m of route that a start must have ahead


def collect_starts(
    data: str | Path | list[str],
    out: str | Path,
    roads: int = 8,
    starts: int = 6,
    splits: tuple[str, ...] | list[str] = tuple(SPLITS),
    seed: int = 0,
    append: bool = False,
) -> dict[str, Any]:
    """Write `starts.safetensors` and `starts.json` from the scenes of recorded clips; return how many there are.

    Args:
        data: a folder of shards, or several.
        out: the folder of the learned world's weights.
        roads: most road networks kept of each family and split.
        starts: most start scenes kept of each road.
        splits: the splits to take.
        seed: of the choice.
        append: keep the roads of the bank that `out` holds; of roads that it has, none are taken.

    Raises:
        ConfigError: an unknown split.
        CheckpointError: `append`, and there is no bank, or a damaged one.
        DataError: no clip with a scene in the folders.
    """
    for split in splits:
        if split not in SPLITS:
            raise ConfigError(f"unknown split '{split}'; {nearest(split, SPLITS)}")
    rng = np.random.default_rng([seed, 31])
    had = StartBank.load(out).roads if append else []
    held = {(road.family, road.network_seed) for road in had}
    folders = [data] if isinstance(data, str | Path) else list(data)
    by_road: dict[tuple[str, str, int], list[tuple[Scene, str, int, str]]] = defaultdict(list)
    for folder in folders:
        for address in list_clips(folder):
            clip = load_clip(address, frames=False)
            facts = clip.provenance
            if clip.track is None or facts.get("split") not in splits or facts.get("driver") not in ("expert", "noisy_expert"):
                continue
            key = (facts["split"], facts["family"], int(facts["network_seed"]))
            if key[1:] in held:
                continue
            for column in range(0, clip.steps, STARTS_APART):
                scene = _from_here(clip.track.scene(column))
                if scene is not None:
                    by_road[key].append((scene, key[1], key[2], facts.get("density", "any")))
    if not by_road:
        raise DataError(f"no clip with a scene in {', '.join(map(str, folders))}; record some with `xpeng-world record`")
    kept = []
    for split in splits:
        for family in sorted({f for s, f, _ in by_road if s == split}):
            known = sorted(key for key in by_road if key[:2] == (split, family))
            for index in rng.permutation(len(known))[:roads]:
                scenes = _of_one_road(by_road[known[int(index)]])
                kept += [scenes[int(i)] for i in rng.permutation(len(scenes))[:starts]]
    bank = StartBank(had + StartBank.collect(kept).roads)
    bank.save(out)
    report = {"roads": len(bank.roads), "starts": sum(len(road.densities) for road in bank.roads)}
    print(json.dumps(report))
    return report


def _of_one_road(starts: list[tuple[Scene, str, int, str]]) -> list[tuple[Scene, str, int, str]]:
    """The starts on the road as the last of them knows it; logs of several versions may hold older ones."""

    def road(start: tuple[Scene, str, int, str]) -> tuple[int, float]:
        lines = start[0].road.centreline[start[0].road.kind > 0]
        return len(lines), round(float(lines.double().sum()), 1)

    return [start for start in starts if road(start) == road(starts[-1])]


def _from_here(scene: Scene) -> Scene | None:
    """The scene as a start, or None where the ego has failed or has too little route left."""
    from ..geometry import project_polyline

    if bool(has_failed(scene)):
        return None
    arc, lateral, _ = project_polyline(scene.ego.position, scene.route.points)
    good = (scene.route.length - arc > ROUTE_LEFT) & (lateral.abs() < 1.0)
    return scene if bool(torch.all(good)) else None
