from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from xpeng_world.camera import CAMERA
from xpeng_world.road import TREES, LaneKind, SceneryKind
from xpeng_world.scene import AgentKind, Ego
from xpeng_world.trees import crowns
from xpeng_world.world_model.video import mesh, raster
from xpeng_world.world_model.video.faces import Face
from xpeng_world.world_model.video.layout import CHANNEL, CHANNELS, SCENERY_CHANNELS, LayoutRasteriser, composite, without_scenery
from xpeng_world.world_model.video.mesh import MESHES_KEPT, MeshCache, build_mesh
from xpeng_world.world_model.video.warp import ego_motion, plane_flow, warp

_spec = importlib.util.spec_from_file_location("roads", Path(__file__).parents[1] / "roads.py")
roads = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(roads)


@pytest.fixture(scope="module")
def rasterise() -> LayoutRasteriser:
    return LayoutRasteriser()


def test_a_car_ahead_covers_the_pixels_its_box_projects_to(rasterise) -> None:
    scene = roads.scene_on(roads.straight_road(), ego=(20.0, -1.75, 0.0), agents=[roads.agent_row(AgentKind.CAR, 35.0, -1.75)])
    agent = rasterise(scene).channels[0, [CHANNEL[n] for n in ("body", "cabin", "rear_lamp", "wheel")]].float().sum(0) / 255
    rows, columns = torch.nonzero(agent > 0.5, as_tuple=True)
    rear = 15.0 - 4.6 / 2
    left, bottom = roads.pixel(rear, 1.85 / 2, 0.14 * 1.5)
    right, top = roads.pixel(rear, -1.85 / 2, 0.62 * 1.5)
    assert abs(columns.min() - left) < 1.5
    assert abs(columns.max() + 1 - right) < 1.5
    assert abs(rows.max() + 1 - roads.pixel(rear, 0, 0)[1]) < 1.5
    assert rows.min() < top < bottom


def test_pixels_of_a_road_user_know_their_place_in_its_box(rasterise) -> None:
    cars = [roads.agent_row(AgentKind.CAR, 30.0, -1.75), roads.agent_row(AgentKind.CAR, 34.0, 1.75, heading=math.pi)]
    scene = roads.scene_on(roads.straight_road(), ego=(20.0, -1.75, 0.0), agents=cars)
    along, across, up = rasterise(scene).channels[0, [CHANNEL[n] for n in ("along", "across", "up")]].float()
    owner = rasterise.instances(scene)[0]
    for slot, end in ((0, 0), (1, 255)):  # the back of one that goes ahead, the front of one that comes
        facing = (owner == slot) & ((along - end).abs() < 4)
        rows, columns = torch.nonzero(facing, as_tuple=True)
        sign = -1 if slot == 0 else 1  # its left is on the left of the picture when seen from behind
        assert len(rows) > 30
        for values, place, step in ((across, columns, sign), (up, rows, -1)):
            slope = torch.corrcoef(torch.stack((values[facing], place.float())))[0, 1]
            assert slope * step > 0.9
        assert up[facing].min() < 60
        assert up[facing].max() > 115  # above, both ends lean inward
    assert (along[owner < 0] > 0).float().mean() < 0.01  # pixels on an outline may be either's
    assert (along[owner >= 0] > 0).float().mean() > 0.97


def test_a_tall_car_is_a_van_and_the_box_of_a_truck_is_pale(rasterise) -> None:
    red = (0.8, 0.1, 0.1)
    cars = [roads.agent_row(AgentKind.CAR, 34.0, -1.75, size=(5.6, 2.05, height), colour=red) for height in (1.5, 2.4)]
    saloon, van = (
        rasterise(roads.scene_on(roads.straight_road(), ego=(20.0, -1.75, 0.0), agents=[row])).channels[0].float() for row in cars
    )
    for picture, windows_from, windows_to in ((saloon, 0.65, 0.9), (van, 0.6, 0.8)):
        height = 1.5 if picture is saloon else 2.4
        u, v = roads.pixel(34.0 - 20.0 - 2.8, 0.5, 0.5 * (windows_from + windows_to) * height)
        assert picture[CHANNEL["cabin"], int(v), int(u)] > 127
    u, v = roads.pixel(34.0 - 20.0 - 2.8, 0.0, 0.7 * 2.4)  # between its two rear windows
    assert van[CHANNEL["body"], int(v), int(u)] > 127
    truck = roads.agent_row(AgentKind.TRUCK, 40.0, -1.75, heading=math.pi / 2, colour=red)  # seen from the side
    channels = rasterise(roads.scene_on(roads.straight_road(), ego=(20.0, -1.75, 0.0), agents=[truck])).channels[0].float() / 255
    side = channels[CHANNEL["body"]] > 0.99
    assert side.sum() > 20
    for name, value in (("colour_r", 0.82), ("colour_g", 0.645)):
        assert channels[CHANNEL[name]][side].median() == pytest.approx(value, abs=0.02)


def test_a_bus_has_amber_displays_and_its_lamps_where_they_are_painted(rasterise) -> None:
    bus = roads.agent_row(AgentKind.BUS, 40.0, -1.75, colour=(0.2, 0.2, 0.8))
    for brake, lamp in ((False, "rear_lamp"), (True, "brake_lamp")):
        scene = roads.scene_on(roads.straight_road(), ego=(20.0, -1.75, 0.0), agents=[bus])
        scene.agents.brake[0, 0] = brake
        channels = rasterise(scene).channels[0].float() / 255
        rear, tall = 40.0 - 20.0 - 6.0, 3.2
        u, v = roads.pixel(rear, 0.0, 0.885 * tall)
        assert channels[CHANNEL["colour_r"] : CHANNEL["colour_b"] + 1, int(v), int(u)].tolist() == pytest.approx(
            [0.95, 0.62, 0.15], abs=0.1
        )
        assert (channels[[CHANNEL["front_lamp"], CHANNEL["display"]], int(v), int(u)] > 0.9).all()
        u, v = roads.pixel(rear, 0.0, 0.825 * tall)  # dark unless it brakes
        assert channels[CHANNEL[lamp], int(v), int(u)] > 0.2
        assert channels[CHANNEL["stop_lamp"], int(v), int(u)] == (0.0 if brake else channels[CHANNEL["rear_lamp"], int(v), int(u)])
        u, v = roads.pixel(rear, 0.4 * 2.55, 0.33 * tall)
        assert channels[CHANNEL["stop_lamp"], int(v), int(u)] == channels[CHANNEL["display"], int(v), int(u)] == 0
        assert channels[CHANNEL[lamp], int(v), int(u)] > 0.4


def test_what_is_behind_the_camera_costs_no_faces_and_a_crash_barrier_stands_left_of_fast_lanes(rasterise) -> None:
    behind = roads.agent_row(AgentKind.CAR, 5.0, -1.75)
    scene = roads.scene_on(roads.straight_road(), ego=(20.0, -1.75, 0.0), agents=[behind])
    assert len(rasterise._see(scene, 0).owner) == 0
    road = roads.straight_road(oncoming=0)
    slow, fast = (
        rasterise(roads.scene_on(dataclasses.replace(road, speed_limit=torch.full_like(road.speed_limit, limit)), ego=(20.0, -1.75, 0.0)))
        for limit in (20.0, 30.0)
    )
    slow, fast = (layout.channels[0, CHANNEL["pole"]] for layout in (slow, fast))
    assert slow.max() == 0
    rows, columns = torch.nonzero(fast > 127, as_tuple=True)
    assert len(rows) > 10
    u, v = roads.pixel(10.0, 1.75 + 0.7, 0.6)  # the lane's left edge is 1.75 m to the left of the ego
    assert bool(((rows - int(v)).abs() + (columns - int(u)).abs() <= 1).any())


def test_a_nearer_box_hides_a_farther_one_and_depth_is_the_distance_along_the_axis(rasterise) -> None:
    near = roads.agent_row(AgentKind.BUS, 40.0, -1.75, colour=(1.0, 0.0, 0.0))
    far = roads.agent_row(AgentKind.CAR, 70.0, -1.75, colour=(0.0, 0.0, 1.0))
    for order in ([near, far], [far, near]):
        channels = rasterise(roads.scene_on(roads.straight_road(), ego=(20.0, -1.75, 0.0), agents=order)).channels[0].float() / 255
        assert (channels[CHANNEL["colour_b"]] - channels[CHANNEL["colour_r"]]).max() < 0.05
        row, column = 34, 64  # the back of the bus
        inverse = channels[CHANNEL["inverse_depth"], row, column].square() / 2.5
        assert 1 / inverse == pytest.approx((40 - 20 - 6 - 0.8), rel=0.05)


def test_instances_name_the_nearest_road_user_and_signal_of_each_pixel(rasterise) -> None:
    rows = [roads.agent_row(AgentKind.CAR, 12.0, -1.75), roads.agent_row(AgentKind.TRUCK, 30.0, 1.75)]
    scene = roads.scene_on(roads.straight_road(), ego=(0.0, -1.75, 0.0), agents=rows)
    owner, channels = rasterise.instances(scene)[0], rasterise(scene).channels[0]
    painted = channels[[CHANNEL[name] for name in ("body", "cabin", "wheel", "rear_lamp")]].int().sum(0)
    assert ((owner == 0) | (owner == 1)).eq(painted > 127).float().mean() > 0.98
    u, v = roads.pixel(12.0 - 2.2, 0.0, 0.8)
    assert owner[int(v), int(u)] == 0
    assert (owner == 0).sum() > (owner == 1).sum() > 0
    crossing = roads.scene_on(roads.crossing(), ego=(-25.0, -1.75, 0.0))
    heads = set(rasterise.instances(crossing)[0].unique().tolist()) - {-1}
    assert heads
    assert all(-2 - head in range(crossing.signals.shape[1]) for head in heads)


def test_brake_lights_and_signals_show_their_state(rasterise) -> None:
    for brake in (False, True):
        row = roads.agent_row(AgentKind.CAR, 12.0, -1.75, brake=brake)
        channels = rasterise(roads.scene_on(roads.straight_road(), ego=(0.0, -1.75, 0.0), agents=[row])).channels[0].float() / 255
        lit, dark = channels[CHANNEL["brake_lamp"]].sum(), channels[CHANNEL["rear_lamp"]].sum()
        assert (lit > 1) == brake
        assert (dark > 1) != brake
    scene = roads.scene_on(roads.crossing(), ego=(-25.0, -1.75, 0.0))
    for state, name in enumerate(("red", "yellow", "green"), start=1):
        signals = torch.zeros_like(scene.signals)
        signals[0, 0] = state
        channels = rasterise(dataclasses.replace(scene, signals=signals)).channels[0].float().sum((1, 2))
        shown = {n: channels[CHANNEL[n]].item() for n in ("red", "yellow", "green")}
        assert shown.pop(name) > 100
        assert sum(shown.values()) == 0


def test_the_layout_ignores_where_in_the_world_it_is_and_what_else_is_in_the_batch(rasterise) -> None:
    scenes = [
        roads.scene_on(roads.straight_road(scenery=True), ego=(x, -1.75, 0.02), agents=[roads.agent_row(AgentKind.CAR, x + 14, -1.75)])
        for x in (30.0, 60.0)
    ]
    both = rasterise(type(scenes[0]).cat(scenes)).channels
    for b, scene in enumerate(scenes):
        assert torch.equal(both[b], rasterise(scene).channels[0])


def test_flow_finds_the_same_road_point_in_the_previous_frame(rasterise) -> None:
    road = roads.straight_road(scenery=True)
    car = lambda x: [roads.agent_row(AgentKind.CAR, x, -5.25, speed=10.0)]
    before = roads.scene_on(road, ego=(20.0, -1.75, 0.0), agents=car(35.0))
    now = roads.scene_on(road, ego=(21.0, -1.7, 0.03), agents=car(36.0))
    layout = rasterise(now, before)
    picture = rasterise(before).channels[:, [CHANNEL["road"], CHANNEL["body"], CHANNEL["building"]]].float()
    moved, seen = warp(picture, layout.flow)
    true = layout.channels[:, [CHANNEL["road"], CHANNEL["body"], CHANNEL["building"]]].float()
    copied = (picture - true).abs().mean((0, 2, 3))
    error = ((moved - true).abs() * seen).mean((0, 2, 3))
    assert (error < torch.tensor([0.45, 0.55, 0.45]) * copied).all(), (error, copied)  # of a body there are finer parts


def test_plane_flow_equals_the_layouts_flow_on_bare_ground(rasterise) -> None:
    road = roads.straight_road()
    before, now = roads.scene_on(road, ego=(20.0, -1.75, 0.0)), roads.scene_on(road, ego=(21.2, -1.6, 0.04))
    flow = rasterise(now, before).flow
    plane = plane_flow(ego_motion(before.ego.state, now.ego.state))
    assert (flow - plane)[:, :, 36:].abs().max() < 0.02


def test_without_motion_the_warp_is_the_identity(rasterise) -> None:
    scene = roads.scene_on(roads.straight_road(scenery=True), ego=(20.0, -1.75, 0.3))
    flow = rasterise(scene).flow
    image = torch.rand(1, 3, CAMERA.height, CAMERA.width)
    moved, seen = warp(image, flow)
    assert torch.allclose(moved, image, atol=1e-3)
    assert seen.min() == 1


def test_composite_and_scenery_removal(rasterise) -> None:
    layout = rasterise(roads.scene_on(roads.straight_road(scenery=True), ego=(20.0, -1.75, 0.0)))
    picture = composite(layout)
    assert picture.shape == (1, CAMERA.height, CAMERA.width, 3)
    assert picture.dtype == torch.uint8
    bare, there = without_scenery(layout.channels)
    for name in ("building", "shade", "facade"):
        assert layout.channels[:, CHANNEL[name]].max() > bare[:, CHANNEL[name]].max() == 0
    assert torch.equal(there, layout.channels[:, list(SCENERY_CHANNELS)].sum(1, keepdim=True) > 0)
    assert layout.channels[:, CHANNEL["building"]].max() == 255
    assert torch.equal(bare[:, CHANNEL["road"], -8:], layout.channels[:, CHANNEL["road"], -8:])
    assert layout.channels.shape[1] == len(CHANNELS)


@pytest.mark.parametrize("kind", TREES)
def test_trees_have_round_or_conical_crowns(rasterise, kind) -> None:
    draft = roads._Draft()
    draft.lane((0.0, 0.0), (200.0, 0.0))
    draft.scenery.append((14.0, 0.0, 0.0, 4.0, 4.0, 6.0, kind, (0.2, 0.45, 0.15)))
    road = draft.build()
    channels = rasterise(roads.scene_on(road, ego=(0.0, 0.0, 0.0))).channels[0].float() / 255
    (rings,) = crowns(road.scenery[0, :1].numpy(), np.array([0]), kind)
    widest = rings[..., 1].max(1) - rings[..., 1].min(1)
    assert widest.argmax() == (0 if kind == SceneryKind.CONIFER else 1)
    for low, high in itertools.pairwise(rings):
        points = 0.5 * (low + high)  # halfway up, where the silhouette is that of the edges between two rings
        places = [roads.pixel(float(x), float(y), float(z)) for x, y, z in points]
        columns = torch.nonzero(channels[CHANNEL["tree"], int(np.mean([v for _, v in places]))] > 0.5).flatten()
        assert columns.min() == pytest.approx(min(u for u, _ in places), abs=1.3)
        assert columns.max() + 1 == pytest.approx(max(u for u, _ in places), abs=1.3)
    normals = build_mesh(road).solid_normal
    assert np.allclose(np.linalg.norm(normals, axis=1), 1.0, atol=1e-5)


def test_a_mesh_is_built_once_for_each_map_however_it_is_padded(monkeypatch) -> None:
    built = []
    monkeypatch.setattr(mesh, "build_mesh", lambda road: built.append(road) or build_mesh(road))
    monkeypatch.setattr(MeshCache, "_built", OrderedDict())
    small, large = roads.crossing(scenery=True), roads.straight_road(length=150.0)
    both = type(small).cat([large, small])
    ours, theirs = MeshCache(), MeshCache()
    first = ours.get(small)
    assert ours.get(both, 1) is theirs.get(both, 1) is theirs.get(small) is first
    assert ours.get(both, 0) is theirs.get(large)
    assert len(built) == 2
    higher = dataclasses.replace(small, signal_head=small.signal_head + torch.tensor([0.0, 0.0, 0.5, 0.0]))  # the masts are as well
    assert ours.get(higher) is not first
    painted = dataclasses.replace(small, scenery_colour=small.scenery_colour + 0.1)
    assert all(ours.get(painted) is not other for other in (first, ours.get(higher)))
    assert ours.get(dataclasses.replace(small, phase_offset=small.phase_offset + 1.0)) is first
    for step in range(MESHES_KEPT + 1):
        ours.get(dataclasses.replace(large, width=large.width + 0.01 * step))
    assert len(MeshCache._built) == MESHES_KEPT
    assert ours.get(dataclasses.replace(small)) is not first  # the one that was not asked for longest has gone


def test_ego_motion_is_the_previous_pose_seen_from_now() -> None:
    before = Ego(torch.tensor([[0.0, 0, 0, 0, 0, 0, 0]]))
    now = Ego(torch.tensor([[2.0, 1.0, math.pi / 2, 0, 0, 0, 0]]))
    assert torch.allclose(ego_motion(before.state, now.state), torch.tensor([[-1.0, 2.0, -math.pi / 2]]), atol=1e-6)


def test_crossings_have_stripes_where_walkers_cross_lanes(rasterise) -> None:
    draft = roads._Draft()
    draft.lane((0.0, 0.0), (100.0, 0.0))
    over = [draft.lane((40.0, -4.0), (40.0, 4.0), kind=LaneKind.WALKING, width=4.0)]
    over.append(draft.lane((40.0, 4.0), (40.0, -4.0), kind=LaneKind.WALKING, width=4.0))  # the same way back
    draft.lane((0.0, 6.0), (100.0, 6.0), kind=LaneKind.WALKING, width=2.0)  # a pavement
    stripes = build_mesh(draft.build())
    quads = stripes.ground[stripes.ground_class == int(Face.DASH)]
    assert len(quads) == 7  # 8 m of stripes and gaps of half a metre, but for the first
    assert torch.tensor(quads[..., 0].min()) == 38.0
    assert torch.tensor(quads[..., 0].max()) == 42.0
    assert abs(quads[..., 1]).max() < 4.0
    white = rasterise(roads.scene_on(draft.build(), ego=(30.0, 0.0, 0.0), agents=[])).channels[0, CHANNEL["dash"]]
    assert int((white > 128).sum()) > 40


@pytest.mark.parametrize("factor", [2, 3])
def test_channels_are_averages_over_the_fine_pixels(factor: int) -> None:
    rng = np.random.default_rng(0)
    height, width, count = 6, 10, 7
    static = rng.integers(0, 256, (4, len(CHANNELS)), dtype=np.uint8)
    moving = rng.integers(0, 256, (3, len(CHANNELS)), dtype=np.uint8)
    ground = rng.integers(0, 256, len(CHANNELS), dtype=np.uint8)
    buffer = rng.integers(-1, count, (height * factor, width * factor)).astype(np.int32)
    buffer[: 2 * factor] = np.repeat(np.arange(-1, width - 1) % 7, factor)  # some pixels of one face each
    out = np.empty((len(CHANNELS), height, width), np.uint8)
    depth, tall = CHANNEL["inverse_depth"], CHANNEL["height"]
    focal = 10.0 * factor
    inverse = np.where(rng.random(buffer.shape) < 0.5, rng.random(buffer.shape), 0).astype(np.float32)
    faces, depths = np.empty((height, width), np.int32), np.empty((height, width), np.float32)
    raster.compose(buffer, inverse, static, moving, ground, 1.5, focal, 0.0, factor, depth, tall, out, faces, depths)
    blocks = lambda fine: fine.reshape(height, factor, width, factor).transpose(0, 2, 1, 3).reshape(height, width, -1)
    first = blocks(inverse).argmax(-1)[..., None]
    assert np.array_equal(depths, blocks(inverse).max(-1))
    assert np.array_equal(faces, np.where(depths > 0, np.take_along_axis(blocks(buffer), first, -1)[..., 0], raster.BACKGROUND))
    below = (np.arange(height * factor) + 0.5 > height * factor / 2)[:, None, None]  # the horizon
    rows = np.where(buffer[..., None] >= 0, np.concatenate((static, moving))[buffer], ground * below)
    total = rows.reshape(height, factor, width, factor, -1).astype(int).sum((1, 3))
    rest = [index for index in range(len(CHANNELS)) if index not in (depth, tall)]
    assert np.array_equal(out[rest], ((2 * total + factor**2) // (2 * factor**2)).transpose(2, 0, 1)[rest])  # halves are rounded up
    standing = blocks(inverse) > 0
    roots = np.sqrt(np.minimum(2.5 * blocks(inverse), 1.0)).sum(-1) / standing.sum(-1).clip(1)
    assert np.abs(out[depth] - 255 * roots)[standing.any(-1)].max() <= 1.001


def test_of_two_faces_that_share_an_edge_the_one_drawn_first_has_it() -> None:
    lid = np.array([[10.0, 0.8, 0.9], [10.0, -0.8, 0.9], [11.0, -0.7, 0.95], [11.0, 0.7, 0.95]], np.float32)
    rear = np.array([[10.0, 0.8, 0.9], [10.0, -0.8, 0.9], [10.0, -0.8, 0.3], [10.0, 0.8, 0.3]], np.float32)
    normals, extents = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]], np.float32), np.full(2, 3.0, np.float32)
    optics = np.asarray([3 * CAMERA.focal, CAMERA.above_ground, CAMERA.forward, CAMERA.pitch])
    shared = 0
    for turn in np.linspace(-0.2, 0.2, 15):
        owners = []
        for order in ((0,), (1,), (0, 1), (1, 0)):
            buffer = np.full((3 * CAMERA.height, 3 * CAMERA.width), raster.BACKGROUND, np.int32)
            faces, looks = np.stack((lid, rear))[list(order)], normals[list(order)]
            drawn = (buffer, np.zeros(buffer.shape, np.float32))
            raster.draw_solid(
                faces, looks, extents[: len(order)], 0, np.array([0.0, 0.0, turn]), optics, np.full(2, 99.0, np.float32), *drawn
            )
            owners.append(buffer)
        both = (owners[0] == 0) & (owners[1] == 0)  # either is seen there when it is alone
        assert (owners[2][both] == 0).all()
        assert (owners[3][both] == 0).all()
        shared += both.sum()
    assert shared > 150
