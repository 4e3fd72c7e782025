import json

import pytest
import torch
from xpeng_world.errors import CheckpointError
from xpeng_world.policies import CarNet, CarPolicy, load_policy
from xpeng_world.world import observe


def test_acts_within_bounds_and_is_small(fake):
    net = CarNet()
    assert sum(p.numel() for p in net.parameters()) < 1_500_000
    action, memory = CarPolicy(net).act(observe(fake.FakeWorld().reset([0, 1])), None)
    assert action.shape == (2, 2)
    assert action.abs().max() <= 1
    assert memory is None


def test_sees_every_input(fake):
    net, seen = CarNet(), observe(fake.FakeWorld().reset([3]))
    camera = (seen.camera.permute(0, 3, 1, 2).float() / 255).requires_grad_()
    ego, route = seen.ego.requires_grad_(), seen.route.requires_grad_()
    net(camera, ego, route).sum().backward()
    assert all(bool(t.grad.abs().sum() > 0) for t in (camera, ego, route))


def test_a_saved_network_comes_back_the_same(fake, tmp_path):
    net, seen = CarNet().eval(), observe(fake.FakeWorld().reset([0]))
    net.save(tmp_path / "mine", {"minutes": 1})
    policy = load_policy(tmp_path / "mine")
    assert policy.name == "mine"
    expected = CarPolicy(net).act(seen, None)[0]
    assert torch.equal(policy.act(seen, None)[0], expected)


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is missing"):
        load_policy(tmp_path)
    CarNet().save(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**content, "version": 99}))
    with pytest.raises(CheckpointError, match="version 99"):
        load_policy(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(content))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_policy(tmp_path)
