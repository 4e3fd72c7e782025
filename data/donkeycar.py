"""DonkeyCar tubs (format v2) to clips: real pictures with the steering and throttle a human gave."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ..errors import DataError
from ..scene import DT
from .clip import Clip
from .picture import CROP_TOP, crop_box, fit_picture
from .plan import ImportReport, Piece, licence_beside, open_output, plan_clips, project_version

GAP = 2.5  # a pause of so many usual frame intervals ends a stretch


@dataclass(frozen=True)
class Record:
    """One line of a catalog."""

    index: int
    session: str
    time: float  # s
    image: str  # file name
    steering: float  # [-1, 1], positive to the left
    pedal: float  # [-1, 1]


def import_donkeycar(
    path: str | Path,
    out: str | Path,
    clip_steps: int = 300,
    min_steps: int = 16,
    test_share: float = 0.2,
    crop_top: float = CROP_TOP,
    skip_missing: bool = False,
    licence: str | None = None,
    append: bool = False,
) -> ImportReport:
    """Read a tub and write its drives as clips of 10 Hz; the last `test_share` of the time is the test split.

    Every k-th picture is kept, k being the tub's rate over 10 Hz; the actions in between are averaged. DonkeyCar's angle
    is positive to the right, so its sign is turned. A drive ends at a pause, a deleted record or a new session.

    Args:
        path: the tub's folder, with `manifest.json`.
        out: folder for the shards.
        clip_steps: frames of the longest clip.
        min_steps: shorter remains are left out.
        test_share: share of the recording, at its end, that is the test split.
        crop_top: share of the rows to spare that is cut off above the road, in [0, 1].
        skip_missing: leave out records without a readable picture (and say how many) instead of refusing.
        licence: of the recording; by default the first line of the LICENSE file in the tub.
        append: allow clips in `out` already.

    Raises:
        DataError: not a tub, a damaged catalog, missing pictures, or a rate that does not fit 10 Hz.

    Source: donkeycar/parts/tub_v2.py and datastore_v2.py of autorope/donkeycar.
    """
    path = Path(path)
    records, deleted = read_tub(path)
    records = [record for record in records if record.index not in deleted]
    present = {entry.name for entry in (path / "images").iterdir()} if (path / "images").is_dir() else set()
    missing = [record.image for record in records if record.image not in present]
    if missing and not skip_missing:
        raise DataError(
            f"{len(missing)} of {len(records)} images of tub '{path}' are missing, the first is 'images/{missing[0]}'; "
            f"copy them, or set skip_missing=true to go on without"
        )
    interval = usual_interval(records, path)
    stride = max(1, round(DT / interval))
    if not 0.8 < stride * interval / DT < 1.25:
        raise DataError(
            f"tub '{path}' was recorded at {1 / interval:.1f} Hz, which does not divide into {1 / DT:.0f} Hz; resample it first"
        )
    stretches = list(split_stretches([record for record in records if record.image in present], GAP * interval))
    steps = [len(stretch) // stride for stretch in stretches]
    report = ImportReport(missing_images=len(missing))
    plan = plan_clips(steps, clip_steps, min_steps, test_share)
    if not plan:
        raise DataError(f"no drive in tub '{path}' is {min_steps * DT:.1f} s long; lower min_steps")
    provenance = {
        "source": "donkeycar",
        "family": "real",
        "driver": "human",
        "actions": "recorded",
        "appearance": None,
        "dt": DT,
        "source_dt": round(interval, 5),
        "version": project_version(),
        "licence": licence or licence_beside(path),
    }
    with open_output(out, append) as writer:
        for piece in plan:
            part = stretches[piece.stretch][piece.start * stride : piece.stop * stride]
            for clip in _clips(part, stride, piece, provenance, path, crop_top, skip_missing, min_steps, report):
                writer.add(clip)
                report.count(piece.split, clip.steps)
    report.dropped_frames = len(records) - len(missing) - sum(report.frames.values()) * stride
    return report


def read_tub(path: Path) -> tuple[list[Record], set[int]]:
    """All records of a tub in order, and the indexes that were deleted.

    Raises:
        DataError: no manifest, or a damaged line, named by file and number.
    """
    manifest = path / "manifest.json"
    if not manifest.is_file():
        raise DataError(f"'{path}' is no DonkeyCar tub (v2): it has no manifest.json; give the folder that holds it")
    lines = manifest.read_text().splitlines()
    try:
        catalogs = json.loads(lines[4])
        names, deleted = [Path(name).name for name in catalogs["paths"]], {int(i) for i in catalogs.get("deleted_indexes", [])}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"'{manifest}' is damaged ({error}); a tub v2 manifest has five JSON lines, the last naming the catalogs") from None
    records = []
    for name in names:
        if not (path / name).is_file():
            raise DataError(f"catalog '{name}' is missing from tub '{path}'; copy it, or take it out of manifest.json")
        for number, line in enumerate((path / name).read_text().splitlines(), 1):
            if line.strip():
                records.append(_record(line, f"'{path / name}' line {number}"))
    if len(records) < 2:
        raise DataError(f"tub '{path}' holds {len(records)} records; nothing to import")
    return records, deleted


def usual_interval(records: list[Record], path: Path) -> float:
    """Median time between records in s.

    Raises:
        DataError: the clock stands still or runs backwards.
    """
    interval = float(np.median(np.diff([record.time for record in records]))) if len(records) > 1 else 0.0
    if interval <= 0:
        raise DataError(f"the time stamps of tub '{path}' do not advance; it cannot be resampled")
    return interval


def split_stretches(records: list[Record], longest_pause: float) -> Iterator[list[Record]]:
    """Unbroken drives: a pause, a record left out, a clock set back or a new session begins the next one."""
    stretch: list[Record] = []
    for record in records:
        if stretch:
            before = stretch[-1]
            pause = record.time - before.time
            if record.session != before.session or record.index != before.index + 1 or not 0 < pause <= longest_pause:
                yield stretch
                stretch = []
        stretch.append(record)
    if stretch:
        yield stretch


def _clips(
    part: list[Record],
    stride: int,
    piece: Piece,
    provenance: dict[str, Any],
    path: Path,
    crop_top: float,
    skip_missing: bool,
    min_steps: int,
    report: ImportReport,
) -> Iterator[Clip]:
    """The clips of one piece: one, or several around pictures that cannot be read."""
    commands = torch.tensor([[record.steering, record.pedal] for record in part], dtype=torch.float32)
    actions = commands.view(-1, stride, 2).mean(1)
    frames: list[np.ndarray] = []
    box: tuple[int, int, int, int] | None = None
    for step, record in enumerate([*part[::stride], None]):
        picture = None
        if record is not None:
            picture, box_here = _picture(path / "images" / record.image, crop_top, skip_missing)
            box = box_here or box
            report.missing_images += picture is None
        if picture is not None:
            frames.append(picture)
            continue
        if len(frames) >= min_steps and box is not None:
            start = step - len(frames)
            command = actions[start:step].clone()
            command[-1] = 0
            first, last = part[start * stride], part[(step - 1) * stride]
            about = {
                **provenance,
                "split": piece.split,
                "seed": first.index,
                "session": first.session,
                "records": [first.index, last.index],
                "crop": list(box),
            }
            yield Clip(torch.from_numpy(np.stack(frames)), command, None, about)
        frames = []


def _picture(file: Path, crop_top: float, skip: bool) -> tuple[np.ndarray | None, tuple[int, int, int, int] | None]:
    try:
        with Image.open(file) as image:
            return fit_picture(image, crop_top), crop_box(*image.size, crop_top)
    except (UnidentifiedImageError, OSError) as error:
        if skip:
            return None, None
        raise DataError(f"image '{file}' cannot be read ({error}); copy it again, or set skip_missing=true to go on without") from None


def _record(line: str, where: str) -> Record:
    try:
        entry = json.loads(line)
        mode = entry.get("user/mode", "user")
        angle = float(entry["user/angle" if mode == "user" else "pilot/angle"])
        throttle = float(entry["pilot/throttle" if mode == "local" else "user/throttle"])
        if not (math.isfinite(angle) and math.isfinite(throttle)):
            raise ValueError("angle or throttle is not finite")
        return Record(
            index=int(entry["_index"]),
            session=str(entry.get("_session_id", "")),
            time=int(entry["_timestamp_ms"]) / 1000,
            image=Path(entry["cam/image_array"]).name,
            steering=min(1.0, max(-1.0, -angle)),
            pedal=min(1.0, max(-1.0, throttle)),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} is damaged ({error}); repair the line or list its index under deleted_indexes") from None
