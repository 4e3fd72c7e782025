"""ScenarioNet's scenarios (MetaDrive's format: Waymo, nuPlan, nuScenes, ... in one) to clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import DataError, nearest
from ..road import MAX_PHASES, LaneKind, RoadMap, SignalState
from ..scene import DT, AgentKind
from .plan import ImportReport, licence_beside, open_output, project_version
from .recorded_lanes import RecordedLane, build_road
from .recorded_traffic import RecordedUser, clips_of, drop_impossible
from .restricted_pickle import read_plain_pickle

EGOS = ("sdc", "all", "longest")
LIMIT = 13.89  # m/s where a map says none
WIDTH = 3.5  # m of a lane whose borders are unknown
PARTS = ("tracks", "map_features", "metadata", "length")
_KINDS = {
    "VEHICLE": AgentKind.CAR, "PEDESTRIAN": AgentKind.PEDESTRIAN, "CYCLIST": AgentKind.BICYCLE, "TRAFFIC_CONE": AgentKind.STATIC,
    "TRAFFIC_BARRIER": AgentKind.STATIC, "TRAFFIC_OBJECT": AgentKind.STATIC,
}  # fmt: skip
_SIZES = {AgentKind.PEDESTRIAN: (0.6, 0.6), AgentKind.BICYCLE: (1.8, 0.6), AgentKind.CAR: (4.6, 1.85), AgentKind.STATIC: (0.6, 0.6)}  # m


def import_scenarionet(
    path: str | Path,
    out: str | Path,
    clip_steps: int = 300,
    min_steps: int = 16,
    test_share: float = 0.2,
    egos: str = "sdc",
    licence: str | None = None,
    append: bool = False,
) -> ImportReport:
    """Read a scenario's pickle, or all of a folder, and write clips; the last `test_share` of the files are the test split.

    The pickles are read without executing anything in them. Signals show what was recorded; their programmes in the map are the
    first MAX_PHASES of the recorded phases.

    Args:
        path: a `sd_*.pkl` file, or a folder of them.
        out: folder for the shards.
        clip_steps: frames of the longest clip.
        min_steps: shorter remains are left out.
        test_share: share of the files, in the order of their names, that is the test split; a file is never in both.
        egos: "sdc" the recording vehicle, "all" a clip of every vehicle's view, "longest" one of the vehicle that is recorded longest.
        licence: of the recording; by default the first line of the LICENSE file beside it.
        append: allow clips in `out` already.

    Raises:
        DataError: a file that holds more than plain data, that is no such scenario, or nothing in it to drive.

    Source: metadrive/scenario/scenario_description.py (MetaDrive); ScenarioNet (Li et al. 2023).
    """
    path = Path(path)
    files = sorted(p for p in path.rglob("*.pkl") if not p.name.startswith("dataset_")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"no scenario (*.pkl) in '{path}'")
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
    scenario = read_plain_pickle(file)
    if not isinstance(scenario, dict) or any(key not in scenario for key in PARTS):
        raise DataError(f"'{file}' is no ScenarioNet scenario: it needs {', '.join(PARTS)}")
    try:
        _check_clock(scenario, file)
        users = drop_impossible(_users(scenario, report.left_out), report.left_out)
        lanes = _lanes(scenario["map_features"])
        lit = {lane: states for lane, states in _lights(scenario).items() if lane in {one.name for one in lanes}}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"'{file}' is not as ScenarioNet writes it ({type(error).__name__}: {error})") from None
    drivers = [u for u in users if u.kind == AgentKind.CAR and len(u.state) >= min_steps]
    if egos == "sdc":
        drivers = [u for u in drivers if u.name == str(scenario["metadata"].get("sdc_id"))]
    elif egos == "longest" and drivers:
        drivers = [max(drivers, key=lambda u: (len(u.state), u.name))]
    if not drivers:
        what = "files without a vehicle that is recorded long enough"
        report.left_out[what] = report.left_out.get(what, 0) + 1
        return
    centre: NDArray[np.float64] = np.round(np.stack([u.state[:, :2].mean(0) for u in users]).mean(0))
    for lane in lanes:
        lane.centre = lane.centre - centre
        if lane.name in lit:
            lane.programme = _phases(lit[lane.name])
    road, pieces = build_road(lanes, report.left_out)
    provenance = {
        "source": "scenarionet", "family": "real", "driver": "human", "split": split, "appearance": None,
        "recording": str(scenario.get("id", file.stem)), "dataset": str(scenario["metadata"].get("dataset", "unknown")), "source_dt": DT,
        "version": project_version(), "licence": licence,
    }  # fmt: skip
    offset = (float(centre[0]), float(centre[1]))
    signals = _states(road, pieces, lit, int(scenario["length"]))
    yield from clips_of(users, road, drivers, clip_steps, min_steps, provenance, signals, offset)


def _check_clock(scenario: Mapping[str, Any], file: Path) -> None:
    times = np.asarray(scenario["metadata"]["ts"], dtype=np.float64)
    steps = np.diff(times[: int(scenario["length"])])
    if len(steps) and np.abs(steps - DT).max() > 0.25 * DT:
        raise DataError(f"'{file}' has steps of {steps.min():.3f} to {steps.max():.3f} s, not {DT} s; resample it first")


def _users(scenario: Mapping[str, Any], left_out: dict[str, int]) -> list[RecordedUser]:
    users = []
    for name, track in scenario["tracks"].items():
        kind = _KINDS.get(str(track["type"]))
        state = track["state"]
        valid = np.asarray(state["valid"], dtype=bool).reshape(-1)
        if kind is None or not valid.any():
            left_out["road users of unknown kind or never seen"] = left_out.get("road users of unknown kind or never seen", 0) + 1
            continue
        first, last = int(valid.argmax()), len(valid) - int(valid[::-1].argmax())
        if not valid[first:last].all():
            left_out["road users with missing moments"] = left_out.get("road users with missing moments", 0) + 1
            continue
        here = slice(first, last)
        position = np.asarray(state["position"], dtype=np.float64)[here, :2]
        velocity = np.asarray(state["velocity"], dtype=np.float64)[here, :2]
        heading = np.asarray(state["heading"], dtype=np.float64).reshape(-1)[here]
        length, width = (_size(state, key, here, _SIZES[kind][k]) for k, key in enumerate(("length", "width")))
        rows = np.concatenate((position, heading[:, None], np.linalg.norm(velocity, axis=1)[:, None]), 1)
        users.append(RecordedUser(str(name), kind, length, width, first, rows))
    return users


def _size(state: Mapping[str, Any], key: str, here: slice, usual: float) -> float:
    values = np.asarray(state[key], dtype=np.float64).reshape(-1)[here] if key in state else np.zeros(0)
    return float(np.median(values)) if len(values) and np.median(values) > 0 else usual


def _lanes(features: Mapping[Any, Mapping[str, Any]]) -> list[RecordedLane]:
    lanes = []
    for name, feature in features.items():
        kind = str(feature["type"])
        if not kind.startswith("LANE") or "polyline" not in feature:
            continue
        limit = feature.get("speed_limit_kmh")
        limit = limit[0] if isinstance(limit, list | tuple) else limit
        width = np.asarray(feature["width"], dtype=np.float64) if feature.get("width") is not None else np.zeros(0)
        width = width[width > 0]
        lanes.append(
            RecordedLane(
                name=str(name),
                centre=np.asarray(feature["polyline"], dtype=np.float64)[:, :2],
                width=float(width.mean()) if width.size else WIDTH,
                limit=float(limit) / 3.6 if limit else LIMIT,
                kind=LaneKind.JUNCTION if kind == "LANE_SURFACE_UNSTRUCTURE" else LaneKind.DRIVING,
                successors=[str(other) for other in feature.get("exit_lanes") or []],
                left=_neighbour(feature.get("left_neighbor")),
                right=_neighbour(feature.get("right_neighbor")),
            )
        )
    return lanes


def _neighbour(listed: Any) -> str:
    first = listed[0] if isinstance(listed, list | tuple) and listed else None
    return str(first["feature_id"] if isinstance(first, dict) else first) if first is not None else ""


def _lights(scenario: Mapping[str, Any]) -> dict[str, list[SignalState]]:
    """What each lane's light showed at every step."""
    return {
        str(light.get("lane", name)): [_shown(str(state)) for state in light["state"]["object_state"]]
        for name, light in (scenario.get("dynamic_map_states") or {}).items()
    }


def _shown(state: str) -> SignalState:
    if "CAUTION" in state or "YELLOW" in state:
        return SignalState.YELLOW
    if "STOP" in state or "RED" in state:
        return SignalState.RED
    return SignalState.GREEN if "GO" in state or "GREEN" in state else SignalState.OFF


def _phases(states: list[SignalState]) -> list[tuple[float, SignalState]]:
    phases: list[tuple[float, SignalState]] = []
    for step, state in enumerate(states):
        if phases and phases[-1][1] == state:
            phases[-1] = ((step + 1) * DT, state)
        else:
            phases.append(((step + 1) * DT, state))
    return phases[:MAX_PHASES]


def _states(road: RoadMap, pieces: dict[str, list[int]], lit: dict[str, list[SignalState]], steps: int) -> Tensor:
    """Recorded states [steps, S] of the map's signals."""
    by_piece = {pieces[name][-1]: states for name, states in lit.items() if name in pieces}
    table = torch.zeros(steps, road.signal_lane.shape[1], dtype=torch.int64)
    for signal, piece in enumerate(road.signal_lane[0].tolist()):
        shown = by_piece.get(piece, [])[:steps]
        table[: len(shown), signal] = torch.tensor([int(state) for state in shown], dtype=torch.int64)
    return table
