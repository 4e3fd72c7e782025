"""Plain video to clips without actions: pictures of real roads for autoencoders and video-only training."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..camera import CAMERA
from ..errors import DataError
from ..scene import DT
from .clip import Clip
from .codec import ffmpeg
from .picture import CROP_TOP, crop_box
from .plan import ImportReport, licence_beside, open_output, plan_clips, project_version


def import_video(
    path: str | Path,
    out: str | Path,
    clip_steps: int = 300,
    min_steps: int = 16,
    test_share: float = 0.2,
    crop_top: float = CROP_TOP,
    licence: str | None = None,
    append: bool = False,
) -> ImportReport:
    """Read a video file and write it as clips of 10 Hz with zero actions, `provenance["actions"] = "none"` and no track.

    Args:
        path: any video ffmpeg reads, of 10 frames/s or more.
        out: folder for the shards.
        clip_steps: frames of the longest clip.
        min_steps: shorter remains are left out.
        test_share: share of the video, at its end, that is the test split.
        crop_top: share of the rows to spare that is cut off above the road, in [0, 1].
        licence: of the recording; by default the first line of the LICENSE file beside it.
        append: allow clips in `out` already.

    Raises:
        DataError: not a video, too short, or of less than 10 frames/s.
    """
    path = Path(path)
    width, height, fps, seconds = probe_video(path)
    if fps < 0.99 / DT:
        raise DataError(f"'{path}' has {fps:g} frames/s; clips need {1 / DT:.0f} or more")
    box = crop_box(width, height, crop_top)
    plan = plan_clips([int(seconds / DT + 1e-6)], clip_steps, min_steps, test_share)
    if not plan:
        raise DataError(f"'{path}' lasts {seconds:.1f} s, too short for a clip of {min_steps * DT:.1f} s; lower min_steps")
    provenance = {
        "source": "video",
        "family": "real",
        "driver": "unknown",
        "actions": "none",
        "appearance": None,
        "dt": DT,
        "source_dt": round(1 / fps, 5),
        "file": path.name,
        "crop": list(box),
        "version": project_version(),
        "licence": licence or licence_beside(path.parent),
    }
    report = ImportReport(dropped_frames=round(seconds * fps))
    with open_output(out, append) as writer, contextlib.closing(_stream(path, box)) as stream:
        at = 0
        for piece in plan:
            _take(stream, piece.start - at)
            frames = _take(stream, piece.stop - piece.start)
            at = piece.start + len(frames)
            if len(frames) < min_steps:
                break
            about = {**provenance, "split": piece.split, "seed": piece.start, "records": [piece.start, at - 1]}
            writer.add(Clip(frames, torch.zeros(len(frames), 2), None, about))
            report.count(piece.split, len(frames))
            report.dropped_frames -= round(len(frames) * DT * fps)
    return report


def probe_video(path: Path) -> tuple[int, int, float, float]:
    """Width, height, frames per second and duration in s of a video file.

    Raises:
        DataError: no such file, or not a video.
    """
    if not path.is_file():
        raise DataError(f"no video '{path}'; give the path of a file")
    about = subprocess.run((ffmpeg(), "-hide_banner", "-i", str(path)), capture_output=True, check=False).stderr.decode(errors="replace")
    stream = re.search(r"Video: .*?, (\d+)x(\d+).*?, ([\d.]+) fps", about)
    duration = re.search(r"Duration: (\d+):(\d+):([\d.]+)", about)
    if stream is None or duration is None:
        reason = about.strip().splitlines()[-1] if about.strip() else "no video stream"
        raise DataError(f"'{path}' cannot be read as a video ({reason}); convert it to MP4 first")
    hours, minutes, seconds = (float(part) for part in duration.groups())
    return int(stream[1]), int(stream[2]), float(stream[3]), 3600 * hours + 60 * minutes + seconds


def _stream(path: Path, box: tuple[int, int, int, int]) -> Generator[np.ndarray, None, None]:
    """Pictures [64, 128, 3] uint8 at the project's rate, one at a time."""
    left, top, right, bottom = box
    fit = f"fps={1 / DT:g},crop={right - left}:{bottom - top}:{left}:{top},scale={CAMERA.width}:{CAMERA.height}:flags=area+accurate_rnd"
    command = (ffmpeg(), "-v", "error", "-threads", "1", "-i", str(path), "-an", "-vf", fit, "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    size = CAMERA.width * CAMERA.height * 3
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            while len(data := process.stdout.read(size)) == size:
                yield np.frombuffer(data, np.uint8).reshape(CAMERA.height, CAMERA.width, 3)
        finally:
            process.terminate()


def _take(stream: Iterator[np.ndarray], count: int) -> Tensor:
    pictures = [picture for _, picture in zip(range(count), stream, strict=False)]
    if not pictures:
        return torch.empty(0, CAMERA.height, CAMERA.width, 3, dtype=torch.uint8)
    return torch.from_numpy(np.stack(pictures))
