"""The learned world without a generator, under the default reward design, on two roads of different size."""

import importlib.util
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from xpeng_world.envs import XPengWorldEnv, XPengWorldVectorEnv
from xpeng_world.errors import ConfigError
from xpeng_world.scene import AgentKind
from xpeng_world.world_model.learned import LearnedWorld
from xpeng_world.world_model.starts import StartBank
from xpeng_world.world_model.traffic import make_traffic

B = 3


@pytest.fixture(scope="module")
def world():
    name = "envs_roads"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "roads.py")
    sys.modules[name] = roads = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(roads)
    cars = [roads.agent_row(AgentKind.CAR, 40.0 + 20 * k, -1.75, speed=8.0) for k in range(3)]
    straight = roads.scene_on(roads.straight_road(400.0), (10.0, -1.75, 0.0), agents=cars)
    crossing = roads.scene_on(roads.crossing(), (-80.0, -1.75, 0.0), agents=cars[:1])
    bank = StartBank.collect([(straight, "motorway", 1, "sparse"), (crossing, "city", 2, "dense")])
    return LearnedWorld(None, make_traffic("idm"), bank)


def test_a_batch_is_its_episodes_alone(world):
    mode = "SameStep"
    ours = XPengWorldVectorEnv(B, world, max_episode_steps=30, autoreset_mode=mode)
    theirs = gymnasium.vector.SyncVectorEnv([lambda: XPengWorldEnv(world, max_episode_steps=30)] * B, autoreset_mode=mode)
    a, b = ours.reset(seed=0), theirs.reset(seed=0)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(45):
        actions = rng.uniform(-0.1, 0.2, (B, 2)).astype(np.float32)
        actions[1, 0] = -1.0
        a, b = ours.step(actions), theirs.step(actions)
        for key in ("ego", "route"):
            assert np.allclose(a[0][key], b[0][key], atol=1e-5)
        assert np.allclose(a[1], b[1], atol=1e-5)
        assert np.array_equal(a[2:4], b[2:4])
        assert a[4].get("ended", np.array([])).tolist() == b[4].get("ended", np.array([])).tolist()
        ended += (a[2] | a[3]).sum()
    assert ended > B


def test_the_scenario_told_is_the_one_the_bank_holds(world):
    env = XPengWorldEnv(world)
    _, info = env.reset(seed=5, options={"family": "city"})
    assert (info["scenario"]["family"], info["scenario"]["network_seed"], info["scenario"]["density"]) == ("city", 2, "dense")
    _, info = env.reset(seed=5, options={"family": "motorway"})
    assert info["scenario"]["network_seed"] == 1
    with pytest.raises(ConfigError, match="country"):
        env.reset(options={"family": "country"})
