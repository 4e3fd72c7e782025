import pytest
import torch
from xpeng_world.errors import ConfigError
from xpeng_world.policies import MIXTURE, POLICIES, load_policy
from xpeng_world.policies.drivers import Plan


def rollout(fake, name, seeds, steps, **road):
    driver, scene = load_policy(name), fake.make_scene(batch=len(seeds), **road)
    memory, actions = driver.initial_memory(seeds), []
    for _ in range(steps):
        action, memory = driver.act(None, memory, scene if driver.privileged else None)
        scene = fake.advance(scene, action)
        actions.append(action)
    return torch.stack(actions, 1), scene


@pytest.mark.parametrize("name", list(POLICIES))
def test_actions_are_valid_repeatable_and_independent_of_the_batch(fake, name):
    road = {"speed": 8.0, "cars": [(50.0, 3.0, 5.0)]}
    both, _ = rollout(fake, name, [3, 4], 40, **road)
    alone, _ = rollout(fake, name, [4], 40, **road)
    assert both.shape == (2, 40, 2)
    assert both.abs().max() <= 1
    assert torch.allclose(both[1], alone[0], atol=1e-4)


@pytest.mark.parametrize("name", ["noisy_expert", "random"])
def test_noise_is_smooth_and_differs_between_seeds(fake, name):
    actions, _ = rollout(fake, name, [0, 1], 100, speed=8.0)
    assert (actions[0] - actions[1]).abs().max() > 0.05
    assert actions[..., 0].diff(dim=1).abs().mean() < 0.15


def test_the_noise_has_unit_variance():
    plan = Plan.draw(range(200), 5, 1.0)
    values = []
    for _ in range(50):
        values.append(plan.noise())
        plan = plan.next()
    assert torch.stack(values).std() == pytest.approx(1.0, abs=0.1)


def test_reckless_hits_the_car_beside_its_lane(fake):
    driver, scene, seeds = load_policy("reckless"), fake.make_scene(batch=8, speed=8.0, cars=[(100.0, 3.0, 3.0)]), range(8)
    memory, hit = driver.initial_memory(seeds), torch.zeros(8, dtype=torch.bool)
    for _ in range(200):
        action, memory = driver.act(None, memory, scene)
        scene = fake.advance(scene, action)
        hit |= (scene.agents.position[:, 0] - scene.ego.position).norm(dim=-1) < 3.0
    assert hit.float().mean() >= 0.5


def test_offroad_leaves_the_road(fake):
    _, scene = rollout(fake, "offroad", [0, 1, 2, 3], 200, speed=8.0)
    assert (scene.ego.y.abs() > 4).all()


def test_idle_stands_and_lazy_crawls(fake):
    assert float(rollout(fake, "idle", [0], 100, speed=8.0)[1].ego.speed) == 0
    assert 3.0 < float(rollout(fake, "lazy", [0], 150, speed=8.0)[1].ego.speed) < 6.0


def test_the_mixture_names_policies_and_sums_to_one():
    assert set(MIXTURE) <= set(POLICIES)
    assert sum(MIXTURE.values()) == pytest.approx(1)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'reckless'"):
        load_policy("wreckless")
