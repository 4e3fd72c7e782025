"""A clip: frames, actions and the track they belong to, as one value and as named byte strings."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..batched import flatten, unflatten
from ..errors import DataError
from ..road import RoadMap, Route
from ..scene import Agents, Ego, Track
from ..vehicles import VehicleProfile
from .codec import decode_video, encode_video

FORMAT_VERSION = 1
META, ACTIONS, TRACK, VIDEO = "clip.json", "actions.safetensors", "track.safetensors.gz", "frames.mp4"
Json = Any  # whatever json.dumps takes


@dataclass(frozen=True)
class Clip:
    """What one camera saw: frame t, column t of the track and action t belong together.

    Action t leads from t to t + 1; the last action is zero and unused. A clip read without its video has frames of
    shape [T, 0, 0, 3].

    Raises:
        DataError: shapes or types that do not fit together.
    """

    frames: Tensor  # [T, H, W, 3] uint8, RGB
    actions: Tensor  # [T, 2] float32 in [-1, 1]: steering (positive to the left) and pedal
    track: Track | None  # [1, T]; None where the recording knows no scene
    provenance: dict[str, Json]  # source, split, seed, driver, appearance, dt, version, licence, ...; see docs/data.md

    def __post_init__(self) -> None:
        steps = self.frames.shape[0]
        if self.frames.dtype != torch.uint8 or self.frames.ndim != 4 or self.frames.shape[-1] != 3:
            raise DataError(f"a clip's frames must be uint8 [T, H, W, 3], not {self.frames.dtype} {list(self.frames.shape)}")
        if self.actions.dtype != torch.float32 or tuple(self.actions.shape) != (steps, 2):
            raise DataError(f"a clip of {steps} frames needs float32 actions [{steps}, 2], not {list(self.actions.shape)}")
        if self.track is not None and (self.track.batch_size, self.track.steps) != (1, steps):
            raise DataError(f"a clip of {steps} frames needs a track [1, {steps}], not [{self.track.batch_size}, {self.track.steps}]")

    @property
    def steps(self) -> int:
        """Number of frames T."""
        return int(self.frames.shape[0])

    def window(self, start: int, length: int) -> Clip:
        """The part [start, start + length) of the clip; its last action stays, being known."""
        cut = slice(start, start + length)
        track = None if self.track is None else self.track.columns(cut)
        return dataclasses.replace(self, frames=self.frames[cut], actions=self.actions[cut], track=track)


def encode_clip(clip: Clip) -> dict[str, bytes]:
    """The clip as byte strings by member name, as a shard stores them.

    Raises:
        DataError: a provenance that JSON cannot hold, or actions that are not finite.
    """
    if not bool(torch.isfinite(clip.actions).all()):
        raise DataError("a clip's actions are not finite; check the recorder before writing the clip")
    steps, height, width, _ = clip.frames.shape
    meta = {
        "format": "xpeng-world-clip",
        "version": FORMAT_VERSION,
        "frames": [steps, height, width],
        "track": clip.track is not None,
        "provenance": clip.provenance,
    }
    try:
        text = json.dumps(meta, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise DataError(f"a clip's provenance is not JSON ({error}); keep strings, finite numbers, lists and dicts in it") from None
    fps = 1.0 / float(clip.provenance.get("dt", 0.1))
    members = {META: text.encode(), ACTIONS: save({"actions": clip.actions.contiguous()}), VIDEO: encode_video(clip.frames, fps)}
    if clip.track is not None:
        packed = save({name: _narrow(tensor) for name, tensor in flatten(clip.track).items()})
        members[TRACK] = gzip.compress(packed, compresslevel=1, mtime=0)
    return members


def decode_clip(members: Mapping[str, bytes], frames: bool = True, track: bool = True) -> Clip:
    """Rebuild a clip from `encode_clip`'s byte strings; the track is exact, the frames are visually lossless.

    Args:
        members: byte strings by member name.
        frames: whether to decode the video.
        track: whether to decode the track.

    Raises:
        DataError: a member that is missing, damaged or of a newer format.
    """
    meta = read_meta(members)
    steps, height, width = meta["frames"]
    try:
        actions = load(members[ACTIONS])["actions"]
        scene = _track(members[TRACK]) if meta["track"] and track else None
        picture = decode_video(members[VIDEO], steps, height, width) if frames else torch.empty(steps, 0, 0, 3, dtype=torch.uint8)
    except KeyError as error:
        raise DataError(f"a clip lacks its part {error}; write the clip again") from None
    except (SafetensorError, gzip.BadGzipFile, EOFError, OSError) as error:
        raise DataError(f"a clip's tensors are damaged ({error}); write the clip again") from None
    return Clip(picture, actions, scene, meta["provenance"])


def read_meta(members: Mapping[str, bytes]) -> dict[str, Json]:
    """The clip's JSON member: format version, frames [T, H, W], whether it has a track, provenance.

    Raises:
        DataError: not a clip, or one of a newer format.
    """
    try:
        meta = json.loads(members[META])
        version = int(meta["version"])
        if meta["format"] != "xpeng-world-clip" or len(meta["frames"]) != 3:
            raise ValueError("another format")
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"not a clip of this project ({META}: {error}); import the recording first") from None
    if version > FORMAT_VERSION:
        raise DataError(f"a clip has format version {version}, this version of the project reads up to {FORMAT_VERSION}; update it")
    return dict(meta)


def _narrow(tensor: Tensor) -> Tensor:
    """Integers in the narrowest type that holds them; every integer of a track is int64 in memory."""
    if tensor.dtype != torch.int64 or tensor.numel() == 0:
        return tensor
    low, high = int(tensor.min()), int(tensor.max())
    for kind in (torch.int8, torch.int16, torch.int32):
        if torch.iinfo(kind).min <= low and high <= torch.iinfo(kind).max:
            return tensor.to(kind)
    return tensor


def _track(packed: bytes) -> Track:
    tensors = load(gzip.decompress(packed))
    for name, tensor in tensors.items():
        if tensor.dtype in (torch.int8, torch.int16, torch.int32):
            tensors[name] = tensor.long()
    return unflatten(Track, tensors, ego=Ego, agents=Agents, road=RoadMap, route=Route, profile=VehicleProfile)
