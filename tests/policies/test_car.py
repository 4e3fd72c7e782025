import json
from dataclasses import replace

import pytest
import torch
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies import CarNet, CarPolicy, load_policy
from xpeng_world.policies.car import EGO_SCALE, ROUTE_SCALE, SIZES, CarNetConfig
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


def test_a_network_saved_in_half_is_read_in_full_and_acts_nearly_the_same(fake, tmp_path):
    net = CarNet().eval()
    for name, half in (("whole", False), ("half", True)):
        net.save(tmp_path / name, half=half)
    size = lambda name: (tmp_path / name / "model.safetensors").stat().st_size
    assert size("half") < 0.51 * size("whole")
    seen = observe(fake.FakeWorld().reset([3]))
    found = [load_policy(tmp_path / name).act(seen)[0] for name in ("whole", "half")]
    assert found[1].dtype == torch.float32
    assert torch.allclose(*found, atol=2e-3)
    assert not torch.equal(*found)


def test_a_saved_network_comes_back_the_same(fake, tmp_path):
    net, seen = CarNet().eval(), observe(fake.FakeWorld().reset([0]))
    net.save(tmp_path / "mine", {"minutes": 1})
    policy = load_policy(tmp_path / "mine")
    assert policy.name == "mine"
    expected = CarPolicy(net).act(seen, None)[0]
    assert torch.equal(policy.act(seen, None)[0], expected)


def test_the_driver_that_ships_is_known_by_name(fake):
    driver = load_policy("driver")
    assert driver.name == "driver"
    assert not driver.privileged
    assert load_policy("mirrored:driver").name == "mirrored:driver"
    seen = observe(fake.FakeWorld().reset([0, 1]))
    actions, memory = driver.act(seen, driver.initial_memory([0, 1]))
    assert actions.shape == (2, 2)
    assert memory.frames.shape[1] == driver.net.config.lag == 4


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


TWO = CarNetConfig(widths=(4, 6, 8), camera_features=16, state_features=12, features=16, lag=3)


def drives(policy, world, seeds, steps):
    """Actions of every step and the states, side by side."""
    state, memory, actions = world.reset(seeds), policy.initial_memory(seeds), []
    for _ in range(steps):
        action, memory = policy.act(observe(state), memory)
        actions.append(action)
        state = world.step(state, action)
    return torch.stack(actions), state, memory


def lively(config):
    """A network whose actions differ from picture to picture."""
    torch.manual_seed(1)
    net = CarNet(config).eval()
    torch.nn.init.normal_(net.action.weight, std=0.5)
    return net


def test_without_a_lag_the_network_is_the_one_of_a_single_picture(tmp_path, fake):
    net, seen = lively(replace(TWO, lag=0)), observe(fake.FakeWorld().reset([0, 4]))
    torch.manual_seed(1)
    assert torch.equal(net.features.camera[0].weight, torch.nn.Conv2d(3, 4, 5, stride=2, padding=2).weight)
    camera = seen.camera.permute(0, 3, 1, 2).float() / 255
    numbers = torch.cat((seen.ego / torch.tensor(EGO_SCALE), (seen.route / ROUTE_SCALE).flatten(1)), -1)
    features = net.features.fuse(torch.cat((net.features.camera(camera - 0.5), net.features.state(numbers)), -1))
    assert torch.equal(net(camera, seen.ego, seen.route), net.action(features))
    assert CarPolicy(net).initial_memory([0]) is None
    net.save(tmp_path / "plain")
    assert "lag" not in json.loads((tmp_path / "plain" / "config.json").read_text())["config"]
    assert CarNet.load(tmp_path / "plain").config == net.config


def test_the_second_picture_matters_and_must_be_there(fake):
    net, seen = lively(TWO), observe(fake.FlickeringWorld().reset([3]))
    assert net.features.camera[0].in_channels == 6
    camera = seen.camera.permute(0, 3, 1, 2).float() / 255
    earlier = camera.clone().requires_grad_()
    still = net(camera, seen.ego, seen.route, earlier)
    still.sum().backward()
    assert earlier.grad.abs().sum() > 0
    assert not torch.allclose(still, net(camera, seen.ego, seen.route, camera.flip(-1)), atol=1e-4)
    with pytest.raises(ConfigError, match="picture of 3 frames ago"):
        net(camera, seen.ego, seen.route)
    with pytest.raises(ConfigError, match="lag=0"):
        lively(replace(TWO, lag=0))(camera, seen.ego, seen.route, camera)
    with pytest.raises(ConfigError, match="picture of 3 frames ago"):
        CarPolicy(net).act(seen, None)


def test_the_policy_shows_the_picture_of_lag_frames_ago(fake):
    world, policy = fake.FlickeringWorld(), CarPolicy(lively(TWO))
    state, memory, cameras = world.reset([2]), policy.initial_memory([2]), []
    for t in range(6):
        seen = observe(state)
        cameras.append(seen.camera.permute(0, 3, 1, 2).float() / 255)
        action, memory = policy.act(seen, memory)
        expected = policy.net(cameras[t], seen.ego, seen.route, cameras[max(0, t - 3)]).clamp(-1, 1)
        assert torch.equal(action, expected)
        state = world.step(state, action)


def test_with_a_lag_episodes_are_the_same_alone_and_in_a_batch_and_branch(fake):
    world, policy = fake.FlickeringWorld(), CarPolicy(lively(TWO))
    together, state, memory = drives(policy, world, [1, 2], 6)
    for row, seed in enumerate([1, 2]):
        assert torch.allclose(together[:, row], drives(policy, world, [seed], 6)[0][:, 0], atol=1e-5)
    once, after = policy.act(observe(state), memory)
    assert torch.equal(policy.act(observe(state), memory)[0], once)
    assert torch.equal(after.frames[:, :-1], memory.frames[:, 1:])
    assert policy.act(observe(state)[1], memory[1])[0].sub(once[1:]).abs().max() < 1e-5


def test_a_network_with_a_lag_comes_back_and_a_wrong_lag_does_not(tmp_path):
    lively(TWO).save(tmp_path)
    assert load_policy(tmp_path).net.config == TWO
    page = json.loads((tmp_path / "config.json").read_text())
    page["config"]["lag"] = 10**9
    (tmp_path / "config.json").write_text(json.dumps(page))
    with pytest.raises(CheckpointError, match="lag=1000000000"):
        load_policy(tmp_path)
    assert SIZES["small2"] == replace(SIZES["small"], lag=4)
