import dataclasses

import pytest
import torch
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.evaluation.export import difference
from xpeng_world.policies import load_policy
from xpeng_world.policies.export import Bundle, BundlePolicy, driving_frames, load_exportable, read_bundle
from xpeng_world.world import observe


def drive(policy, world, seeds, steps=7):
    """Actions [steps, B, 2] of an episode."""
    state, memory, actions = world.reset(seeds), policy.initial_memory(seeds), []
    for _ in range(steps):
        action, memory = policy.act(observe(state), memory)
        actions.append(action)
        state = world.step(state, action)
    return torch.stack(actions)


def test_the_bundle_remembers_as_torch_does(exported_lag, fake):
    torch_policy, onnx_policy = load_policy(exported_lag.weights), load_policy(str(exported_lag.bundle))
    expected = drive(torch_policy, fake.FlickeringWorld(), [3, 4])
    assert expected.std() > 0.01
    assert torch.allclose(drive(onnx_policy, fake.FlickeringWorld(), [3, 4]), expected, atol=1e-5)
    assert torch.allclose(drive(onnx_policy, fake.FlickeringWorld(), [4])[:, 0], expected[:, 1], atol=1e-5)
    seen = observe(fake.FlickeringWorld().reset([3]))
    with pytest.raises(ConfigError, match="3 frames ago"):
        onnx_policy.act(seen, None)


def test_the_manifest_states_the_earlier_picture(exported_lag, exported):
    manifest = read_bundle(exported_lag.bundle).manifest
    port = manifest["inputs"][3]
    assert (port["name"], port["dtype"], port["shape"], port["lag"]) == ("earlier", "uint8", ["batch", 64, 128, 3], 3)
    assert "earlier" in manifest["ranges_of_the_frames"]
    assert manifest["verified"][0]["largest_difference"] <= 1e-5
    assert all("lag" not in port for port in read_bundle(exported.bundle).manifest["inputs"])
    assert "earlier:1x64x128x3" in read_bundle(exported_lag.bundle).files["build_engine.sh"].decode()


def test_parity_is_measured_on_pictures_that_lie_apart(exported_lag, flickering):
    frames = driving_frames(flickering, "validation", 16, lag=3)
    columns = torch.arange(16) % 8
    same = (frames.earlier == frames.camera).flatten(1).all(1)
    assert torch.equal(same, columns == 0)
    assert torch.equal(frames.earlier[7], frames.camera[4])
    assert torch.equal(frames.earlier[2], frames.camera[0])
    assert torch.equal(frames.earlier[9], frames.camera[8])
    assert driving_frames(flickering, "validation", 4).earlier is None
    policy, model = load_exportable(exported_lag.weights), read_bundle(exported_lag.bundle).files["policy.fp32.onnx"]
    still = dataclasses.replace(frames, earlier=frames.camera)
    values = [getattr(frames, port.name) for port in policy.inputs]
    assert not torch.allclose(policy.graph(*values), policy.graph(*[getattr(still, port.name) for port in policy.inputs]), atol=1e-4)
    assert difference(policy, model, frames, optimise=True).largest <= 1e-5


def test_a_lag_out_of_range_begins_no_memory(exported_lag):
    bundle = read_bundle(exported_lag.bundle)
    far = [{**port, **({"lag": 10**9} if "lag" in port else {})} for port in bundle.manifest["inputs"]]
    with pytest.raises((ConfigError, CheckpointError), match="lag=1000000000"):
        BundlePolicy(Bundle({**bundle.manifest, "inputs": far}, bundle.files, bundle.name)).initial_memory([0])
