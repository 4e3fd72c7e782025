from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from xpeng_world.batched import flatten
from xpeng_world.errors import CheckpointError, ConfigError, DataError
from xpeng_world.road import SignalState
from xpeng_world.scenario import draw_scenario
from xpeng_world.scene import Scene, Track
from xpeng_world.world_model.starts import StartBank

_spec = importlib.util.spec_from_file_location("roads_local", Path(__file__).parent / "roads_local.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


def start(x: float, agents: int = 2) -> Scene:
    others = [(x + 30.0 + 20 * k, 0.0123, 0.0, 9.0) for k in range(agents)]
    return roads.scene(roads.straight(red_at=3), (x, 0.0, 0.0, 10.0), others)


@pytest.fixture(scope="module")
def bank() -> StartBank:
    items = [(start(20.0 + 7 * k, k), "city", 3, "dense" if k else "sparse") for k in range(3)]
    items += [(start(33.3), "city", 4, "dense"), (start(44.4), "country", 200, "dense")]
    return StartBank.collect(items)


def test_a_bank_comes_back_as_it_was_saved(bank: StartBank, tmp_path: Path) -> None:
    bank.save(tmp_path)
    again = StartBank.load(tmp_path)
    assert [(r.family, r.network_seed, r.densities) for r in again.roads] == [(r.family, r.network_seed, r.densities) for r in bank.roads]
    for mine, theirs in zip(bank.roads, again.roads, strict=True):
        for number in range(len(mine.densities)):
            expected, got = flatten(mine.scene(number)), flatten(theirs.scene(number))
            assert expected.keys() == got.keys()
            for name, tensor in expected.items():
                assert got[name].dtype == tensor.dtype, name
                assert torch.allclose(got[name].double(), tensor.double(), atol=2.1e-3 if "colour" in name else 6e-4), name


def test_draws_follow_the_scenario(bank: StartBank) -> None:
    for seed in range(12):
        scenario = draw_scenario(seed)
        scene = bank.draw(scenario)
        assert int(scene.appearance) == int(scenario.appearance)
        assert float(scene.time) == 0
        assert torch.equal(scene.signals, scene.road.signals_at(scene.time))
        assert torch.equal(scene.ego.state, bank.draw(scenario).ego.state)
    test = {"split": "test"}
    assert float(bank.draw(draw_scenario(1, test), test).ego.x) == pytest.approx(44.4)
    fixed = {"family": "city", "network_seed": 3, "density": "sparse"}
    assert float(bank.draw(draw_scenario(1, fixed), fixed).ego.x) == pytest.approx(20.0)
    starts = {float(bank.draw(draw_scenario(s, {"network_seed": 3}), ["network_seed"]).ego.x) for s in range(20)}
    assert len(starts) == 3


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"network_seed": 5}, "no network 5"),
        ({"split": "validation"}, "no road of split 'validation'"),
        ({"family": "motorway"}, "no motorway road"),
        ({"network_seed": 4, "density": "sparse"}, "no sparse start"),
    ],
)
def test_what_is_fixed_and_absent_is_refused(bank: StartBank, wanted: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bank.draw(draw_scenario(1, wanted), wanted)


def test_signals_near_the_ego_show_what_it_saw() -> None:
    scene = start(220.0)
    state = scene.road.phase_state.clone()
    end = scene.road.phase_end.clone()
    state[0, 0, :] = int(SignalState.RED)
    state[0, 0, 0] = int(SignalState.GREEN)
    end[0, 0, 0] = 20.0
    stop = scene.road.stop_line.clone()
    stop[0, 0] = torch.tensor([[240.0, 1.6], [240.0, -1.6]])
    road = dataclasses.replace(scene.road, phase_state=state, phase_end=end, stop_line=stop)
    scene = dataclasses.replace(scene, road=road, signals=road.signals_at(scene.time))
    bank = StartBank.collect([(scene, "city", 3)])
    drawn = [bank.draw(draw_scenario(s)) for s in range(20)]
    assert all(int(s.signals[0, 0]) == int(SignalState.GREEN) for s in drawn)
    assert len({float(s.road.phase_offset[0, 0]) for s in drawn}) > 10


def test_clips_give_their_first_scene() -> None:
    track = Track.of([start(20.0), start(21.0)])
    clip = SimpleNamespace(track=track, provenance={"family": "city", "network_seed": 2, "density": "dense"})
    assert float(StartBank.collect([clip]).roads[0].scene(0).ego.x) == 20.0
    with pytest.raises(DataError, match="network_seed"):
        StartBank.collect([SimpleNamespace(track=track, provenance={"family": "city"})])
    other = roads.scene(roads.straight(pieces=4), (1.0, 0.0, 0.0, 0.0), [])
    with pytest.raises(DataError, match="differ"):
        StartBank.collect([(start(20.0), "city", 3), (other, "city", 3)])


def test_missing_damaged_and_old_banks_are_refused(bank: StartBank, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        StartBank.load(tmp_path)
    bank.save(tmp_path)
    data = (tmp_path / "starts.safetensors").read_bytes()
    (tmp_path / "starts.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        StartBank.load(tmp_path)
    (tmp_path / "starts.safetensors").write_bytes(data)
    index = json.loads((tmp_path / "starts.json").read_text())
    (tmp_path / "starts.json").write_text(json.dumps({**index, "version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        StartBank.load(tmp_path)
    (tmp_path / "starts.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        StartBank.load(tmp_path)
