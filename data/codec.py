"""Video bytes: frames to H.264 in a streamable MP4 and back, through the ffmpeg that imageio-ffmpeg ships."""

from __future__ import annotations

import functools
import subprocess

import imageio_ffmpeg
import torch
from torch import Tensor

from ..errors import DataError

QUALITY = ("-c:v", "libx264", "-pix_fmt", "yuv444p", "-crf", "4", "-preset", "veryfast", "-tune", "fastdecode")
FULL_RANGE = "scale=out_range=pc:out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int"
FROM_FULL_RANGE = "scale=in_range=pc:in_color_matrix=bt709:flags=accurate_rnd+full_chroma_int"


@functools.cache
def ffmpeg() -> str:
    """Path of the ffmpeg executable."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


def encode_video(frames: Tensor, fps: float = 10.0) -> bytes:
    """Encode frames [T, H, W, 3] uint8 as MP4 bytes, visually lossless (42 dB PSNR and more on street frames).

    Raises:
        DataError: no frame, or frames of another type or shape.
    """
    if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or frames.numel() == 0:
        raise DataError(f"frames must be uint8 [T, H, W, 3] with T > 0, not {frames.dtype} {list(frames.shape)}")
    height, width = frames.shape[1:3]
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-")
    colour = ("-vf", FULL_RANGE, "-color_range", "pc", "-colorspace", "bt709")
    target = ("-threads", "1", "-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "-")
    return _run((*source, *colour, *QUALITY, *target), frames.contiguous().numpy().tobytes(), "encoding")


def decode_video(video: bytes, count: int, height: int, width: int) -> Tensor:
    """Decode bytes of `encode_video` to frames [count, height, width, 3] uint8.

    Raises:
        DataError: the bytes are damaged or hold another number of frames.
    """
    # Two decoder threads cost more to start than they save on a clip.
    raw = _run(("-threads", "1", "-i", "-", "-vf", FROM_FULL_RANGE, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"), video, "decoding")
    if len(raw) != count * height * width * 3:
        raise DataError(f"a clip's video holds {len(raw) / (height * width * 3):g} frames instead of {count}; write the clip again")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(count, height, width, 3)


def _run(arguments: tuple[str, ...], data: bytes, doing: str) -> bytes:
    done = subprocess.run((ffmpeg(), "-v", "error", *arguments), input=data, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise DataError(f"{doing} a clip's video failed: {reason[-1]}; write the clip again")
    return done.stdout
