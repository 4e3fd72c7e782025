"""Where groups begin, and what is drawn in them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from grpo_runs import STEPS, Forward, config, logprobs_of
from xpeng_world.envs.core import DrivingLoop
from xpeng_world.policies.vla.model import VlaModel
from xpeng_world.policies.vla.policy import VlaPolicy
from xpeng_world.policies.vla.tokens import PROMPT_LENGTH
from xpeng_world.rewards import StepReward
from xpeng_world.rl.grpo import Grpo
from xpeng_world.rl.grpo_driving import Driving
from xpeng_world.rl.grpo_rollout import drive_groups, sample_of
from xpeng_world.rl.grpo_writer import Writer, WriterState
from xpeng_world.world import observe

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("hold", [1, 3])
def test_groups_begin_where_the_policy_came_to(fake, start, hold) -> None:
    from xpeng_world.rl import grpo_starts

    model, driving, open_loop = VlaModel.load(start), Driving(STEPS, hold, warmup=60), DrivingLoop(fake.FakeWorld(), Forward())
    draw = next(n for n in range(50) if np.random.default_rng([n, 83]).integers(61) > 40)  # a round that drives on for long
    driven = drive_groups(open_loop, model, driving, [3, 4], 2, [draw])
    fresh = drive_groups(open_loop, model, Driving(STEPS, hold), [3, 4], 2, [draw])
    assert torch.equal(driven[0].before, driven[1].before)
    assert not torch.equal(driven[0].before, driven[2].before)
    assert len(driven[0].before) == len(driven[2].before) > 30 * PROMPT_LENGTH
    assert not torch.equal(driven[0].tokens[0], fresh[0].tokens[0])
    for episode in driven[:3:2]:
        for part in ((0, 1), (episode.decisions - 1, episode.decisions)):
            now, then = logprobs_of(model, sample_of(model, episode, *part, hold), 1.0)
            assert torch.allclose(now, then, atol=1e-4)

    # a drive that is over after its 96th frame is gone back on, to the last mark LEAD frames before; one over early begins anew
    class Over:
        def __init__(self) -> None:
            self.frame = 0

        def step(self, track) -> StepReward:
            self.frame += 1
            over = torch.tensor([self.frame == 96, self.frame == 20])
            return StepReward(torch.zeros(2), over, {"gain": torch.zeros(2)}, {"over": over})

    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    starts = grpo_starts.driven_starts(DrivingLoop(fake.FakeWorld(), Over()), model, driving, [3, 4], generators, 110, None)
    every = -(-10 // hold) * hold
    expected = max(mark for mark in range(30, 111) if mark % every == 0 and mark <= 96 - grpo_starts.LEAD)
    assert starts.running.steps.tolist() == [expected, 0]
    assert len(starts.before[0]) == expected * (PROMPT_LENGTH + 5)
    assert len(starts.before[1]) == 0


@pytest.mark.parametrize(("mode", "hold"), [("fast", 1), ("fast", 3), ("slow", 1)])
def test_after_exploring_it_drives_as_when_it_is_scored(fake, start, mode, hold) -> None:
    model, steps = VlaModel.load(start), 10
    driving = Driving(steps, hold, mode, explore=2)
    episodes = drive_groups(DrivingLoop(fake.FakeWorld(), Forward(), steps), model, driving, [3, 4], 2, [0])
    for episode in episodes:
        assert episode.decisions == 2
        drawn = [frame for frame, chosen in enumerate(episode.chosen) if bool(chosen.any())]
        assert drawn == [0, hold]
        assert len(episode.tokens) == steps
    sample = sample_of(model, episodes[1], 0, 2, hold)
    assert set(sample.decisions) == {0, 1, -1}
    now, then = logprobs_of(model, sample, 1.0)
    assert len(now) == sum(sample.mask) > 0
    assert torch.allclose(now, then, atol=1e-4)

    # without any draw it is the policy itself
    open_loop = DrivingLoop(fake.FakeWorld(), Forward(), steps)
    running = open_loop.reset([3, 4], {})
    writer, policy = Writer(model, [], mode, drawn=0, state=WriterState.begin(model, 2)), VlaPolicy(model, mode)
    memory = policy.initial_memory([3, 4])
    for _ in range(6):
        observation = observe(running.state)
        action, memory = policy.act(observation, memory)
        moment = writer.write(observation)
        assert torch.equal(moment.action, action)
        assert not bool(moment.chosen.any())
        running, _ = open_loop.step(running, action)


def test_starts_go_back_to_before_the_hardest_braking(fake, start, monkeypatch) -> None:
    from xpeng_world.rl import grpo_starts

    class Braking(DrivingLoop):
        """The first drive brakes hard in its 91st frame and harder in its 101st, the others never."""

        def step(self, episodes, actions):
            episodes, outcome = super().step(episodes, actions)
            state = episodes.state.scene.ego.state.clone()
            state[:, 4] = 0.0
            state[0, 4] = {91: -2.0, 101: -3.0}.get(int(episodes.steps[0]), 0.0)
            scene = replace(episodes.state.scene, ego=replace(episodes.state.scene.ego, state=state))
            return replace(episodes, state=replace(episodes.state, scene=scene)), outcome

    model, generators = VlaModel.load(start), [torch.Generator().manual_seed(seed) for seed in (1, 2, 3, 4)]
    driving, seeds, loop = Driving(STEPS, 1, explore=2, warmup=120, critical=0.5), [3, 4, 5, 6], Braking(fake.FakeWorld(), Forward())
    found = grpo_starts.driven_starts(loop, model, driving, seeds, generators, 120, None, 20)
    assert found.running.steps.tolist() == [80, 120, 120, 120]  # the last mark 20 frames before; the second did not brake
    never = grpo_starts.driven_starts(loop, model, replace(driving, critical=0.0), seeds, generators, 120, None, 20)
    assert never.running.steps.tolist() == [120] * 4


def test_groups_of_explorers_begin_where_the_policy_itself_comes_to(fake, start) -> None:
    model, open_loop = VlaModel.load(start), DrivingLoop(fake.FakeWorld(), Forward())
    draw = next(n for n in range(50) if np.random.default_rng([n, 83]).integers(61) > 40)
    explorers = [Driving(STEPS, 1, "fast", temperature, 2, warmup=60) for temperature in (0.5, 2.0)]
    groups = [drive_groups(open_loop, model, driving, [3], 2, [draw]) for driving in explorers]
    assert torch.equal(groups[0][0].before, groups[1][0].before)  # no draw led there
    assert not torch.equal(groups[0][0].tokens[0], groups[1][0].tokens[0])


def test_a_run_learns_from_exploring_alone(fake, start, tmp_path) -> None:
    run = Grpo(config(start, tmp_path, explore=2, rounds=1), VlaModel.load(start), DrivingLoop(fake.FakeWorld(), Forward()))
    run.run()
    assert {episode.decisions for episode in run.driven} == {2}
    assert run.advantages is not None
    learned = (run.advantages != 0).sum(1)
    assert int(learned.max()) <= 4  # two numbers a decision
