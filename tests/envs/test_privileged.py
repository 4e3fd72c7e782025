import dataclasses

import numpy as np
import pytest
import torch
from xpeng_world.envs import Sb3VecEnv, XPengWorldEnv, XPengWorldVectorEnv
from xpeng_world.envs.privileged import AGENT_FACTS, FACTS, NEAREST_AGENTS, SIGHT, privileged_facts
from xpeng_world.scene import Agents


def with_agents(track, places):
    """The track with agents at places (x, y) of the ego's frame in its last column, heading as the ego does."""
    agents = Agents.empty(*track.ego.heading.shape, len(places))
    ego, heading = track.ego.position, track.ego.heading
    for slot, (x, y) in enumerate(places):
        agents.state[..., slot, 0] = ego[..., 0] + x * heading.cos() - y * heading.sin()
        agents.state[..., slot, 1] = ego[..., 1] + x * heading.sin() + y * heading.cos()
        agents.state[..., slot, 2], agents.state[..., slot, 3] = heading, 5.0
        agents.state[..., slot, 5:8] = torch.tensor([4.5, 1.8, 1.5])
        agents.valid[..., slot] = True
    return dataclasses.replace(track, agents=agents)


def agent(facts, slot, name):
    return float(facts[0, len(FACTS) + slot * len(AGENT_FACTS) + AGENT_FACTS.index(name)])


def test_agents_are_told_nearest_first_in_the_egos_frame(parts):
    env = XPengWorldEnv(**parts)
    env.reset(seed=1)
    track = with_agents(env.track, [(20.0, 3.5), (-6.0, -3.5), (300.0, 0.0)])
    facts = privileged_facts(track)
    assert [agent(facts, 0, name) for name in ("there", "x", "y")] == pytest.approx([1, -6, -3.5], abs=1e-3)
    second = [agent(facts, 1, name) for name in ("x", "y", "cos_heading", "sin_heading", "speed")]
    assert second == pytest.approx([20, 3.5, 1, 0, 5], abs=1e-3)
    assert not facts[0, len(FACTS) + 2 * len(AGENT_FACTS) :].any()  # too far, or nobody


def test_the_lead_is_the_box_on_the_way(parts):
    env = XPengWorldEnv(**parts)
    env.reset(seed=1)
    gap = FACTS.index("lead_gap")
    assert float(privileged_facts(with_agents(env.track, [(300.0, 0.0)]))[0, gap]) == SIGHT
    length = float(env.track.profile.length[0])
    facts = privileged_facts(with_agents(env.track, [(20.0, 0.0)]))
    assert float(facts[0, gap]) == pytest.approx(20.0 - 2.25 - length / 2, abs=0.1)
    assert float(facts[0, FACTS.index("lead_speed")]) == pytest.approx(5.0, abs=0.1)


def test_environments_tell_it_only_when_asked(parts):
    assert "privileged" not in XPengWorldEnv(**parts).reset(seed=1)[0]
    alone = XPengWorldEnv(**parts, privileged=True)
    observation, _ = alone.reset(seed=4)
    assert observation in alone.observation_space
    together = XPengWorldVectorEnv(3, **parts, privileged=True)
    rows, _ = together.reset(seed=[9, 4, 7])
    assert rows in together.observation_space
    assert np.allclose(rows["privileged"][1], observation["privileged"], atol=1e-4)
    actions = np.zeros((3, 2), np.float32)
    assert np.allclose(together.step(actions)[0]["privileged"][1], alone.step(actions[0])[0]["privileged"], atol=1e-4)


def test_the_last_observation_of_an_episode_has_it_too(parts):
    env = Sb3VecEnv(2, **parts, privileged=True, max_episode_steps=3)
    env.seed(1)
    env.reset()
    for _ in range(3):
        observation, _, done, infos = env.step(np.zeros((2, 2), np.float32))
    assert done.all()
    assert infos[0]["terminal_observation"]["privileged"].shape == (len(FACTS) + NEAREST_AGENTS * len(AGENT_FACTS),)
    assert not np.allclose(infos[0]["terminal_observation"]["privileged"], observation["privileged"][0])
