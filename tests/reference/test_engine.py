"""The engine: signals by the programme, traffic that minds the ego, slots that keep their agent."""

import dataclasses

import pytest
import torch
from xpeng_world.errors import SimulatorError
from xpeng_world.geometry import box_corners, boxes_overlap, to_frame
from xpeng_world.reference.engine import AGENTS, RANGE, Engine
from xpeng_world.reference.networks import build_network
from xpeng_world.reference.roadmap import read_road_map
from xpeng_world.reference.world import ReferenceWorld
from xpeng_world.road import SignalState
from xpeng_world.vehicles import steering_authority
from xpeng_world.world import observe

LETTERS = {"r": SignalState.RED, "y": SignalState.YELLOW, "g": SignalState.GREEN, "G": SignalState.GREEN}
COAST, BRAKE = torch.zeros(1, 2), torch.tensor([[0.0, -1.0]])


@pytest.fixture(scope="module")
def world():
    return ReferenceWorld(camera=False)


def test_signals_show_what_sumo_shows(world):
    state = world.reset([4], {"family": "city", "network_seed": 0, "density": "sparse"})
    _, index = read_road_map(build_network("city", 0))
    changes = 0
    for _ in range(180):
        shown = state.scene.signals[0].tolist()
        assert shown == [int(LETTERS[letter]) for letter in Engine.get().signal_letters(index.signals)]
        before = state.scene.signals
        state = world.step(state, BRAKE)
        changes += int((before != state.scene.signals).sum())
    assert changes > 20


def on_the_route(state, pedal):
    """An action that keeps to the route."""
    ego = state.scene.ego
    ahead = observe(state).route[0, 2]
    bend = 2 * ahead[1] / ahead.square().sum() * state.scene.profile.wheelbase
    return torch.tensor([[float(bend / steering_authority(ego.speed, state.scene.profile)), pedal]]).clamp(-1, 1)


@pytest.mark.parametrize(("family", "seed"), [("city", 4), ("country", 0), ("country", 3), ("country", 5)])
def test_followers_brake_for_a_stopped_ego(world, family, seed):
    state = world.reset([seed], {"family": family, "network_seed": 0, "density": "dense"})
    waiting = 0
    for _ in range(200):
        state = world.step(state, on_the_route(state, -0.5))
        ego, agents, profile = state.scene.ego, state.scene.agents, state.scene.profile
        corners = box_corners(agents.position, agents.heading, agents.length, agents.width)
        mine = box_corners(ego.position, ego.heading, profile.length, profile.width)
        assert not bool((boxes_overlap(mine.unsqueeze(1), corners) & agents.valid).any())
        place = to_frame(agents.position[0], ego.position, ego.heading)
        behind = (place[:, 0] < 0) & (place[:, 0] > -15) & (place[:, 1].abs() < 1.5)
        waiting = max(waiting, int((behind & agents.valid[0] & (agents.speed[0] < 0.2)).sum()))
    assert float(state.scene.ego.speed) == 0.0
    assert waiting >= 1, "somebody waits behind the ego"


def test_slots_keep_their_agent(world):
    state = world.reset([5], {"family": "motorway", "network_seed": 0, "density": "dense"})
    kept = moved = 0
    for _ in range(60):
        before = state.scene.agents
        state = world.step(state, COAST)
        after = state.scene.agents
        assert after.state.shape == (1, AGENTS, 8)
        ids = after.id[0, after.valid[0]].tolist()
        assert len(ids) == len(set(ids))
        assert bool((after.id[~after.valid] == -1).all())
        assert float(after.state[~after.valid].abs().sum()) == 0
        distance = (after.position - state.scene.ego.position.unsqueeze(1)).norm(dim=-1)[after.valid]
        assert float(distance.max()) < RANGE + 10
        same = before.valid & (before.id == after.id)
        kept += int(same.sum())
        stay = set(before.id[0, before.valid[0]].tolist()) & set(ids)
        moved += len(stay) - int(same.sum())
        step = (after.position - before.position).norm(dim=-1)[same]
        expected = 0.1 * 0.5 * (after.speed + before.speed)[same]
        assert float((step - expected).abs().max()) < 0.6
        assert bool((after.colour[same] == before.colour[same]).all())
        assert bool((after.state[same][:, 5:] == before.state[same][:, 5:]).all())
    assert kept > 300
    assert moved == 0


def test_boxes_do_not_overlap_each_other(world):
    """Front bumpers and compass angles are turned into boxes rightly: on a dense motorway no two boxes touch."""
    state = world.reset([6], {"family": "motorway", "network_seed": 0, "density": "dense"})
    for _ in range(20):
        state = world.step(state, COAST)
        agents = state.scene.agents
        corners = box_corners(agents.position, agents.heading, agents.length, agents.width)[0, agents.valid[0]]
        a, b = torch.triu_indices(len(corners), len(corners), 1)
        assert not bool(boxes_overlap(corners[a], corners[b]).any())


def test_brake_lights_come_with_braking(world):
    state = world.reset([8], {"family": "city", "network_seed": 0, "density": "dense"})
    on, off = [], []
    for _ in range(80):
        state = world.step(state, COAST)
        agents = state.scene.agents
        moving = agents.valid & (agents.speed > 1)
        on += agents.acceleration[moving & agents.brake].tolist()
        off += agents.acceleration[moving & ~agents.brake].tolist()
    assert len(on) > 20
    assert sum(on) / len(on) < -1.0 < sum(off) / len(off)


def test_sumo_sees_the_ego_where_it_is(world):
    state = world.reset([9], {"family": "city", "network_seed": 0})
    for action in ([0.0, 0.3], [0.4, 0.0], [-0.6, 0.2], [1.0, 0.5], [1.0, 0.5]) * 6:
        state = world.step(state, torch.tensor([action]))
        ego = state.scene.ego
        x, y, speed = Engine.get().ego_seen()
        half = 0.5 * float(state.scene.profile.length)
        assert x == pytest.approx(float(ego.x + half * ego.heading.cos()), abs=0.01)
        assert y == pytest.approx(float(ego.y + half * ego.heading.sin()), abs=0.01)
        assert speed == pytest.approx(float(ego.speed), abs=0.05)
    egos = [name for name in Engine.get().positions() if not name.isdigit()]
    assert egos == [], "nobody but the ego is on the road under its name"


def test_a_dead_sumo_is_one_line(world):
    network = build_network("city", 0)
    missing = dataclasses.replace(network, path=network.path.with_name("missing.net.xml"))
    with pytest.raises(SimulatorError, match="SUMO failed") as caught:
        Engine.get().load(missing, "<routes></routes>", [], 0, 1.0)
    assert "\n" not in str(caught.value)
    assert int(world.reset([1], {"family": "country", "network_seed": 0}).step) == 0, "and the next reset works"
