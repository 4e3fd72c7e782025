"""Road maps: whole, linked and sane in all families."""

import dataclasses

import numpy as np
import pytest
import torch
from xpeng_world.errors import DataError
from xpeng_world.geometry import box_corners, boxes_overlap, polyline_lengths, project_polyline
from xpeng_world.reference.families import Plan
from xpeng_world.reference.networks import Network, build_network, convert, sumo_home
from xpeng_world.reference.roadmap import read_road_map
from xpeng_world.reference.routes import plan_lanes, route_along
from xpeng_world.reference.scenery import furnish
from xpeng_world.road import BUILDINGS, LANE_PIECE, TREES, Border, LaneKind, SceneryKind, SignalState
from xpeng_world.scenario import FAMILIES

CASES = [(family, seed) for family in FAMILIES for seed in (0, 1)]


@pytest.fixture(scope="module")
def maps():
    return {case: read_road_map(build_network(*case)) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_lanes_are_pieces_that_follow_each_other(maps, case):
    road, _ = maps[case]
    length = polyline_lengths(road.centreline)[0]
    assert float(length.max()) <= LANE_PIECE + 0.01
    assert float(length.min()) > 0.2
    assert bool((road.width[road.kind != int(LaneKind.WALKING)] > 2.5).all())
    assert bool(((road.speed_limit > 1) & (road.speed_limit < 40)).all())
    ends, starts = road.centreline[0, :, -1], road.centreline[0, :, 0]
    driven = road.kind[0] != int(LaneKind.WALKING)
    for k in range(4):
        after = road.successors[0, :, k]
        gap = (ends - starts[after.clamp_min(0)]).norm(dim=-1)[(after >= 0) & driven]
        assert float(gap.max() if len(gap) else 0) < 0.5
    junction = road.kind[0] == int(LaneKind.JUNCTION)
    assert bool((road.successors[0, junction, 0] >= 0).all()), "a junction lane leads onto a lane"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_neighbours_lie_beside_and_borders_tell_the_directions_apart(maps, case):
    road, _ = maps[case]
    for near, sign, far in ((road.left[0], 1, road.right[0]), (road.right[0], -1, road.left[0])):
        lane = torch.nonzero((near >= 0) & (road.kind[0] == int(LaneKind.DRIVING))).flatten()
        if not len(lane):
            continue
        assert torch.equal(far[near[lane]], lane)
        middle = road.centreline[0, near[lane], 6]
        _, lateral, _ = project_polyline(middle, road.centreline[0, lane])
        expected = sign * 0.5 * (road.width[0, lane] + road.width[0, near[lane]])
        assert float((lateral - expected).abs().max()) < 0.6
    driving = road.kind[0] == int(LaneKind.DRIVING)
    innermost = driving & (road.left[0] < 0)
    inner = Border.EDGE if case[0] == "motorway" else Border.CENTRE
    ring = road.speed_limit[0] < 8.0  # a roundabout has one way only
    assert bool((road.left_border[0, innermost & ~ring] == int(inner)).all())
    assert bool((road.left_border[0, driving & (road.left[0] >= 0)] == int(Border.DASHED)).all())
    assert bool((road.right_border[0, driving & (road.right[0] < 0)] == int(Border.EDGE)).all())


@pytest.mark.parametrize("seed", [0, 1])
def test_signals_stand_at_the_end_of_their_lane(maps, seed):
    road, index = maps["city", seed]
    lane = road.signal_lane[0]
    assert len(lane) == len(index.signals) > 40
    end = road.centreline[0, lane, -1]
    assert float((road.stop_line[0].mean(1) - end).norm(dim=-1).max()) < 0.01
    relative = road.signal_head[0, :, :2] - end
    along = (relative * torch.stack((road.signal_head[0, :, 3].cos(), road.signal_head[0, :, 3].sin()), -1)).sum(-1)
    assert float((along - 20).abs().max()) < 0.05
    shown = torch.stack([road.signals_at(torch.tensor([float(t)]))[0] for t in range(64)])
    for state in (SignalState.RED, SignalState.YELLOW, SignalState.GREEN):
        assert bool((shown == int(state)).any(0).all()), f"every signal shows {state.name} at some time"


def test_other_families_have_no_signal(maps):
    for family in ("motorway", "country"):
        assert bool((maps[family, 0][0].signal_lane == -1).all())


def test_left_hand_traffic_is_mirrored():
    road, _ = read_road_map(build_network("country", 0, "left"))
    assert int(road.traffic_side) == -1
    driving = road.kind[0] == int(LaneKind.DRIVING)
    assert bool((road.right_border[0, driving] == int(Border.CENTRE)).all())
    assert bool((road.left_border[0, driving] == int(Border.EDGE)).all())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_route_runs_on_its_lanes(maps, case):
    road, index = maps[case]
    start = max(index.edges, key=index.edge_length)
    edges = [start]
    while index.following(edges[-1]) and len(edges) < 6:
        edges.append(index.following(edges[-1])[-1])
    route = route_along(index, edges)
    points = route.points[0]
    step = (points[1:] - points[:-1]).norm(dim=-1)
    assert float((step - 2.0).abs().max()) < 0.1
    assert float(route.length) == pytest.approx(2.0 * (len(points) - 1))
    mine = route.lane_mask(road.width.shape[1])[0]
    _, lateral, _ = project_polyline(points.unsqueeze(0), road.centreline[0, mine].unsqueeze(1))
    assert float(lateral.abs().amin(0).max()) < 2.0
    heading = torch.atan2(*(points[1:] - points[:-1]).T.flip(0))
    turn = torch.remainder(heading[1:] - heading[:-1] + torch.pi, 2 * torch.pi) - torch.pi
    assert float(turn.abs().max()) < 0.7, "no kinks"
    entry, leave = plan_lanes(index, edges)[0]
    assert entry == leave


def test_the_lane_index_finds_pieces(maps):
    road, index = maps["country", 0]
    name = max(index.pieces, key=lambda lane: index.lanes[lane].length)
    pieces = index.pieces[name]
    assert index.piece_at(name, 0.0) == pieces[0]
    assert index.piece_at(name, index.lanes[name].length) == pieces[-1]
    assert index.piece_at("nowhere_0", 3.0) == -1
    assert road.successors[0, pieces[0], 0] == pieces[1]


@pytest.mark.parametrize("case", [(family, 0) for family in FAMILIES], ids=str)
def test_scenery_keeps_off_the_road_and_apart(maps, case):
    bare, _ = maps[case]
    road = furnish(bare, case[1])
    count = int((road.scenery_kind > 0).sum())
    assert (100 if case[0] == "town" else 200) <= count <= 500
    boxes = road.scenery[0]
    corners = box_corners(boxes[:, :2], boxes[:, 2], boxes[:, 3], boxes[:, 4])
    vertices = road.centreline[0].flatten(0, 1)
    reach = (road.width[0] / 2).repeat_interleave(road.centreline.shape[2])
    gap = torch.cdist(corners.flatten(0, 1), vertices) - reach
    assert float(gap.min()) >= 2.0
    near = torch.cdist(boxes[:, :2], boxes[:, :2]) < 60
    a, b = torch.nonzero(near.triu(1), as_tuple=True)
    assert not bool(boxes_overlap(corners[a], corners[b]).any())
    again = furnish(bare, case[1])
    assert torch.equal(again.scenery, road.scenery)
    assert torch.equal(again.scenery_kind, road.scenery_kind)
    assert not torch.equal(furnish(bare, case[1] + 7).scenery, road.scenery)


def test_tall_buildings_and_trees_vary(maps):
    road = furnish(maps["city", 0][0], 0)
    kind, boxes = road.scenery_kind[0], road.scenery[0]
    count = {one: int((kind == int(one)).sum()) for one in SceneryKind}
    assert min(count[one] for one in (*BUILDINGS, *TREES)) > 5
    special = torch.isin(kind, torch.tensor([int(one) for one in BUILDINGS[1:]]))
    assert float(boxes[special, 5].min()) >= 7.5  # houses and walls have single windows or none
    assert float(boxes[special, 3:5].min()) >= 1.5


def test_a_broken_network_is_refused_in_one_line(tmp_path):
    path = tmp_path / "broken.net.xml"
    network = Network(path, "city", 0)
    with pytest.raises(DataError, match="cannot read"):
        read_road_map(network)
    path.write_text("<net></net>")
    with pytest.raises(DataError, match="no lanes for cars"):
        read_road_map(dataclasses.replace(network, path=path))
    path.write_text("<net>")
    with pytest.raises(DataError, match="cannot read"):
        read_road_map(network)


@pytest.mark.parametrize(
    ("kind", "signed"), [("priority_stop", ["s_c", "n_c"]), ("allway_stop", ["s_c", "n_c", "w_c", "e_c"]), ("priority", [])]
)
def test_stop_signs_stand_where_sumo_has_them(tmp_path, kind, signed):
    """A side road from south to north crosses a bigger one; with `priority_stop` it stops, with `allway_stop` all do."""
    plan = Plan(nodes={"c": (0, 0, kind)})
    for name, x, y, priority in (("w", -100, 0, 5), ("e", 100, 0, 5), ("s", 0, -100, 1), ("n", 0, 100, 1)):
        plan.nodes[name] = (x, y, "dead_end")
        plan.both_ways(name, "c", np.array([(x, y), (0, 0)], dtype=float), 1, 13.9, 3.2, priority)
    for start in "wesn":
        for end in "wesn":
            if start != end:
                plan.connections.append((f"{start}_c", f"c_{end}", 0, 0))
    path = tmp_path / "crossing.net.xml"
    convert(plan, path, sumo_home(), np.random.default_rng(0), left=False)
    road, index = read_road_map(Network(path, "city", 0))
    stands = road.signal_lane[0] >= 0
    lanes = [next(lane for lane, pieces in index.pieces.items() if int(piece) in pieces) for piece in road.signal_lane[0][stands]]
    assert sorted(lanes) == sorted(f"{edge}_0" for edge in signed)
    shown = road.signals_at(torch.tensor([3.0]))[0]
    assert bool((shown[stands] == int(SignalState.STOP_SIGN)).all())
    for piece, line, head in zip(road.signal_lane[0][stands], road.stop_line[0][stands], road.signal_head[0][stands], strict=True):
        torch.testing.assert_close(line.mean(0), road.centreline[0, piece, -1])  # at the end of the lane
        aside = head[:2] - line.mean(0)
        assert float(aside.norm()) == pytest.approx(0.5 * 3.2 + 1.0, abs=0.01)
        right = torch.stack((torch.sin(head[3]), -torch.cos(head[3])))
        assert float((aside * right).sum()) > 2.5
