import pytest
import torch
from xpeng_world.errors import ConfigError
from xpeng_world.policies import load_policy
from xpeng_world.policies.vla import VlaPolicy
from xpeng_world.world import observe


def test_drives_a_batch_as_it_drives_each_alone(fake, model):
    policy = VlaPolicy(model, temperature=1.0)
    world = fake.FakeWorld()

    def drive(seeds):
        state, memory, actions = world.reset(seeds), policy.initial_memory(seeds), []
        for _ in range(4):
            action, memory = policy.act(observe(state), memory)
            actions.append(action)
            state = world.step(state, action)
        return torch.stack(actions), memory

    together, memory = drive([3, 4])
    assert memory.decisions.tolist() == [4, 4]
    assert memory.unparsable.tolist() == [0, 0]
    assert together.abs().max() <= 1
    assert not torch.equal(together[:, 0], together[:, 1])
    alone, _ = drive([4])
    torch.testing.assert_close(alone[:, 0], together[:, 1])


def test_a_memory_is_a_value_that_can_be_kept_and_branched(fake, model):
    policy = VlaPolicy(model)
    world = fake.FakeWorld()
    state, memory = world.reset([1]), policy.initial_memory([1])
    _, kept = policy.act(observe(state), memory)
    state = world.step(state, torch.tensor([[0.1, 0.5]]))
    once, _ = policy.act(observe(state), kept)
    policy.act(observe(world.step(state, torch.tensor([[1.0, -1.0]]))), kept)
    again, _ = policy.act(observe(state), kept)
    assert torch.equal(once, again)
    both = kept.put([0], policy.initial_memory([9]))
    assert both.decisions.tolist() == [0]
    assert both.context.length.tolist() == [0]


def test_what_cannot_be_read_is_counted_and_the_car_brakes_gently(fake, model):
    # an untrained model's free writing does not parse
    policy = VlaPolicy(model, "slow", temperature=1.0)
    state = fake.FakeWorld().reset([1, 2, 3])
    action, memory = policy.act(observe(state), policy.initial_memory([1, 2, 3]))
    assert memory.unparsable.tolist() == [1, 1, 1]
    assert (policy.decisions, policy.unparsable) == (3, 3)
    assert (action[:, 1] < -0.1).all()
    assert (action[:, 1] > -0.3).all()


def test_folders_and_names_are_recognised(model, tmp_path):
    folder = model.save(tmp_path / "driver")
    assert load_policy(folder).name == "driver"
    assert load_policy(folder).mode == "fast"
    assert load_policy(f"{folder}:slow").mode == "slow"
    with pytest.raises(ConfigError, match="did you mean 'vla'"):
        load_policy("vlaa")


def test_without_a_shipped_one_the_name_says_what_to_do(monkeypatch, tmp_path, model):
    monkeypatch.setattr("xpeng_world.policies.vla.policy.SHIPPED", tmp_path / "none")
    with pytest.raises(ConfigError, match="no VLA ships"):
        load_policy("vla")
    monkeypatch.setattr("xpeng_world.policies.vla.policy.SHIPPED", model.save(tmp_path / "vla"))
    assert load_policy("vla:slow").mode == "slow"
