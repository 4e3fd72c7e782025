"""Frames ready for training: pictures, layouts and pixel motion of clips, laid out once and read at random."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import lz4.frame
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ...camera import CAMERA
from ...data.clip import Clip
from ...data.shards import ClipAddress, has_scene, list_clips, load_clip
from ...data.split import check_trainable
from ...errors import DataError
from .denoiser import UNKNOWN_APPEARANCE
from .gaze import gaze
from .layout import AGENT_CHANNELS, CHANNELS, LayoutRasteriser
from .plain_motion import STILL, PlainMotion, fit_motion, past_commands
from .warp import ego_motion, plane_flow, warp

STORE_FORMAT = 22
PLAIN = "plain_motion.json"  # how pixels of clips without a scene move
FIT_CLIPS = 24  # such clips that the motion is fitted to
FLOW_SCALE = 32  # stored flow is in 1/32 pixel
_FLOW_LIMIT = 32767 // FLOW_SCALE


@dataclass(frozen=True)
class Samples:
    """Frames of B windows of K + 1 consecutive steps; the layout is that of frames 1 to K (frame 0 is context)."""

    frames: Tensor  # [B, K + 1, H, W, 3] uint8
    layout: Tensor  # [B, K, C, H, W] uint8
    flow: Tensor  # [B, K, 2, H, W] float32 pixels
    actions: Tensor  # [B, K, 2]
    ego: Tensor  # [B, K, 7]
    motion: Tensor  # [B, K, 3] previous ego pose in the present frame
    appearance: Tensor  # [B]
    has_scene: Tensor  # [B] bool
    gaze: Tensor  # [B, K, 4, H, W] where the pixels of frames 1 to K look, see `gaze.gaze`
    column: int = 0  # where the windows begin in the camera's picture, where they are crops


def _prepare(address: ClipAddress, trainable: bool, plain: PlainMotion) -> dict[str, NDArray]:
    torch.set_num_threads(1)
    clip = load_clip(address)
    if trainable:
        check_trainable(clip)
    return prepare_clip(clip, plain=plain)


def prepare_clip(clip: Clip, rasterise: LayoutRasteriser | None = None, plain: PlainMotion = STILL) -> dict[str, NDArray]:
    """Arrays of one clip: frames, packed layouts, flow (1/32 pixel), actions, ego, motion, weight, appearance.

    Without a scene, pixels move by `plain`.

    Raises:
        DataError: pictures of another camera, a clip too short to predict anything, or numbers that are not finite.
    """
    steps = clip.steps
    frames = clip.frames.numpy()
    height, width = frames.shape[1:3]
    _check_clip(clip)
    blank = lz4.frame.compress(np.zeros((len(CHANNELS), height, width), np.uint8).tobytes())
    packed: list[bytes] = []
    flow = np.zeros((steps, 2, height, width), np.int16)
    ego = np.zeros((steps, 7), np.float32)
    motion = np.zeros((steps, 3), np.float32)
    weight = np.ones(steps, np.float32)
    appearance = UNKNOWN_APPEARANCE
    if clip.track is None:
        moved = plain.motion(torch.stack([past_commands(clip.actions, step) for step in range(steps)]))
        for step, pose in enumerate(moved):
            fine = plane_flow(pose.unsqueeze(0))[0].numpy()
            flow[step] = np.round(FLOW_SCALE * np.clip(fine, -_FLOW_LIMIT, _FLOW_LIMIT)).astype(np.int16)
        motion[:] = moved.numpy()
        packed = [blank] * steps
    else:
        rasterise = rasterise or _rasteriser()
        appearance = int(clip.track.appearance[0])
        ego[:] = clip.track.ego.state[0].numpy()
        before = None
        for t in range(steps):
            scene = clip.track.scene(t)
            layout = rasterise(scene, before)
            channels = layout.channels[0].numpy()
            packed.append(lz4.frame.compress(channels.tobytes()))
            flow[t] = np.round(FLOW_SCALE * np.clip(layout.flow[0].numpy(), -_FLOW_LIMIT, _FLOW_LIMIT))
            weight[t] += 3 * min(1.0, 8 * float(channels[list(AGENT_CHANNELS)].mean(axis=(1, 2)).sum()) / 255)
            if before is not None:
                motion[t] = ego_motion(before.ego.state, scene.ego.state)[0].numpy()
            before = scene
    return {
        "frames": frames,
        "packed": np.frombuffer(b"".join(packed), np.uint8),
        "sizes": np.asarray([len(p) for p in packed], np.int64),
        "flow": flow,
        "actions": clip.actions.numpy(),
        "ego": ego,
        "motion": motion,
        "weight": weight,
        "appearance": np.full(steps, appearance, np.int64),
        "has_scene": np.full(steps, clip.track is not None),
    }


def _check_clip(clip: Clip) -> None:
    height, width = clip.frames.shape[1:3]
    source = clip.provenance.get("source", "an unknown source")
    if (height, width) != (CAMERA.height, CAMERA.width):
        raise DataError(f"a clip of {source} is {height}x{width}, the video model's camera {CAMERA.height}x{CAMERA.width}; import it again")
    if clip.steps < 2:
        raise DataError(f"a clip of {source} has {clip.steps} frame; the video model needs the one before each, so 2 or more")
    broken = {"actions": clip.actions}
    if clip.track is not None:
        broken |= {"ego": clip.track.ego.state[0], "road users": clip.track.agents.state[0]}
    for name, values in broken.items():
        wrong = (~torch.isfinite(values)).flatten(1).any(1).nonzero().flatten()
        if len(wrong):
            raise DataError(f"the {name} of a clip of {source} are not finite at frame {int(wrong[0])} ({len(wrong)} frames in all)")


_RASTERISER: list[LayoutRasteriser] = []


def _rasteriser() -> LayoutRasteriser:
    if not _RASTERISER:
        _RASTERISER.append(LayoutRasteriser())
    return _RASTERISER[0]


_PARTS = ("frames", "packed", "sizes", "flow", "actions", "ego", "motion", "weight", "appearance", "has_scene")


class FrameStore:
    """Random access to prepared clips; arrays stay on disk and are mapped into memory."""

    def __init__(self, folder: str | Path) -> None:
        folder = Path(folder)
        try:
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in (*_PARTS, "steps")}
        except (OSError, ValueError) as error:
            raise DataError(f"the frame store '{folder}' cannot be read ({error}); delete it and run again") from error
        self._arrays = arrays
        page = folder / PLAIN
        self.plain_motion = PlainMotion(**json.loads(page.read_text())) if page.is_file() else None  # None where every clip has its scene
        self.clip_steps = np.asarray(arrays["steps"])
        self._ends = np.cumsum(np.asarray(arrays["sizes"]))
        self._starts = np.cumsum(self.clip_steps) - self.clip_steps

    def __len__(self) -> int:
        """Number of frames."""
        return int(self.clip_steps.sum())

    def windows(self, length: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """First frames of all windows of `length` predicted steps, and the probability of each."""
        spans = zip(self._starts, self.clip_steps, strict=True)
        first = np.concatenate([np.arange(s, s + n - length) if n > length else np.zeros(0, np.int64) for s, n in spans]).astype(np.int64)
        if len(first) == 0:
            raise DataError(f"no clip has more than {length} frames; record longer clips")
        weight = np.asarray(self._arrays["weight"])[first + 1].astype(np.float64)
        return first, weight / weight.sum()

    def clip_of(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the clip, in the order of the shards, that each frame belongs to."""
        return np.searchsorted(self._starts, np.asarray(index), side="right") - 1

    def last_frames(self) -> NDArray[np.int64]:
        """Index of the last frame of each frame's clip, [len(self)]."""
        return np.repeat(self._starts + self.clip_steps - 1, self.clip_steps)

    @property
    def has_scenes(self) -> bool:
        """Whether any clip knows its scene."""
        return bool(np.asarray(self._arrays["has_scene"]).any())

    def frames(self, index: NDArray[np.int64]) -> Tensor:
        """Frames uint8 [n, H, W, 3]."""
        return torch.from_numpy(np.asarray(self._arrays["frames"])[index])

    def history(self, index: NDArray[np.int64], count: int) -> Tensor:
        """Frames and those before them, moved to where things are in the last, uint8 [n, H, W, 3 * count], the newest first."""
        index = np.asarray(index)
        if count == 1:
            return self.frames(index)
        begin = self._starts[self.clip_of(index)]
        stack: Tensor | None = None
        for lag in reversed(range(count)):
            at = index - lag
            known = torch.from_numpy(at >= begin).view(-1, 1, 1, 1)
            frame = self.frames(np.maximum(at, begin)).permute(0, 3, 1, 2).float() / 127.5 - 1
            stack = torch.zeros(len(index), 3 * count, *frame.shape[2:]) if stack is None else stack
            flow = torch.from_numpy(np.asarray(self._arrays["flow"])[np.maximum(at, begin)]).float() / FLOW_SCALE
            moved, seen = warp(stack[:, : 3 * (count - 1)], flow)
            stack = torch.cat((frame, moved * seen), 1) * known
        assert stack is not None
        return ((stack + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def motions(self, first: NDArray[np.int64], length: int) -> tuple[Tensor, Tensor, Tensor]:
        """How the ego moved in windows that begin at frames `first` [B] and end `length` steps later.

        Returns:
            the ego's state at the end [B, 7], the mean steering command on the way [B], and whether there is a scene [B].
        """
        way = np.asarray(first)[:, None] + np.arange(length)
        ego, actions, known = (np.asarray(self._arrays[name]) for name in ("ego", "actions", "has_scene"))
        last = np.asarray(first) + length
        return torch.from_numpy(ego[last]), torch.from_numpy(actions[way][..., 0].mean(1)), torch.from_numpy(known[last])

    def layout(self, index: int) -> NDArray[np.uint8]:
        """Layout channels [C, H, W] of a frame."""
        end = int(self._ends[index])
        start = end - int(self._arrays["sizes"][index])
        raw = lz4.frame.decompress(self._arrays["packed"][start:end].tobytes())
        height, width = self._arrays["frames"].shape[1:3]
        return np.frombuffer(raw, np.uint8).reshape(len(CHANNELS), height, width)

    def samples(self, first: NDArray[np.int64], length: int) -> Samples:
        """Windows that begin at frames `first` [B]."""
        index = np.asarray(first)[:, None] + np.arange(length + 1)
        later = index[:, 1:]
        take = lambda name, i: torch.from_numpy(np.asarray(self._arrays[name])[i])
        flat = later.reshape(-1)
        layout = np.stack([self.layout(int(i)) for i in flat])
        flow = take("flow", flat).float() / FLOW_SCALE
        shape = (len(first), length)
        ego, known = take("ego", later), take("has_scene", index[:, 0])
        pose = ego[..., :3].where(known.view(-1, 1, 1), torch.nan)
        return Samples(
            frames=take("frames", index),
            layout=torch.from_numpy(layout.reshape(*shape, *layout.shape[1:])),
            flow=flow.view(*shape, *flow.shape[1:]),
            actions=take("actions", index[:, :-1]),
            ego=ego,
            motion=take("motion", later),
            appearance=take("appearance", index[:, 0]),
            has_scene=known,
            gaze=gaze(pose.flatten(0, 1)).unflatten(0, shape),
        )


def open_store(
    data: str | Path | Sequence[str | Path], split: str | None = "train", cache: str | Path | None = None, workers: int | None = None
) -> FrameStore:
    """The frame store of folders of shards, prepared on first use.

    Args:
        data: folder of shards, or several.
        split: which clips; anything but "train" may hold test roads and is not for training.
        cache: where prepared frames are kept; default `.frames` in the first folder.
        workers: processes that prepare; default one a core.
    """
    folders = [data] if isinstance(data, str | Path) else list(data)
    addresses = [address for one in folders for address in list_clips(one, split)]
    if not addresses:
        raise DataError(f"'{data}' holds no clips of the split '{split}'; record some with `xpeng-world record out={data}`")
    text = json.dumps([STORE_FORMAT, len(CHANNELS), *(str(address) for address in addresses)])
    folder = Path(cache or Path(folders[0]) / ".frames") / f"{split or 'all'}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not folder.is_dir():
        _build(addresses, folder, split == "train", workers or os.cpu_count() or 1)
    return FrameStore(folder)


def build_store(clips: Iterable[Clip], folder: str | Path) -> FrameStore:
    """Prepare clips that are in memory."""
    clips = list(clips)
    without = [clip for clip in clips if clip.track is None]
    plain = fit_motion(without) if without else None
    _write((prepare_clip(clip, plain=plain or STILL) for clip in clips), Path(folder), plain)
    return FrameStore(folder)


def _plain_motion(addresses: Sequence[ClipAddress]) -> PlainMotion | None:
    """The motion of the clips without a scene, None where every clip has one."""
    without = [address for address in addresses if not has_scene(address)]
    return fit_motion([load_clip(address, track=False) for address in without[:FIT_CLIPS]]) if without else None


def _build(addresses: list[ClipAddress], folder: Path, trainable: bool, workers: int) -> None:
    plain = _plain_motion(addresses)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = pool.map(_prepare, addresses, [trainable] * len(addresses), [plain or STILL] * len(addresses), chunksize=2)
        _write(tqdm(parts, total=len(addresses), desc="laying out clips", unit="clip"), folder, plain)


def _write(parts: Iterable[dict[str, NDArray]], folder: Path, plain: PlainMotion | None) -> None:
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    small: dict[str, list[NDArray]] = {name: [] for name in _PARTS}
    shapes: dict[str, tuple[int, ...]] = {}
    kinds: dict[str, np.dtype] = {}
    with contextlib.ExitStack() as files:
        big = {name: files.enter_context((aside / f"{name}.raw").open("wb")) for name in ("frames", "packed", "flow")}
        counts = dict.fromkeys(big, 0)
        for part in parts:
            for name, value in part.items():
                if name in big:
                    big[name].write(np.ascontiguousarray(value).tobytes())
                    shapes[name], kinds[name] = value.shape[1:], value.dtype
                    counts[name] += len(value)
                else:
                    small[name].append(value)
    for name in big:
        raw = np.memmap(aside / f"{name}.raw", kinds[name], "r", shape=(counts[name], *shapes[name]))
        np.save(aside / f"{name}.npy", raw)
        del raw
        (aside / f"{name}.raw").unlink()
    for name, values in small.items():
        if name not in big:
            np.save(aside / f"{name}.npy", np.concatenate(values))
    if plain is not None:
        (aside / PLAIN).write_text(json.dumps(plain.page()) + "\n")
    np.save(aside / "steps.npy", np.asarray([len(v) for v in small["actions"]], np.int64))
    aside.rename(folder)
