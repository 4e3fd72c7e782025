"""Videos that a browser plays: H.264, yuv420p, the index first."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def write_video(path: Path | str, frames: Iterable[np.ndarray], fps: int = 10) -> Path:
    """Write RGB frames uint8 [H, W, 3] of one size as MP4; odd sizes lose their last row or column."""
    import imageio.v2 as imageio

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial.mp4")
    writer = imageio.get_writer(
        partial,
        format="FFMPEG",  # type: ignore[arg-type]
        fps=fps,
        codec="libx264",
        pixelformat="yuv420p",
        macro_block_size=1,
        ffmpeg_log_level="error",
        output_params=["-movflags", "+faststart", "-crf", "20", "-threads", "1"],
    )
    try:
        for frame in frames:
            height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2
            writer.append_data(np.ascontiguousarray(frame[:height, :width]))
    except BaseException:
        writer.close()
        partial.unlink(missing_ok=True)
        raise
    writer.close()
    os.replace(partial, path)
    return path
