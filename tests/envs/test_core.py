import torch
from xpeng_world.batched import flatten
from xpeng_world.envs import DrivingLoop
from xpeng_world.rewards.facts import agent_corners, road_position, route_position
from xpeng_world.scene import Track

FACTS = (agent_corners, road_position, route_position)


def still(count):
    return torch.zeros(count, 2)


def tensors(value):
    return {"": value} if isinstance(value, torch.Tensor) else flatten(value)


def test_restarting_a_row_keeps_what_was_derived_and_it_is_what_would_be_derived_anew(parts):
    loop = DrivingLoop(parts["world"], parts["reward"])
    for other in (4, 3):  # equal padding, and a larger road and more cars than the batch had
        episodes = loop.reset([1, 4])
        for _ in range(3):
            episodes, _ = loop.step(episodes, still(2))
        for fact in FACTS:
            episodes.track.derived(fact)
        episodes = loop.restart(episodes, [1], [other])
        episodes, _ = loop.step(episodes, still(2))
        anew = Track(**{name: getattr(episodes.track, name) for name in Track.__dataclass_fields__})
        for fact in FACTS:
            kept, fresh = tensors(episodes.track.derived(fact)), tensors(fact(anew))
            assert kept.keys() == fresh.keys()
            assert all(torch.equal(kept[name], fresh[name]) for name in kept)


def test_branches_from_one_moment_do_not_touch_each_other(parts):
    loop = DrivingLoop(parts["world"], parts["reward"])
    start = loop.reset([0])
    left, _ = loop.step(start, torch.tensor([[1.0, 0.0]]))
    right, _ = loop.step(start, torch.tensor([[-1.0, 0.0]]))
    again, _ = loop.step(start, torch.tensor([[1.0, 0.0]]))
    assert torch.equal(left.state.scene.ego.state, again.state.scene.ego.state)
    assert float(left.state.scene.ego.steering) > 0 > float(right.state.scene.ego.steering)


def test_an_episode_that_begins_late_in_a_batch_is_the_one_it_is_alone(parts):
    loop = DrivingLoop(parts["world"], parts["reward"])
    episodes = loop.reset([0, 1, 2])
    for _ in range(7):
        episodes, _ = loop.step(episodes, still(3))
    episodes = loop.restart(episodes, [2], [5])
    alone = loop.reset([5])
    for _ in range(50):
        episodes, batch = loop.step(episodes, still(3))
        alone, single = loop.step(alone, still(1))
        assert torch.allclose(batch.rule_values[2], single.rule_values[0], atol=1e-5)
        assert torch.allclose(batch.reward[2], single.reward[0], atol=1e-5)
        assert torch.equal(batch.done[2], single.done[0])
    assert torch.allclose(episodes.total[2], alone.total[0], rtol=1e-5)
