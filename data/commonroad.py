"""CommonRoad scenarios (2018b and 2020a) to clips: lanelets as the road, recorded vehicles as ego and agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..errors import DataError, nearest
from ..road import Border, LaneKind, SignalState
from ..scene import DT, AgentKind
from .plan import ImportReport, licence_beside, open_output, project_version
from .recorded_lanes import Points, RecordedLane, build_road
from .recorded_traffic import RecordedUser, clips_of, drop_impossible

VERSIONS = ("2018b", "2020a")
LIMIT = 13.89  # m/s where a map says none
EGOS = ("all", "longest")
NARROWEST = 1.0  # m
_KINDS = {
    "car": AgentKind.CAR, "taxi": AgentKind.CAR, "motorcycle": AgentKind.BICYCLE, "truck": AgentKind.TRUCK, "bus": AgentKind.BUS,
    "bicycle": AgentKind.BICYCLE, "pedestrian": AgentKind.PEDESTRIAN, "parkedVehicle": AgentKind.STATIC, "priorityVehicle": AgentKind.CAR,
}  # fmt: skip
_COLOURS = {
    "red": SignalState.RED, "yellow": SignalState.YELLOW, "green": SignalState.GREEN, "redYellow": SignalState.YELLOW,
    "inactive": SignalState.OFF,
}  # fmt: skip
_BORDERS = {
    "solid": Border.EDGE, "broad_solid": Border.EDGE, "dashed": Border.DASHED, "broad_dashed": Border.DASHED, "curb": Border.EDGE,
    "lowered_curb": Border.EDGE,
}  # fmt: skip


def import_commonroad(
    path: str | Path,
    out: str | Path,
    clip_steps: int = 300,
    min_steps: int = 16,
    test_share: float = 0.2,
    egos: str = "longest",
    licence: str | None = None,
    append: bool = False,
) -> ImportReport:
    """Read a scenario file, or all of a folder, and write clips; the last `test_share` of the files are the test split.

    Args:
        path: an XML file or a folder of them.
        out: folder for the shards.
        clip_steps: frames of the longest clip.
        min_steps: shorter remains are left out.
        test_share: share of the files, in the order of their names, that is the test split; a file is never in both.
        egos: "all" makes a clip of every motor vehicle's view, "longest" one of the vehicle that is recorded longest.
        licence: of the recording; by default the first line of the LICENSE file beside it.
        append: allow clips in `out` already.

    Raises:
        DataError: not CommonRoad, a version or time step that is not read, or nothing in it to drive.

    Source: CommonRoad: Documentation of the XML Format, version 2020a (Althoff et al.).
    """
    path = Path(path)
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"no CommonRoad scenario (*.xml) in '{path}'")
    if egos not in EGOS:
        raise DataError(f"unknown egos '{egos}'; {nearest(egos, EGOS)}")
    report = ImportReport()
    tests = round(test_share * len(files))
    with open_output(out, append) as writer:
        for number, file in enumerate(files):
            split = "test" if number >= len(files) - tests else "train"
            for clip in _clips(file, split, clip_steps, min_steps, egos, licence or licence_beside(file.parent), report):
                writer.add(clip)
                report.count(split, clip.steps)
    if not report.clips:
        raise DataError(f"no vehicle in '{path}' is recorded for {min_steps * DT:.1f} s; lower min_steps")
    return report


def _clips(file: Path, split: str, clip_steps: int, min_steps: int, egos: str, licence: str, report: ImportReport) -> Any:
    root = _root(file)
    users = drop_impossible(_users(root, file, report.left_out), report.left_out)
    lanes = _lanes(root, file)
    drivers = [u for u in users if u.kind in (AgentKind.CAR, AgentKind.TRUCK, AgentKind.BUS) and len(u.state) >= min_steps]
    if not drivers:
        report.left_out["files without a vehicle that is recorded long enough"] = (
            report.left_out.get("files without a vehicle that is recorded long enough", 0) + 1
        )
        return
    if egos == "longest":
        drivers = [max(drivers, key=lambda u: (len(u.state), u.name))]
    centre: Points = np.round(np.stack([u.state[:, :2].mean(0) for u in users]).mean(0))
    for lane in lanes:
        lane.centre = lane.centre - centre
    road, _ = build_road(lanes, report.left_out)
    provenance = {
        "source": "commonroad", "family": "real", "driver": "human", "split": split, "appearance": None, "recording": file.stem,
        "source_dt": DT, "version": project_version(), "licence": licence,
    }  # fmt: skip
    yield from clips_of(users, road, drivers, clip_steps, min_steps, provenance, offset=(float(centre[0]), float(centre[1])))


def _root(file: Path) -> ElementTree.Element:
    try:
        text = file.read_text(encoding="utf-8")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            raise DataError(f"'{file}' declares a document type, which no CommonRoad scenario needs; it is not read")
        root = ElementTree.fromstring(text)
    except (OSError, UnicodeDecodeError, ElementTree.ParseError) as error:
        raise DataError(f"cannot read '{file}' as XML ({error})") from None
    if root.tag != "commonRoad":
        raise DataError(f"'{file}' is no CommonRoad scenario: its root is <{root.tag}>")
    version = root.get("commonRoadVersion", "unknown")
    if version not in VERSIONS:
        raise DataError(f"'{file}' is CommonRoad {version}; read are {' and '.join(VERSIONS)}")
    step = _number(root.get("timeStepSize"), file, "timeStepSize")
    if abs(step - DT) > 1e-6:
        raise DataError(f"'{file}' has steps of {step} s, not {DT} s; resample it first")
    return root


def _users(root: ElementTree.Element, file: Path, left_out: dict[str, int]) -> list[RecordedUser]:
    users = []
    for element in [*root.findall("obstacle"), *root.findall("dynamicObstacle")]:
        if element.findtext("role") == "static":
            continue
        name, kind = element.get("id", ""), _KINDS.get(element.findtext("type", ""), AgentKind.CAR)
        box = element.find("shape/rectangle")
        if box is None:
            left_out["road users without a box"] = left_out.get("road users without a box", 0) + 1
            continue
        states = [s for s in [element.find("initialState"), *element.findall("trajectory/state")] if s is not None]
        times, rows = [], []
        for state in states:
            where = f"a state of obstacle {name}"
            times.append(round(_number(state.findtext("time/exact"), file, where)))
            values = [state.findtext(p) for p in ("position/point/x", "position/point/y", "orientation/exact", "velocity/exact")]
            rows.append([_number(value, file, where) for value in values])
        if not times or times != list(range(times[0], times[0] + len(times))):
            left_out["road users with missing moments"] = left_out.get("road users with missing moments", 0) + 1
            continue
        length, width = (_number(box.findtext(key), file, f"obstacle {name}") for key in ("length", "width"))
        users.append(RecordedUser(name, kind, length, width, times[0], np.array(rows)))
    return users


def _lanes(root: ElementTree.Element, file: Path) -> list[RecordedLane]:
    inside = {
        ref.get("ref", "")
        for kind in ("successorsRight", "successorsStraight", "successorsLeft")
        for ref in root.findall(f"intersection/incoming/{kind}")
    }
    limits = {sign.get("id", ""): value for sign in root.findall("trafficSign") if (value := _limit_of(sign)) is not None}
    lights = {light.get("id", ""): light for light in root.findall("trafficLight")}
    lanes = []
    for element in root.findall("lanelet"):
        name = element.get("id", "")
        left, right = (_bound(element, key, file) for key in ("leftBound", "rightBound"))
        if len(left) != len(right):
            raise DataError(f"lanelet {name} in '{file}' has {len(left)} points on its left and {len(right)} on its right")
        beside = {
            key: ref.get("ref", "")
            for key, tag in (("left", "adjacentLeft"), ("right", "adjacentRight"))
            if (ref := element.find(tag)) is not None and ref.get("drivingDir") == "same"
        }
        posted = [limits[ref.get("ref", "")] for ref in element.findall("trafficSignRef") if ref.get("ref", "") in limits]
        limit = element.findtext("speedLimit")
        foot = element.findtext("laneletType") in ("sidewalk", "crosswalk")
        lane = RecordedLane(
            name=name,
            centre=0.5 * (left + right),
            width=max(NARROWEST, float(np.linalg.norm(left - right, axis=1).mean())),
            limit=_number(limit, file, f"lanelet {name}") if limit else (posted[0] if posted else LIMIT),
            kind=LaneKind.WALKING if foot else LaneKind.JUNCTION if name in inside else LaneKind.DRIVING,
            successors=[ref.get("ref", "") for ref in element.findall("successor")],
            borders=tuple(_BORDERS.get(element.findtext(f"{key}/lineMarking", ""), Border.NONE) for key in ("leftBound", "rightBound")),  # type: ignore[arg-type]
            left=beside.get("left", ""),
            right=beside.get("right", ""),
        )
        for ref in element.findall("trafficLightRef"):
            light = lights.get(ref.get("ref", ""))
            if light is not None:
                lane.programme, lane.offset = _programme(light, file)
        lanes.append(lane)
    if not lanes:
        raise DataError(f"'{file}' has no lanelet; nothing can drive there")
    return lanes


def _bound(element: ElementTree.Element, key: str, file: Path) -> Points:
    where = f"lanelet {element.get('id')}"
    points = [[_number(p.findtext(axis), file, where) for axis in ("x", "y")] for p in element.findall(f"{key}/point")]
    if len(points) < 2:
        raise DataError(f"{where} in '{file}' has {len(points)} points in its {key}; at least 2 make a line")
    return np.array(points)


def _limit_of(sign: ElementTree.Element) -> float | None:
    for part in sign.findall("trafficSignElement"):
        value = part.findtext("additionalValue")
        if value and part.findtext("trafficSignID") in ("R2-1", "274"):
            return float(value)
    return None


def _programme(light: ElementTree.Element, file: Path) -> tuple[list[tuple[float, SignalState]], float]:
    phases, clock = [], 0.0
    cycle = light.find("cycle")
    parts = (cycle if cycle is not None else light).findall("cycleElement")
    for part in parts:
        colour = part.findtext("color", "")
        if colour not in _COLOURS:
            raise DataError(f"traffic light {light.get('id')} in '{file}' shows '{colour}'; {nearest(colour, _COLOURS)}")
        clock += DT * _number(part.findtext("duration"), file, f"traffic light {light.get('id')}")
        phases.append((clock, _COLOURS[colour]))
    offset = (cycle if cycle is not None else light).findtext("timeOffset")
    return phases, -DT * _number(offset or "0", file, f"traffic light {light.get('id')}")


def _number(text: str | None, file: Path, where: str) -> float:
    try:
        return float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise DataError(f"'{file}': {where} has '{text}' where a number must be") from None
