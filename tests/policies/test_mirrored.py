from __future__ import annotations

import pytest
import torch
from xpeng_world.errors import ConfigError
from xpeng_world.policies import load_policy
from xpeng_world.policies.mirrored import MirroredPolicy, mirror
from xpeng_world.world import Observation

CAR = "weights/small/ppo"


def seen() -> Observation:
    torch.manual_seed(0)
    camera = torch.randint(0, 256, (2, 64, 128, 3), dtype=torch.uint8)
    ego = torch.tensor([[8.0, 0.5, 0.1, 0.2, 13.9], [3.0, -1.0, -0.2, -0.1, 8.3]])
    return Observation(camera, ego, torch.randn(2, 20, 2).cumsum(1) + 4)


def same(a: Observation, b: Observation) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("camera", "ego", "route"))


def test_twice_mirrored_is_the_same() -> None:
    assert same(mirror(mirror(seen())), seen())
    policy = load_policy(CAR)
    twice = MirroredPolicy(MirroredPolicy(policy))
    memory = policy.initial_memory([0, 1])
    torch.testing.assert_close(twice.act(seen(), memory)[0], policy.act(seen(), memory)[0])


def test_a_mirrored_policy_steers_the_other_way_in_the_mirror() -> None:
    policy, behind = load_policy(CAR), load_policy(f"mirrored:{CAR}")
    memory = policy.initial_memory([0, 1])
    plain, turned = policy.act(seen(), memory)[0], behind.act(mirror(seen()), memory)[0]
    torch.testing.assert_close(turned, plain * torch.tensor([-1.0, 1.0]))
    assert behind.name == f"mirrored:{policy.name}"


def test_what_lies_left_lies_right() -> None:
    observation = seen()
    turned = mirror(observation)
    assert torch.equal(turned.camera[:, :, 0], observation.camera[:, :, -1])
    assert torch.equal(turned.route[..., 1], -observation.route[..., 1])
    assert turned.ego[0].tolist() == pytest.approx([8.0, 0.5, -0.1, -0.2, 13.9])


def test_a_policy_that_reads_the_scene_cannot_be_mirrored() -> None:
    with pytest.raises(ConfigError, match="'expert' reads the scene"):
        load_policy("mirrored:expert")
