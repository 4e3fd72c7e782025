"""Shards: tar files of clips in WebDataset's naming, with one index beside them."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import numpy as np

from ..errors import DataError
from ..scenario import SPLITS, nearest
from .clip import TRACK, Clip, decode_clip, encode_clip, read_meta
from .split import split_of

INDEX = "index.json"
INDEX_VERSION = 1


@dataclass(frozen=True)
class Shard:
    """What the index knows of one shard."""

    name: str  # file name beside the index
    split: str
    keys: list[str]  # one per clip, in the order of the file
    steps: list[int]  # frames of each clip
    size: int  # bytes
    sha256: str


class ShardWriter:
    """Write clips into shards, one split a shard; a shard appears under its name only when it is whole.

    Several processes may write into one folder. An existing index is continued.

        with ShardWriter("recordings/city") as writer:
            writer.add(clip)
    """

    def __init__(self, directory: str | Path, clips_per_shard: int = 32) -> None:
        if clips_per_shard < 1:
            raise DataError(f"clips_per_shard is {clips_per_shard}; use 1 or more")
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.clips_per_shard = clips_per_shard
        self._waiting: dict[str, list[dict[str, bytes]]] = {}

    def add(self, clip: Clip) -> None:
        """Add a clip to the open shard of its split.

        Raises:
            DataError: the clip cannot be encoded, or has no split.
        """
        self.add_encoded(encode_clip(clip))

    def add_encoded(self, members: Mapping[str, bytes]) -> None:
        """Add a clip that another process has encoded with `encode_clip`."""
        split = split_of(read_meta(members)["provenance"])
        waiting = self._waiting.setdefault(split, [])
        waiting.append(dict(members))
        if len(waiting) >= self.clips_per_shard:
            self._write(split)

    def close(self) -> None:
        """Write the open shards."""
        for split in list(self._waiting):
            self._write(split)

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()  # clips already added are whole, also when a later one failed

    def _write(self, split: str) -> None:
        clips = self._waiting.pop(split)
        with open(self.directory / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            shards = read_index(self.directory) if (self.directory / INDEX).exists() else []
            number = 1 + max((int(shard.name.removesuffix(".tar").rsplit("-", 1)[1]) for shard in shards), default=-1)
            stem = f"{split}-{number:06d}"
            keys = [f"{stem}-{position:04d}" for position in range(len(clips))]
            final, partial = self.directory / f"{stem}.tar", self.directory / f".{stem}.tar.partial"
            with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
                for key, members in zip(keys, clips, strict=True):
                    for name, data in sorted(members.items()):
                        entry = tarfile.TarInfo(f"{key}.{name}")
                        entry.size = len(data)
                        tar.addfile(entry, io.BytesIO(data))
            with open(partial, "rb") as written:
                os.fsync(written.fileno())
                digest = hashlib.file_digest(written, "sha256").hexdigest()
            size = partial.stat().st_size
            partial.replace(final)
            steps = [int(read_meta(members)["frames"][0]) for members in clips]
            _write_index(self.directory, [*shards, Shard(final.name, split, keys, steps, size, digest)])


def read_index(directory: str | Path) -> list[Shard]:
    """The shards of a folder, in the order they were written.

    Raises:
        DataError: no index, or a damaged one.
    """
    path = Path(directory) / INDEX
    if not path.exists():
        raise DataError(f"no {INDEX} in '{directory}'; record or import clips there first")
    try:
        content = json.loads(path.read_text())
        if content["version"] > INDEX_VERSION:
            raise DataError(f"'{path}' has version {content['version']}, this version reads up to {INDEX_VERSION}; update the project")
        return [Shard(**entry) for entry in content["shards"]]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"'{path}' is damaged ({error}); write the shards again") from None


def verify_shards(directory: str | Path) -> int:
    """Compare every shard with its checksum in the index and return how many clips there are.

    Raises:
        DataError: a shard is missing, truncated or altered.
    """
    shards = read_index(directory)
    for shard in shards:
        _members(str(_checked(Path(directory), shard)), shard.size)
        with open(Path(directory) / shard.name, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                raise DataError(f"shard '{shard.name}' in '{directory}' was altered since it was written; copy or record it again")
    return sum(len(shard.keys) for shard in shards)


@dataclass(frozen=True)
class ClipAddress:
    """Where one clip lies."""

    shard: str  # path of the tar
    key: str
    steps: int  # frames
    size: int  # bytes of the shard


def list_clips(path: str | Path, split: str | None = None) -> list[ClipAddress]:
    """Addresses of all clips in a folder of shards, or in one shard of it, optionally of one split.

    Raises:
        DataError: nothing there, a shard missing or truncated, an unknown split, or no clip of that split.
    """
    if split is not None and split not in SPLITS:
        raise DataError(f"unknown split '{split}'; {nearest(split, SPLITS)}")
    path = Path(path)
    if not path.exists():
        raise DataError(f"'{path}' does not exist; record or import clips there first")
    directory = path if path.is_dir() else path.parent
    shards = [s for s in read_index(directory) if path.is_dir() or s.name == path.name]
    if not shards:
        raise DataError(f"'{path}' is not in the index beside it; write the shard with ShardWriter")
    addresses = []
    for shard in shards:
        if split is None or shard.split == split:
            where = str(_checked(directory, shard))
            addresses += [ClipAddress(where, key, steps, shard.size) for key, steps in zip(shard.keys, shard.steps, strict=True)]
    if not addresses:
        raise DataError(f"'{path}' holds no clip of the split '{split}'; it has {sorted({s.split for s in shards})}")
    return addresses


def load_clip(address: ClipAddress, frames: bool = True, track: bool = True) -> Clip:
    """Read one clip.

    Raises:
        DataError: the shard is truncated or damaged.
    """
    members = _members(address.shard, address.size).get(address.key)
    if members is None:
        raise DataError(f"shard '{address.shard}' lacks clip {address.key}; copy or record the shard again")
    wanted = {n: at for n, at in members.items() if (frames or not n.endswith(".mp4")) and (track or not n.startswith("track."))}
    with open(address.shard, "rb") as file:
        parts = {name: os.pread(file.fileno(), size, offset) for name, (offset, size) in wanted.items()}
    try:
        return decode_clip(parts, frames=frames, track=track)
    except DataError as error:
        raise DataError(f"shard '{address.shard}', clip {address.key}: {error}") from None


def has_scene(address: ClipAddress) -> bool:
    """Whether a clip knows its scene, without reading it.

    Raises:
        DataError: the shard is truncated or damaged.
    """
    return TRACK in _members(address.shard, address.size).get(address.key, {})


def read_clips(
    path: str | Path,
    split: str | None = None,
    shuffle_seed: int | None = None,
    repeat: bool = False,
    frames: bool = True,
    track: bool = True,
) -> Iterator[Clip]:
    """Stream the clips of a folder of shards (or of one shard), a clip in memory at a time.

    Args:
        path: the folder, or one of its .tar files.
        split: only this split.
        shuffle_seed: shuffle all clips by this seed, anew in each round; None keeps the order of writing.
        repeat: begin again at the end, for ever.
        frames: whether to decode the video (else frames are [T, 0, 0, 3]).
        track: whether to decode the track (else it is None).

    Raises:
        DataError: a shard is missing, truncated or damaged, or there is no clip of that split.
    """
    addresses = list_clips(path, split)
    return _stream(addresses, shuffle_seed, repeat, frames, track)


def _stream(addresses: list[ClipAddress], seed: int | None, repeat: bool, frames: bool, track: bool) -> Iterator[Clip]:
    round_number = 0
    while True:
        for index in clip_order(len(addresses), seed, round_number):
            yield load_clip(addresses[index], frames=frames, track=track)
        round_number += 1
        if not repeat:
            return


def clip_order(count: int, seed: int | None, round_number: int) -> list[int]:
    """Order of clips in one round over the data."""
    if seed is None:
        return list(range(count))
    return [int(i) for i in np.random.default_rng([seed, round_number, 11]).permutation(count)]


def _checked(directory: Path, shard: Shard) -> Path:
    path = directory / shard.name
    if not path.exists():
        raise DataError(f"shard '{shard.name}' is missing from '{directory}' ({len(shard.keys)} clips); copy or record it again")
    size = path.stat().st_size
    if size != shard.size:
        raise DataError(
            f"shard '{shard.name}' in '{directory}' has {size} bytes, not {shard.size} (truncated or altered); copy or record it again"
        )
    return path


@lru_cache(maxsize=256)
def _members(path: str, size: int) -> dict[str, dict[str, tuple[int, int]]]:
    """Offset and size of every member by clip key and member name, from the tar's headers alone."""
    found: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                key, _, name = entry.name.partition(".")
                found.setdefault(key, {})[name] = (entry.offset_data, entry.size)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"shard '{path}' cannot be read ({error}); copy or record it again") from None
    return found


def _write_index(directory: Path, shards: list[Shard]) -> None:
    partial = directory / f".{INDEX}.partial"
    content = {"format": "xpeng-world-shards", "version": INDEX_VERSION, "shards": [asdict(shard) for shard in shards]}
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(directory / INDEX)
