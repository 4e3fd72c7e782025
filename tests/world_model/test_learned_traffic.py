from __future__ import annotations

import dataclasses
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from xpeng_world.batched import flatten
from xpeng_world.data import Clip, ShardWriter
from xpeng_world.errors import CheckpointError, ConfigError, DataError
from xpeng_world.road import LaneKind
from xpeng_world.scene import AgentKind, Agents, Scene, Track
from xpeng_world.world_model.traffic import make_traffic
from xpeng_world.world_model.traffic.learned import PERIOD, LearnedTraffic, begin, carry_out
from xpeng_world.world_model.traffic.network import TrafficNetwork, TrafficSize
from xpeng_world.world_model.traffic.paths import find_lanes
from xpeng_world.world_model.traffic.recorded import recorded_moments
from xpeng_world.world_model.traffic.train import TrainTrafficConfig, motion_back, train_traffic
from xpeng_world.world_model.traffic.views import OTHER, OWN, find_ways, look_around
from xpeng_world.world_model.traffic.vocabulary import GROUPS, RADIUS, Vocabulary, group_of

_spec = importlib.util.spec_from_file_location("roads_local", Path(__file__).parent / "roads_local.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


def words(extra: list[tuple[float, float]] = ()) -> Vocabulary:
    motions = [(0.0, 0.0), (-2.0, 0.0), (1.0, 0.0), (0.0, 0.4), (0.0, -0.4), *extra]
    tensor = torch.tensor(motions * 3)
    return Vocabulary(tensor, torch.arange(3).repeat_interleave(len(motions)))


def network(seed: int = 0) -> TrafficNetwork:
    torch.manual_seed(seed)
    made = TrafficNetwork(words(), TrafficSize(query=32, token=16, layers=2, heads=2))
    with torch.no_grad():
        made.head[1].weight.normal_(0, 0.3)
    return made.eval()


def saying(token: int) -> TrafficNetwork:
    """A network that always names one token of a group."""
    made = network()
    with torch.no_grad():
        made.head[1].weight.zero_()
        made.head[1].bias.zero_()
        made.head[1].bias[token::5] = 50.0
    return made


def mirrored(scene: Scene) -> Scene:
    """The scene seen in a mirror: y turns round, and traffic drives on the other side."""
    flip = lambda points: points * points.new_tensor((1.0, -1.0))
    road = scene.road
    road = dataclasses.replace(
        road, centreline=flip(road.centreline), left=road.right, right=road.left, junctions=flip(road.junctions),
        stop_line=flip(road.stop_line).flip(-2), traffic_side=-road.traffic_side,
    )  # fmt: skip
    state = scene.agents.state.clone()
    state[..., 1], state[..., 2] = -state[..., 1], -state[..., 2]
    ego = scene.ego.state.clone()
    for column in (1, 2, 5, 6):
        ego[..., column] = -ego[..., column]
    route = dataclasses.replace(scene.route, points=flip(scene.route.points))
    agents = dataclasses.replace(scene.agents, state=state)
    return dataclasses.replace(scene, road=road, agents=agents, ego=dataclasses.replace(scene.ego, state=ego), route=route)


def demo_scene(batch: int = 1) -> Scene:
    """A two-lane road to the east: a queue before a red light, somebody beside, the ego among them."""
    road = roads.straight(5, red_at=2, lanes=2)
    agents = [(170.0, 0.0, 0.0, 0.0), (150.0, 0.1, 0.0, 6.0), (60.0, 3.2, 0.02, 12.0), (100.0, 3.5, 0.0, 9.0), (20.0, 0.0, 0.0, 13.0)]
    return roads.scene(road, (80.0, 0.0, 0.0, 8.0), agents, batch)


def step_on(scene: Scene, traffic: LearnedTraffic, steps: int, seeds: list[int] | None = None) -> list[Scene]:
    seed = torch.tensor(seeds or list(range(scene.time.shape[0])))
    agents, memory = traffic.reset(scene, seed)
    scene = dataclasses.replace(scene, agents=agents)
    scenes = [scene]
    for k in range(steps):
        agents, memory = traffic.step(scene, scene.ego, memory, seed, torch.full_like(seed, k))
        scene = dataclasses.replace(scene, agents=agents)
        scenes.append(scene)
    return scenes


def test_disks_cover_every_recorded_motion_and_no_two_overlap() -> None:
    torch.manual_seed(1)
    motions = torch.randn(4000, 2) * torch.tensor([1.0, 0.2])
    group = torch.randint(0, 2, (4000,))
    made = Vocabulary.cover(motions, group)
    radius = torch.tensor(RADIUS)
    inside = (motions.abs() <= torch.tensor([[4.5, 1.5], [3.0, 1.0]])[group]).all(-1)
    apart = (motions - made.motions[made.nearest(motions, group)]) / radius[group]
    assert float(apart[inside].norm(dim=-1).max()) <= 1.0 + 1e-5
    for number in range(len(GROUPS)):
        mine = made.motions[made.group == number] / radius[number]
        between = torch.cdist(mine, mine) + 10 * torch.eye(len(mine))
        assert float(between.min()) > 1.0 - 1e-4
    assert int((made.group == 2).sum()) == 1  # no walker was recorded
    assert bool((made.motions[made.group == 2] == 0).all())


def test_a_road_without_anybody_stays_empty() -> None:
    scene, seed = demo_scene(batch=2), torch.arange(2)
    scene = dataclasses.replace(scene, agents=Agents.empty(2, 3))
    traffic = LearnedTraffic(network(5), spawning=False)
    agents, memory = traffic.reset(scene, seed)
    scene, _ = advance(traffic, dataclasses.replace(scene, agents=agents), memory, seed, torch.zeros(2, dtype=torch.int64))
    assert not scene.agents.valid.any()


def test_empty_slots_do_not_change_what_others_decide_and_have_no_motion() -> None:
    scene, seed, step = demo_scene(batch=2), torch.arange(2), torch.zeros(2, dtype=torch.int64)
    count, pushes = 5, []
    for slots in (count, 12):
        traffic = LearnedTraffic(network(3), careful=False, spawning=False, slots=slots)
        agents, memory = traffic.reset(scene, seed)
        pushes.append(advance(traffic, dataclasses.replace(scene, agents=agents), memory, seed, step)[1].push)
    assert bool((pushes[0] != 0).any())
    torch.testing.assert_close(pushes[1][:, :count], pushes[0])
    assert not pushes[1][:, count:].any()


def test_agents_decide_twice_a_second_and_keep_to_it_between() -> None:
    traffic = LearnedTraffic(network(5), careful=False, spawning=False)
    scene, seed = demo_scene(batch=3), torch.arange(3)
    agents, memory = traffic.reset(scene, seed)
    scene = dataclasses.replace(scene, agents=agents)
    slides = []
    for step in range(4 * PERIOD):
        scene, memory = advance(traffic, scene, memory, seed, torch.full((3,), step))
        slides.append(memory.slide)
    for period in range(4):
        now = slides[period * PERIOD : (period + 1) * PERIOD]
        assert all(torch.equal(slide, now[0]) for slide in now)
    assert not torch.equal(slides[0], slides[-1])


def walker_scene(people, road=None):
    """People (x, y, heading, speed) on a road of one lane along x with a pavement 4 m to its right, each way."""
    lines = [[(0.0, 0.0), (200.0, 0.0)], [(0.0, -4.0), (200.0, -4.0)], [(200.0, -4.0), (0.0, -4.0)]]
    kinds = [LaneKind.DRIVING, LaneKind.WALKING, LaneKind.WALKING]
    scene = roads.scene(road or roads.build(lines, kinds, [[], [], []]), (150.0, 30.0, 0.0, 0.0), people)
    agents = scene.agents
    agents.kind[agents.valid] = int(AgentKind.PEDESTRIAN)
    agents.state[..., 5:8] = torch.tensor([0.5, 0.6, 1.75])
    return scene


def test_people_take_the_pavement_that_leads_where_they_face() -> None:
    people = [(50.0, -4.4, 0.0, 1.2), (60.0, -3.8, math.pi, 1.2), (70.0, -4.0, 1.5, 1.2), (80.0, -9.0, 0.0, 1.2)]
    lane, _, lateral = find_lanes(walker_scene(people).road, walker_scene(people).agents)
    assert lane[0, :4].tolist() == [1, 2, 1, -1]
    assert lateral[0, :2].tolist() == pytest.approx([-0.4, -0.2], abs=1e-4)


def test_somebody_who_comes_upon_a_pavement_goes_on_along_it() -> None:
    scene = walker_scene([(50.0, -8.0, math.pi / 4, 1.2)])
    traffic = LearnedTraffic(saying(0), spawning=False)
    later = step_on(scene, traffic, 60)[-1].agents
    assert float(later.state[0, 0, 1]) == pytest.approx(-6.4, abs=0.3)  # it keeps its place beside the middle
    assert abs(float(later.state[0, 0, 2])) < 0.2


def test_people_do_not_walk_into_each_other() -> None:
    people = [(50.0, -4.0, 0.0, 1.2), (54.0, -4.0, math.pi, 1.2), (56.0, -4.2, math.pi, 1.2)]
    for careful, clear in ((True, True), (False, False)):
        traffic = LearnedTraffic(saying(0), spawning=False, careful=careful)
        least = min(float(torch.pdist(scene.agents.position[0, :3]).min()) for scene in step_on(walker_scene(people), traffic, 50))
        assert (least > 0.7) == clear


def test_a_car_lets_somebody_cross() -> None:
    scene = walker_scene([(60.0, -5.2, math.pi / 2, 1.3), (20.0, 0.0, 0.0, 10.0)], roads.straight())
    agents = scene.agents
    agents.kind[0, 1] = int(AgentKind.CAR)
    agents.state[0, 1, 5:8] = torch.tensor([4.6, 1.8, 1.5])
    for careful, clear in ((True, True), (False, False)):
        traffic = LearnedTraffic(saying(0), spawning=False, careful=careful)
        gaps = []
        for later in step_on(scene, traffic, 60):
            walker, car = later.agents.state[0, 0], later.agents.state[0, 1]
            beside = (walker[1] - car[1]).abs() < 1.2
            gaps.append(float((walker[0] - car[0]).abs()) if bool(beside) else 99.0)
        assert (min(gaps) > 2.6) == clear


def test_episodes_of_several_ages_go_on_as_they_would_alone() -> None:
    scene = demo_scene(batch=3)
    traffic = LearnedTraffic(network(5))
    seed = torch.arange(3)
    agents, memory = traffic.reset(scene, seed)
    ages = torch.tensor([0, 1, 3])  # two of them are between decisions
    together = dataclasses.replace(scene, agents=agents), memory
    alone = [(together[0][i], memory[i]) for i in range(3)]
    for turn in range(7):
        step = ages + turn
        together = advance(traffic, *together, seed, step)
        alone = [advance(traffic, *one, seed[i : i + 1], step[i : i + 1]) for i, one in enumerate(alone)]
    for i, (one, _) in enumerate(alone):
        torch.testing.assert_close(together[0].agents.state[i : i + 1], one.agents.state, atol=1e-3, rtol=1e-4)


def advance(traffic, scene, memory, seed, step):
    agents, memory = traffic.step(scene, scene.ego, memory, seed, step)
    return dataclasses.replace(scene, agents=agents), memory


def test_views_are_finite_bounded_and_mirror_exactly() -> None:
    scene = demo_scene()
    made = network()
    traffic = LearnedTraffic(made)
    seed = torch.zeros(scene.time.shape[0], dtype=torch.int64)
    seen = []
    for one in (scene, mirrored(scene)):
        agents, memory = traffic.reset(one, seed)
        one = dataclasses.replace(one, agents=agents)
        slots = torch.arange(agents.valid.shape[1]).expand_as(agents.valid)
        view, _ = look_around(one, one.ego, memory, find_ways(one.road, agents, memory), slots)
        assert (view.own.shape[-1], view.others.shape[-1]) == (OWN, OTHER)
        for value in flatten(view).values():
            assert bool(torch.isfinite(value.float()).all())
        seen.append((view, agents.valid))
    there = seen[0][1]
    assert bool(there.any())
    for name in ("own", "way", "others"):
        a, b = (getattr(view, name)[there] for view, _ in seen)
        torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-4)


def test_left_hand_futures_are_mirror_images() -> None:
    scene = demo_scene()
    traffic = LearnedTraffic(network(3), spawning=False)
    right, left = (step_on(one, traffic, 25)[-1] for one in (scene, mirrored(scene)))
    torch.testing.assert_close(right.agents.position[..., 0], left.agents.position[..., 0], atol=0.02, rtol=0)
    torch.testing.assert_close(right.agents.position[..., 1], -left.agents.position[..., 1], atol=0.02, rtol=0)


def test_a_future_is_the_same_alone_and_in_a_batch_and_when_stepped_twice() -> None:
    scene = demo_scene(batch=3)
    traffic = LearnedTraffic(network(5))
    together, again = step_on(scene, traffic, 20), step_on(scene, traffic, 20)
    alone = step_on(scene[1], traffic, 20, seeds=[1])
    assert torch.equal(together[-1].agents.state, again[-1].agents.state)
    torch.testing.assert_close(together[-1].agents.state[1:2], alone[-1].agents.state, atol=1e-3, rtol=1e-4)
    assert not torch.allclose(together[-1].agents.state[0], together[-1].agents.state[1])  # other seeds, other futures


def test_a_token_is_carried_out_within_half_a_second() -> None:
    scene = demo_scene()
    for token, change, aside in ((1, -2.0, 0.0), (3, 0.0, 0.4)):
        traffic = LearnedTraffic(saying(token), temperature=0.0, spawning=False, careful=False)
        agents, memory = traffic.reset(scene, torch.tensor([0]))
        state = dataclasses.replace(scene, agents=agents)
        for k in range(PERIOD):  # all have decided after the last of them
            agents, memory = traffic.step(state, state.ego, memory, torch.tensor([0]), torch.tensor([k]))
            state = dataclasses.replace(state, agents=agents)
        first, lateral = agents, memory.lateral
        for k in range(PERIOD, 2 * PERIOD):
            agents, memory = traffic.step(state, state.ego, memory, torch.tensor([0]), torch.tensor([k]))
            state = dataclasses.replace(state, agents=agents)
        fast = first.valid[0] & agents.valid[0] & (first.speed[0] > 3.0) & (agents.id[0] == first.id[0])
        assert bool(fast.any())
        torch.testing.assert_close((agents.speed - first.speed)[0, fast], torch.full((int(fast.sum()),), change), atol=1e-3, rtol=0)
        if aside:
            torch.testing.assert_close((memory.lateral - lateral)[0, fast], torch.full((int(fast.sum()),), aside), atol=0.02, rtol=0)


def test_an_agent_that_crosses_a_border_belongs_to_the_lane_beside() -> None:
    scene = demo_scene()
    traffic = LearnedTraffic(saying(3), temperature=0.0, spawning=False, careful=False)
    agents, memory = traffic.reset(scene, torch.tensor([0]))
    beside = scene.road.left[0, memory.chain[0, :, 1].clamp_min(0)]
    changing = agents.valid[0] & (memory.chain[0, :, 1] >= 0) & (beside >= 0)
    assert bool(changing.any())
    state = dataclasses.replace(scene, agents=agents)
    for k in range(35):
        agents, memory = traffic.step(state, state.ego, memory, torch.tensor([0]), torch.tensor([k]))
        state = dataclasses.replace(state, agents=agents)
    agents_lane = memory.chain[0, changing, 1]
    assert bool((agents_lane == beside[changing]).any())


def test_walkers_turn_on_the_spot_where_there_is_no_lane() -> None:
    scene = demo_scene()
    agents = scene.agents
    state = agents.state.clone()
    state[0, 0, :2] = torch.tensor((500.0, 500.0))
    state[0, 0, 3] = 1.2
    kind = agents.kind.clone()
    kind[0, 0] = int(AgentKind.PEDESTRIAN)
    scene = dataclasses.replace(scene, agents=dataclasses.replace(agents, state=state, kind=kind))
    chain = torch.full((1, agents.valid.shape[1], 6), -1)
    zero = torch.zeros(1, agents.valid.shape[1])
    memory = begin(scene.road, scene.agents, chain, zero, zero, torch.zeros(1, agents.valid.shape[1], 4))
    memory = dataclasses.replace(memory, slide=zero + 0.6, push=zero)
    moved, _ = carry_out(scene.road, scene.agents, memory, find_ways(scene.road, scene.agents, memory), torch.tensor([0]))
    assert float(moved.heading[0, 0] - scene.agents.heading[0, 0]) == pytest.approx(0.36, abs=0.02)  # 3 turns a metre over 0.12 m


@pytest.fixture(scope="module")
def logs(tmp_path_factory) -> Path:
    """Two recordings of traffic."""
    folder = tmp_path_factory.mktemp("logs")
    with ShardWriter(folder) as writer:
        for number in range(2):
            track = driven_track(30 + 5 * number)
            frames = torch.zeros(track.steps, 8, 16, 3, dtype=torch.uint8)
            writer.add(Clip(frames, torch.zeros(track.steps, 2), track, {"split": "train", "source": "test", "seed": number, "dt": 0.1}))
    return folder


def driven_track(steps: int = 40) -> Track:
    """A recording of agents that IDM moved."""
    return Track.of(step_on(demo_scene(), make_traffic("idm", spawning=False), steps))


def test_recorded_motions_are_read_back() -> None:
    track = driven_track()
    moments = recorded_moments(track, torch.arange(5, 30, 5))
    here, later = moments.scene.agents, track.agents.map(lambda v: v[0, 10:35:5])
    known = moments.known
    assert bool(known.any())
    torch.testing.assert_close(moments.motion[..., 0][known], (later.speed - here.speed)[known])
    assert float(moments.motion[..., 1][known].abs().max()) < 1.0  # in half a second
    wanted, lost = motion_back(moments.scene, moments.memory, later)
    assert not bool(lost[known].any())
    torch.testing.assert_close(wanted[..., 0][known], moments.motion[..., 0][known], atol=0.35, rtol=0)


def test_training_learns_resumes_exactly_and_names_itself(tmp_path, logs) -> None:
    config = TrainTrafficConfig(
        str(logs), str(tmp_path / "whole"), steps=30, closed_steps=4, batch_size=64, closed_batch=2, unroll=3, threads=1
    )
    whole = TrafficNetwork.load(train_traffic(config))
    parts = dataclasses.replace(config, out=str(tmp_path / "parts"), minutes=1e-6)
    for _ in range(40):
        train_traffic(parts)
        if (tmp_path / "parts" / "state" / "state.json").read_text().find('"step": 34') >= 0:
            break
    resumed = TrafficNetwork.load(tmp_path / "parts" / "weights")
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, resumed.state_dict()[name], msg=name)
    with pytest.raises(CheckpointError, match="seed=0, not 1"):
        train_traffic(dataclasses.replace(config, seed=1))
    with pytest.raises(DataError, match="does not exist"):
        train_traffic(dataclasses.replace(config, data=str(tmp_path / "nothing_here")))


def test_bad_input_is_one_clear_line(tmp_path) -> None:
    with pytest.raises(ConfigError, match="unknown style 'pushi' of traffic; did you mean 'pushy'"):
        LearnedTraffic(network(), style="pushi")
    with pytest.raises(ConfigError, match="temperature=-1"):
        LearnedTraffic(network(), temperature=-1)
    with pytest.raises(CheckpointError, match="train-traffic"):
        TrafficNetwork.load(tmp_path)
    network().save(tmp_path)
    (tmp_path / "traffic.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="damaged"):
        TrafficNetwork.load(tmp_path)
    with pytest.raises(ConfigError, match="takes no such option"):
        make_traffic("idm", haste=3)


def test_groups_of_kinds() -> None:
    kinds = torch.tensor([int(k) for k in AgentKind])
    assert group_of(kinds).tolist() == [0, 0, 0, 1, 2, 0]


def test_a_network_grows_by_kinds_that_it_had_never_seen() -> None:
    torch.manual_seed(1)
    cars = torch.tensor([[0.5, 0.0], [-0.5, 0.0], [0.0, 0.3]])
    known = Vocabulary.cover(cars, torch.zeros(3, dtype=torch.int64))
    assert torch.bincount(known.group).tolist() == [4, 1, 1]
    walks = torch.tensor([[0.3, 0.0], [0.0, 0.2], [0.9, 0.0]])
    wider = known.grown(walks, torch.tensor([2, 2, 0]))
    assert bool((wider.motions[: len(known)] == known.motions).all())  # cars keep theirs, though one is new
    assert torch.bincount(wider.group).tolist() == [4, 1, 3]
    small = TrafficNetwork(known, TrafficSize(query=32, token=16, layers=1, heads=2)).eval()
    large = small.grown(wider)
    views = roads_views()
    group = torch.zeros(views.own.shape[:2], dtype=torch.int64)
    torch.testing.assert_close(large(views, group)[..., : len(known)], small(views, group))
    walkers = large(views, group + 2)
    assert int(torch.isfinite(walkers[0, 0]).sum()) == 3
    assert walkers[0, 0, 5] == walkers[0, 0, 6]  # new ones begin like the one that was there
    assert small.grown(known) is small


def roads_views():
    scene = roads.scene(roads.straight(), (0.0, 0.0, 0.0, 8.0), [(20.0, 0.0, 0.0, 8.0)])
    traffic = LearnedTraffic(network())
    agents, memory = traffic.reset(scene, torch.zeros(1, dtype=torch.int64))
    scene = dataclasses.replace(scene, agents=agents)
    ways = find_ways(scene.road, scene.agents, memory)
    return look_around(scene, scene.ego, memory, ways, torch.arange(3).unsqueeze(0))[0]
