from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from xpeng_world.data import ShardWriter
from xpeng_world.data.clip import Clip
from xpeng_world.errors import CheckpointError, ConfigError, DataError
from xpeng_world.factory.collect import collect_starts
from xpeng_world.scene import Track
from xpeng_world.world_model.starts import StartBank

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parents[1] / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


def clip(driver: str = "expert", lateral: float = 0.0) -> Clip:
    import torch

    road = roads.straight_road(length=420.0)
    route = roads.route_along((0.0, -1.75), 0.0, 420.0)
    scenes = []
    for t in range(61):
        scene = roads.scene_on(road, ego=(10.0 + t, -1.75 + lateral, 0.0), speed=10.0, time=0.1 * t)
        scenes.append(type(scene)(**{**{f: getattr(scene, f) for f in scene.__dataclass_fields__}, "route": route}))
    facts = {"source": "reference", "split": "train", "family": "city", "network_seed": 4, "driver": driver, "density": "sparse"}
    return Clip(torch.zeros(61, 64, 128, 3, dtype=torch.uint8), torch.zeros(61, 2), Track.of(scenes), facts)


def test_starts_come_from_good_drives_with_way_ahead(tmp_path) -> None:
    with ShardWriter(tmp_path / "logs") as shards:
        shards.add(clip())
        shards.add(clip("reckless"))
        shards.add(clip(lateral=9.0))
    report = collect_starts(str(tmp_path / "logs"), str(tmp_path / "world"), starts=9, splits=["train"])
    assert report == {"roads": 1, "starts": 3}  # steps 0, 30 and 60 of the one good clip
    bank = StartBank.load(tmp_path / "world")
    assert sorted(bank.roads[0].ego.state[:, 0].tolist()) == pytest.approx([10.0, 40.0, 70.0], abs=0.01)


def test_nothing_to_collect_and_unknown_splits_are_refused(tmp_path) -> None:
    with ShardWriter(tmp_path / "logs") as shards:
        shards.add(clip("reckless"))
    with pytest.raises(DataError, match="no clip"):
        collect_starts(str(tmp_path / "logs"), str(tmp_path / "world"))
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        collect_starts(str(tmp_path / "logs"), str(tmp_path / "world"), splits=["trian"])


def test_a_bank_grows_by_roads_that_it_lacks(tmp_path) -> None:
    for name, family in (("logs", "city"), ("more", "town"), ("again", "city")):
        fresh = clip()
        with ShardWriter(tmp_path / name) as shards:
            shards.add(Clip(fresh.frames, fresh.actions, fresh.track, {**fresh.provenance, "family": family}))
    with pytest.raises(CheckpointError, match=r"starts\.json is missing"):
        collect_starts(str(tmp_path / "more"), str(tmp_path / "world"), append=True)
    collect_starts(str(tmp_path / "logs"), str(tmp_path / "world"), splits=["train"])
    before = StartBank.load(tmp_path / "world").roads[0]
    logs = [str(tmp_path / "more"), str(tmp_path / "again")]
    report = collect_starts(logs, str(tmp_path / "world"), starts=2, splits=["train"], append=True)
    bank = StartBank.load(tmp_path / "world")
    assert report == {"roads": 2, "starts": 5}
    assert [road.family for road in bank.roads] == ["city", "town"]
    assert bool((bank.roads[0].ego.state == before.ego.state).all())
    with pytest.raises(DataError, match="no clip"):
        collect_starts(str(tmp_path / "again"), str(tmp_path / "world"), append=True)
