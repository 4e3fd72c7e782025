"""Guards of the learned world: they keep quiet on usual drives, trip on strange ones, and say so."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from xpeng_world.envs import XPengWorldEnv, XPengWorldVectorEnv
from xpeng_world.errors import CheckpointError
from xpeng_world.evaluation.fidelity import guarding
from xpeng_world.scene import Scene
from xpeng_world.world_model.guards import GUARDS, PAGE, SETTLED, Guards, lane_distance, read_thresholds, write_thresholds
from xpeng_world.world_model.learned import LearnedWorld
from xpeng_world.world_model.starts import StartBank
from xpeng_world.world_model.traffic import IdmTraffic

_spec = importlib.util.spec_from_file_location("roads_local", Path(__file__).parent / "roads_local.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


class Painter:
    """Paints the ego's speed as brightness, and a second picture that differs more the farther the ego is from its road."""

    def no_past(self, frame: torch.Tensor) -> None:
        return None

    def first(self, scene: Scene, seed: torch.Tensor) -> torch.Tensor:
        return self._paint(scene)

    def next(self, previous, scene, frame, actions, seed, step) -> torch.Tensor:
        return self._paint(scene)

    def next_twice(self, previous, scene, frame, actions, seed, step) -> tuple[torch.Tensor, torch.Tensor]:
        frame = self._paint(scene)
        lost = (scene.ego.y.abs() > 100).view(-1, 1, 1, 1)
        return frame, frame + (1 + 40 * lost).to(torch.uint8)

    def _paint(self, scene: Scene) -> torch.Tensor:
        grey = (scene.ego.speed * 3).clamp(0, 200).to(torch.uint8).view(-1, 1, 1, 1)
        return grey.expand(-1, 64, 128, 3).clone()


class Reader:
    """Reads the speed off the brightness, up to what it was trained on."""

    def read_motion(self, frames: torch.Tensor) -> torch.Tensor:
        speed = (frames[:, 4:-4].float().mean((2, 3, 4)) / 3).clamp_max(30)
        return torch.stack((torch.zeros_like(speed), speed, torch.zeros_like(speed)), -1)


class Tokenizer:
    """Loses nothing."""

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return frames

    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens


LIMITS = {"disagreement": 5.0, "residual": 5.0, "read_back": 2.0, "lost": 1e6}


def world(limits=LIMITS) -> LearnedWorld:
    scene = roads.scene(roads.straight(), (20.0, 0.0, 0.0, 10.0), [(70.0, 0.0, 0.0, 10.0)])
    return LearnedWorld(Painter(), IdmTraffic(), StartBank.collect([(scene, "city", 3)]), guards=Guards(Reader(), Tokenizer(), limits))


def moved(env, column: int, value: float) -> None:
    state = env._episodes.state
    ego = state.scene.ego.state.clone()
    ego[:, column] = value
    scene = dataclasses.replace(state.scene, ego=dataclasses.replace(state.scene.ego, state=ego))
    env._episodes = dataclasses.replace(env._episodes, state=dataclasses.replace(state, scene=scene))


def test_usual_driving_trips_nothing_and_info_tells_the_numbers() -> None:
    env = XPengWorldEnv(world())
    env.reset(seed=1)
    for _ in range(3 * SETTLED):
        *_, truncated, info = env.step(np.array([0.0, 0.1], np.float32))
        assert not truncated
        assert set(info["guards"]) == set(GUARDS)
    assert 0 < info["guards"]["disagreement"] == pytest.approx(1 / 5)


@pytest.mark.parametrize(("column", "value", "guard"), [(1, 2000.0, "guard_disagreement"), (3, 70.0, "guard_read_back")])
def test_leaving_what_it_knows_truncates_with_the_reason(column, value, guard) -> None:
    class Lenient:
        """A design that ends nothing, so that the guards alone can."""

        def step(self, track):
            from xpeng_world.rewards import StepReward

            none = torch.zeros(track.batch_size)
            return StepReward(none, none.bool(), {"nothing": none}, {})

    env = XPengWorldEnv(world(), Lenient())
    env.reset(seed=1)
    for _ in range(SETTLED + 2):
        *_, truncated, info = env.step(np.array([0.0, 0.1], np.float32))
        assert not truncated
    moved(env, column, value)
    for _ in range(25):
        _, _, terminated, truncated, info = env.step(np.array([0.0, 0.0], np.float32))
        assert not terminated
        if truncated:
            break
    assert info["ended"] == guard
    assert info["guards"][guard.removeprefix("guard_")] > 1


def test_a_batch_is_watched_row_by_row() -> None:
    env = XPengWorldVectorEnv(2, world())
    env.reset(seed=1)
    for _ in range(3):
        *_, info = env.step(np.zeros((2, 2), np.float32))
    assert info["guards"]["residual"].shape == (2,)
    memory = env._episodes.state.memory
    alone = XPengWorldEnv(world())
    alone.reset(seed=1)
    for _ in range(3):
        alone.step(np.zeros(2, np.float32))
    assert torch.allclose(memory.means[0], alone._episodes.state.memory.means[0], atol=1e-4)


def test_without_guards_nothing_is_said() -> None:
    plain = world()
    plain.guards = None
    env = XPengWorldEnv(plain)
    env.reset(seed=1)
    assert "guards" not in env.step(np.zeros(2, np.float32))[-1]


def test_strange_drives_stand_out_from_usual_ones() -> None:
    measuring = world(dict.fromkeys(GUARDS, math.inf))
    usual = guarding.highest_means(measuring, "train", 8, 0)
    strange = guarding.highest_means(measuring, "train", 8, 0, guarding.impossible_speed)
    assert usual.shape[1] == 4
    assert float(strange[:, 2].min()) > float(usual[:, 2].max())
    assert guarding.area_under_curve(usual[:, 2].numpy(), strange[:, 2].numpy()).value == 1


def test_the_distance_to_the_nearest_lane() -> None:
    scene = roads.scene(roads.straight(), (20.0, 300.0, 0.0, 10.0), [])
    assert float(lane_distance(scene)) == pytest.approx(300, abs=8)
    env = XPengWorldEnv(world(LIMITS | {"lost": 50.0}))
    env.reset(seed=1)
    for _ in range(SETTLED + 2):
        *_, truncated, info = env.step(np.array([0.0, 0.1], np.float32))
    assert not truncated
    moved(env, 1, 2000.0)
    *_, truncated, info = env.step(np.array([0.0, 0.0], np.float32))
    assert truncated
    assert info["guards"]["lost"] > 1


def test_area_under_the_curve_by_hand() -> None:
    assert guarding.area_under_curve([1.0, 2.0], [3.0, 4.0]).value == 1
    assert guarding.area_under_curve([1.0, 3.0], [2.0, 3.0]).value == pytest.approx((1 + 0 + 1 + 0.5) / 4)


def test_thresholds_are_kept_and_damage_is_named(tmp_path) -> None:
    write_thresholds(tmp_path / PAGE, LIMITS, {"episodes": 2})
    assert read_thresholds(tmp_path / PAGE) == LIMITS
    with pytest.raises(CheckpointError, match="part=guards"):
        read_thresholds(tmp_path / "no.json")
    (tmp_path / PAGE).write_text(json.dumps({"thresholds": LIMITS | {"residual": -1}}))
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_thresholds(tmp_path / PAGE)
