from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from xpeng_world.data import import_commonroad, read_clips
from xpeng_world.errors import DataError
from xpeng_world.geometry import project_polyline
from xpeng_world.road import LaneKind, SignalState

REAL = Path(os.environ.get("XPENG_WORLD_DATA", Path(__file__).resolve().parents[2] / "../shared/data")) / "commonroad_ngsim"


def lanelet(name: int, start: float, end: float, extra: str = "") -> str:
    """A straight lanelet to the east, 3 m wide."""
    line = lambda side: "".join(f"<point><x>{x}</x><y>{side * 1.5}</y></point>" for x in (start, 0.5 * (start + end), end))
    return f'<lanelet id="{name}"><leftBound>{line(1)}</leftBound><rightBound>{line(-1)}</rightBound>{extra}</lanelet>'


def car(name: int, x: float, speed: float, steps: int, skip: int | None = None, y: float = 0.0) -> str:
    state = lambda k: (
        f"<position><point><x>{x + 0.1 * speed * k}</x><y>{y}</y></point></position><orientation><exact>0</exact></orientation>"
        f"<time><exact>{k}</exact></time><velocity><exact>{speed}</exact></velocity>"
    )
    states = "".join(f"<state>{state(k)}</state>" for k in range(1, steps) if k != skip)
    return (
        f'<dynamicObstacle id="{name}"><type>car</type><shape><rectangle><length>4.5</length><width>1.8</width></rectangle></shape>'
        f"<initialState>{state(0)}</initialState><trajectory>{states}</trajectory></dynamicObstacle>"
    )


LIGHT = (
    '<trafficLight id="9"><cycle><cycleElement><duration>20</duration><color>red</color></cycleElement>'
    "<cycleElement><duration>30</duration><color>green</color></cycleElement><timeOffset>10</timeOffset></cycle></trafficLight>"
)


def scenario(tmp_path: Path, *parts: str, name: str = "a", head: str = 'commonRoadVersion="2020a" timeStepSize="0.1"') -> Path:
    path = tmp_path / f"{name}.xml"
    path.write_text(f"<commonRoad {head}>{''.join(parts)}</commonRoad>")
    return path


ROAD = (
    lanelet(1, 0, 100, '<successor ref="2"/><trafficLightRef ref="9"/>'),
    lanelet(2, 100, 200, '<predecessor ref="1"/>'),
    LIGHT,
)


def test_lanes_signals_and_motion_are_those_of_the_file(tmp_path) -> None:
    path = scenario(tmp_path, *ROAD, car(11, 20, 10, 40), car(12, 40, 10, 30))
    import_commonroad(path, tmp_path / "out", test_share=0)
    (clip,) = read_clips(tmp_path / "out", frames=False)
    track, offset = clip.track, torch.tensor(clip.provenance["offset"])
    assert clip.provenance["camera"] == "none"
    assert clip.provenance["ego"] == "11"  # it is recorded longer
    assert clip.steps == 40
    wanted = torch.stack((20 + torch.arange(40.0), torch.zeros(40)), -1)
    torch.testing.assert_close(track.ego.position[0] + offset, wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(track.ego.speed[0], torch.full((40,), 10.0))
    assert track.agents.valid[0, :, 0].tolist() == [True] * 30 + [False] * 10
    road = track.road
    assert road.kind[0].tolist() == [int(LaneKind.DRIVING)] * 4  # two lanelets of two pieces
    assert road.successors[0, :, 0].tolist() == [1, 2, 3, -1]
    assert float(road.width[0, 0]) == pytest.approx(3.0)
    red = track.signals[0, :, 0] == int(SignalState.RED)  # red in steps 10 to 29 of a cycle of 50
    assert red.tolist() == [10 <= k < 30 for k in range(40)]
    _, lateral, _ = project_polyline(track.ego.position[0, :30], track.road.centreline[0, 0].expand(30, 12, 2))
    assert float(lateral.abs().max()) < 1e-3
    assert float(track.route.length) > 100


def test_every_vehicle_can_be_the_ego(tmp_path) -> None:
    path = scenario(tmp_path, *ROAD, car(11, 20, 10, 40), car(12, 40, 10, 30), car(13, 60, 10, 5))
    report = import_commonroad(path, tmp_path / "out", test_share=0, egos="all")
    assert report.clips == {"train": 2}  # the third is too short to be one


def test_a_file_is_of_one_split(tmp_path) -> None:
    for name in "abcd":
        scenario(tmp_path, *ROAD, car(11, 20, 10, 40), name=name)
    report = import_commonroad(tmp_path, tmp_path / "out", test_share=0.5)
    assert report.clips == {"train": 2, "test": 2}


def test_what_is_impossible_is_left_out_and_counted(tmp_path) -> None:
    gap = lanelet(3, 300, 400)
    zero = lanelet(4, 500, 500)
    broken = lanelet(1, 0, 100, '<successor ref="3"/><successor ref="77"/>')
    path = scenario(tmp_path, broken, gap, zero, car(11, 20, 10, 40), car(12, 22, 10, 40), car(13, 60, 10, 40, skip=7))
    report = import_commonroad(path, tmp_path / "out", test_share=0)
    assert report.left_out == {
        "road users with missing moments": 1,
        "road users that appear inside another": 1,
        "lanes of no length": 1,
        "links across a gap of the map": 2,
    }
    assert "1 road users that appear inside another" in report.summary("out")


@pytest.mark.parametrize(
    ("head", "parts", "message"),
    [
        ('commonRoadVersion="2017a" timeStepSize="0.1"', ROAD, "CommonRoad 2017a; read are 2018b and 2020a"),
        ('commonRoadVersion="2020a" timeStepSize="0.04"', ROAD, "steps of 0.04 s, not 0.1 s"),
        ('commonRoadVersion="2020a" timeStepSize="0.1"', (car(11, 20, 10, 40),), "no lanelet"),
        ('commonRoadVersion="2020a" timeStepSize="0.1"', (*ROAD, car(11, 20, 10, 40).replace("<y>0.0</y>", "<y>zero</y>")), "'zero' where"),
        ('commonRoadVersion="2020a" timeStepSize="0.1"', (*ROAD, car(11, 20, 10, 4)), "no vehicle .* is recorded for 1.6 s"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, head, parts, message) -> None:
    with pytest.raises(DataError, match=message):
        import_commonroad(scenario(tmp_path, *parts, head=head), tmp_path / "out", test_share=0)


def test_entities_are_not_read(tmp_path) -> None:
    path = tmp_path / "evil.xml"
    path.write_text('<!DOCTYPE x [<!ENTITY a "b">]><commonRoad commonRoadVersion="2020a" timeStepSize="0.1">&a;</commonRoad>')
    with pytest.raises(DataError, match="document type"):
        import_commonroad(path, tmp_path / "out")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no recordings in {REAL}")
def test_recorded_people_drive_on_their_lanes(tmp_path) -> None:
    report = import_commonroad(REAL, tmp_path / "out", test_share=0.5)
    assert report.clips == {"train": 2, "test": 2}
    for clip in read_clips(tmp_path / "out", split="train", frames=False):
        track = clip.track
        lane = track.road.nearest_lanes(track.ego.position, 1)[0, :, 0]
        _, lateral, _ = project_polyline(track.ego.position[0], track.road.centreline[0, lane])
        assert float(lateral.abs().mean()) < 1.0
