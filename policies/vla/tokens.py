"""The vocabulary: camera, motion, route, thoughts and actions as tokens of one language."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...errors import CheckpointError, DataError
from ...world import Observation
from . import navigation
from .bins import ACCELERATE, EGO, NAVIGATION, QUANTITIES, STANDARD, STEER, TURN, Bins
from .words import WORDS

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

VERSION = 1  # of the vocabulary; a model reads only the one it was trained with
FRAME_TOKENS = 32
CONTROL = (
    "<pad>", "<bos>", "<eos>", "<cam>", "</cam>", "<ego>", "</ego>", "<nav>", "</nav>",
    "<think>", "</think>", "<act>", "</act>", "<fast>", "<slow>",
)  # fmt: skip
PROMPT_LENGTH = FRAME_TOKENS + len(EGO) + len(NAVIGATION) + 6
FALLBACK_ACCELERATION = -1.5  # m/s2, asked for when an action cannot be read


@dataclass(frozen=True)
class Vocabulary:
    """Ids of all tokens: control tokens, words, binned quantities, then the visual tokens."""

    codebook: int = 2560  # visual tokens

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The token of each id."""
        numbers = tuple(f"<{bins.name}:{k}>" for bins in QUANTITIES for k in range(len(bins)))
        return (*CONTROL, *WORDS, *numbers, *(f"<v:{k}>" for k in range(self.codebook)))

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each token."""
        return {name: number for number, name in enumerate(self.names)}

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.names)

    @cached_property
    def first(self) -> dict[str, int]:
        """Id of the first bin of each quantity, by its name."""
        return {bins.name: self.ids[f"<{bins.name}:0>"] for bins in QUANTITIES}

    @property
    def first_visual(self) -> int:
        """Id of visual token 0."""
        return self.ids["<v:0>"]

    def group(self, bins: Bins) -> slice:
        """The ids of a quantity's bins."""
        begin = self.first[bins.name]
        return slice(begin, begin + len(bins))

    def prompt(self, observation: Observation, frame_tokens: Tensor) -> Tensor:
        """Prompts [B, PROMPT_LENGTH] int64: what the car sees, how it moves and where it shall go.

        Args:
            observation: [B].
            frame_tokens: [B, 32] in [0, codebook), the camera's picture by the frame tokenizer.

        Raises:
            DataError: visual tokens that the vocabulary lacks, or numbers that are not finite.
        """
        if frame_tokens.shape[1:] != (FRAME_TOKENS,) or int(frame_tokens.min()) < 0 or int(frame_tokens.max()) >= self.codebook:
            raise DataError(f"a frame is {FRAME_TOKENS} tokens from 0 to {self.codebook - 1}; encode it with the VLA's own tokenizer")
        if not bool(torch.isfinite(observation.ego).all() and torch.isfinite(observation.route).all()):
            raise DataError("an observation holds NaN or infinity; check the world's ego state and route")
        ego, route = observation.ego, observation.route
        speed, acceleration, steering, yaw_rate, limit = ego.unbind(-1)
        motion = (speed, limit - speed, limit, acceleration, steering, yaw_rate)
        way = (
            navigation.turn(speed, route),
            *navigation.lateral(route).unbind(-1),
            navigation.bend_speed(route) - speed,
            navigation.remaining(route),
        )
        tag = lambda name: torch.full((len(ego),), self.ids[name], device=ego.device)
        number = lambda bins, value: bins.encode(value) + self.first[bins.name]
        columns = [
            tag("<cam>"),
            *(frame_tokens + self.first_visual).unbind(-1),
            tag("</cam>"),
            tag("<ego>"),
            *(number(bins, value) for bins, value in zip(EGO, motion, strict=True)),
            tag("</ego>"),
            tag("<nav>"),
            *(number(bins, value) for bins, value in zip(NAVIGATION, way, strict=True)),
            tag("</nav>"),
        ]
        return torch.stack(columns, -1)

    def action_ids(self, action: Tensor) -> Tensor:
        """Steering and acceleration tokens [B, 2] of actions [B, 2] in [-1, 1]."""
        pedal = action[:, 1]
        wanted = torch.where(pedal >= 0, pedal * STANDARD["max_acceleration"], pedal * STANDARD["max_braking"])
        bins = (STEER.encode(action[:, 0]), ACCELERATE.encode(wanted))
        return torch.stack((bins[0] + self.first["steer"], bins[1] + self.first["accelerate"]), -1)

    def action(self, ids: Tensor) -> Tensor:
        """Actions [B, 2] in [-1, 1] of steering and acceleration tokens [B, 2].

        Raises:
            DataError: tokens of another kind.
        """
        steer, wanted = ids[:, 0] - self.first["steer"], ids[:, 1] - self.first["accelerate"]
        inside = (steer >= 0) & (steer < len(STEER)) & (wanted >= 0) & (wanted < len(ACCELERATE))
        if not bool(inside.all()):
            raise DataError("an action is one steering and one acceleration token; use parse_action for what a model wrote")
        return torch.stack((STEER.decode(steer), _pedal(ACCELERATE.decode(wanted))), -1)

    def completion(self, action: Tensor, thought: Tensor | None = None) -> Tensor:
        """What the model should write: [B, 5] without thoughts, [B, 7 + W] with word ids [B, W]."""
        tag = lambda name: torch.full((len(action), 1), self.ids[name])
        act = (tag("<act>"), self.action_ids(action), tag("</act>"))
        if thought is None:
            return torch.cat((tag("<fast>"), *act), -1)
        return torch.cat((tag("<slow>"), tag("<think>"), thought, tag("</think>"), *act), -1)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The vocabulary as a tokenizer of whitespace-separated token names; saved by `save_pretrained` as tokenizer.json."""
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import PreTrainedTokenizerFast

        backend = Tokenizer(models.WordLevel(self.ids))
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", vocabulary_version=VERSION
        )

    def text(self, ids: Tensor) -> str:
        """Token names of ids [L], for people to read."""
        return " ".join(self.names[int(number)] for number in ids)


def load_tokenizer(folder: str | Path) -> tuple[PreTrainedTokenizerFast, Vocabulary]:
    """The tokenizer of a VLA's folder and its vocabulary.

    Raises:
        CheckpointError: missing, damaged, or of another version of the vocabulary.
    """
    from transformers import PreTrainedTokenizerFast

    again = "train it again with `xpeng-world train-policy policy=vla`"
    try:
        tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        found = {str(name): int(number) for name, number in tokenizer.get_vocab().items()}
        version = tokenizer.init_kwargs.get("vocabulary_version")
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"no usable tokenizer in '{folder}' ({reason}); {again}") from None
    vocabulary = Vocabulary(sum(name.startswith("<v:") for name in found))
    if version != VERSION or found != vocabulary.ids:
        raise CheckpointError(f"the tokenizer in '{folder}' is of version {version}, not {VERSION} as this code writes it; {again}")
    return tokenizer, vocabulary


@dataclass(frozen=True)
class Parsed:
    """Actions read from what a model wrote."""

    action: Tensor  # [B, 2] in [-1, 1]
    failed: Tensor  # [B] bool, nothing could be read: the car holds its lane and brakes gently


def parse_action(vocabulary: Vocabulary, completion: Tensor, prompt: Tensor) -> Parsed:
    """Read the action of each completion [B, L]: `<act>` steer accelerate `</act>`, nothing but padding and <eos> after it.

    A row without exactly that has failed: it steers as its prompt [B, PROMPT_LENGTH] says the route runs, and asks for
    FALLBACK_ACCELERATION.
    """
    ids = vocabulary.ids
    length = completion.shape[1]
    opened = completion == ids["<act>"]
    place = opened.int().argmax(1)
    complete = (opened.sum(1) == 1) & (place + 3 < length)
    index = (place.unsqueeze(1) + torch.arange(1, 4, device=completion.device)).clamp_max(length - 1)
    steer, wanted, closed = completion.gather(1, index).unbind(1)
    within = lambda token, bins: (token >= vocabulary.group(bins).start) & (token < vocabulary.group(bins).stop)
    after = torch.arange(length, device=completion.device) > place.unsqueeze(1) + 3
    silent = ((completion == ids["<pad>"]) | (completion == ids["<eos>"]) | ~after).all(1)
    good = complete & within(steer, STEER) & within(wanted, ACCELERATE) & (closed == ids["</act>"]) & silent

    route = prompt[:, FRAME_TOKENS + len(EGO) + 5] - vocabulary.first["turn"]
    held = torch.stack((TURN.decode(route.clamp(0, len(TURN) - 1)), torch.full_like(route, _FALLBACK_PEDAL, dtype=torch.float32)), -1)
    safe = torch.stack((torch.where(good, steer, ids["<steer:0>"]), torch.where(good, wanted, ids["<accelerate:0>"])), -1)
    return Parsed(torch.where(good.unsqueeze(-1), vocabulary.action(safe), held), ~good)


_FALLBACK_PEDAL = FALLBACK_ACCELERATION / STANDARD["max_braking"]


def _pedal(wanted: Tensor) -> Tensor:
    return torch.where(wanted >= 0, wanted / STANDARD["max_acceleration"], wanted / STANDARD["max_braking"]).clamp(-1, 1)
