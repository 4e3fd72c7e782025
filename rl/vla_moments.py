"""Recorded moments as a VLA reads and answers them, made once and kept beside the training run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ..data.clip import Clip
from ..data.shards import ClipAddress, list_clips, load_clip
from ..data.split import check_trainable
from ..errors import DataError
from ..policies.expert import Expert
from ..policies.vla.model import VlaModel
from ..policies.vla.reasoning import evidence, think
from ..policies.vla.tokens import VERSION
from ..world import Observation
from .imitation import label

FIELDS = ("prompt", "taken", "wanted", "thought")


@dataclass(frozen=True)
class Moments:
    """M moments of several clips, one after another, all as token ids int32."""

    prompt: Tensor  # [M, PROMPT_LENGTH]
    taken: Tensor  # [M, 2] steering and acceleration that the recorded driver asked for
    wanted: Tensor  # [M, 2] what the expert would have
    thought: Tensor  # [M, THOUGHT_LENGTH] of the expert's action
    clips: tuple[int, ...]  # moments of each clip


@torch.no_grad()
def moments_of(clip: Clip, model: VlaModel, expert: Expert | None = None) -> dict[str, Tensor]:
    """The moments of one clip by field, all but the last, whose action was not recorded.

    Raises:
        DataError: a clip without a scene.
    """
    examples = label(clip, expert)
    track = clip.track
    assert track is not None
    observation = Observation(examples.camera, examples.ego, examples.route)
    vocabulary = model.vocabulary
    frames = torch.cat([model.frames.encode(part) for part in clip.frames.split(32)])
    found = {
        "prompt": vocabulary.prompt(observation, frames),
        "taken": vocabulary.action_ids(clip.actions),
        "wanted": vocabulary.action_ids(examples.action),
        "thought": think(vocabulary, evidence(track, observation), examples.action),
    }
    return {name: tensor[:-1].to(torch.int32) for name, tensor in found.items()}


def moments_of_logs(data: str | list[str], split: str, model: VlaModel, kept: Path, most: int | None = None) -> Moments:
    """The moments of all clips of a split that have a scene, at most of the first `most`; each clip's are kept in a file of `kept`.

    A file is used again only if the clip, the frame tokenizer and the vocabulary are those it was made with.

    Raises:
        DataError: no such clip, but for the validation split, which may be missing.
    """
    mark = fingerprint(model)
    folders = [data] if isinstance(data, str) else data
    addresses: list[ClipAddress] = []
    for folder in folders:
        try:
            addresses += list_clips(folder, split)
        except DataError:
            if split == "train":
                raise
    kept.mkdir(parents=True, exist_ok=True)
    parts = []
    for address in tqdm(addresses[:most], desc=f"{split} moments", unit="clip"):
        part = _kept_or_made(address, split, model, kept, mark)
        if part is not None and len(part["prompt"]):
            parts.append(part)
    if not parts and split == "train":
        raise DataError("no clip with a scene to imitate; record some with `xpeng-world record`")
    if not parts:
        none = torch.zeros(0, 0, dtype=torch.int32)
        return Moments(none, none, none, none, ())
    joined = {name: torch.cat([part[name] for part in parts]) for name in FIELDS}
    return Moments(**joined, clips=tuple(len(part["prompt"]) for part in parts))


def fingerprint(model: VlaModel) -> str:
    """What the tokens of a moment depend on besides the clip."""
    digest = hashlib.sha256(f"vocabulary {VERSION} of {len(model.vocabulary)};".encode())
    for name, tensor in sorted(model.frames.state_dict().items()):
        if name.startswith("encoder") or name == "mean":
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _kept_or_made(address: ClipAddress, split: str, model: VlaModel, kept: Path, mark: str) -> dict[str, Tensor] | None:
    name = hashlib.sha256(f"{Path(address.shard).resolve()}/{address.key}".encode()).hexdigest()[:16]
    path = kept / f"{name}.safetensors"
    if path.is_file():
        try:
            with safe_open(str(path), framework="pt") as file:
                if (file.metadata() or {}).get("made_with") == mark:
                    return {field: file.get_tensor(field) for field in FIELDS}
        except (SafetensorError, OSError):
            pass  # damaged or begun by an interrupted run: made again
    clip = load_clip(address)
    if split == "train":
        check_trainable(clip, address.shard)
    if clip.track is None:
        return None
    part = moments_of(clip, model)
    aside = path.with_suffix(".partial")
    save_file({field: tensor.contiguous() for field, tensor in part.items()}, str(aside), {"made_with": mark})
    aside.replace(path)
    return part
