"""The VLA's model: a Qwen3 decoder over the vocabulary, with its tokenizer and its frame tokenizer in one folder."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ...errors import CheckpointError, ConfigError, nearest
from ...training_state import replace_folder
from ...world_model.video.tokenizer import FrameTokenizer
from ..registry import VLA_PAGE as PAGE
from .context import PENDING, Context, Reading
from .decoding import choose
from .embedding import structured
from .tokens import VERSION, Vocabulary, load_tokenizer
from .words import THOUGHT_LENGTH

if TYPE_CHECKING:
    from transformers import Qwen3Config, Qwen3ForCausalLM

FORMAT = ("xpeng-world-vla", 1)
CONTEXT_TOKENS = 96  # a decision with its thought, and part of the one before
LONGEST = THOUGHT_LENGTH + 12  # tokens of a slow completion at most
Mode = Literal["fast", "slow"]
MODES = ("fast", "slow")


@dataclass(frozen=True)
class Size:
    """Shape of a decoder."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    tied: bool = True  # one matrix embeds tokens and reads them off


SIZES: dict[str, Size] = {
    "tiny": Size(32, 2, 2, 1, 16, 64),
    "nano": Size(256, 4, 4, 2, 64, 512),
    "small": Size(512, 8, 8, 4, 64, 1536),
    "base": Size(768, 12, 12, 4, 64, 2304),
    "0.6b": Size(1024, 28, 16, 8, 128, 3072),
    "1.7b": Size(2048, 28, 16, 8, 128, 6144),
    "4b": Size(2560, 36, 32, 8, 128, 9728),
    "8b": Size(4096, 36, 32, 8, 128, 12288, tied=False),
    "14b": Size(5120, 40, 40, 8, 128, 17408, tied=False),
    "32b": Size(5120, 64, 64, 8, 128, 25600, tied=False),
    "72b": Size(8192, 80, 64, 8, 128, 29568, tied=False),
}


def decoder_config(size: str, vocabulary: Vocabulary, context_tokens: int = CONTEXT_TOKENS) -> Qwen3Config:
    """The transformers config of a size; every layer sees the last `context_tokens` tokens.

    Raises:
        ConfigError: an unknown size.
    """
    from transformers import Qwen3Config

    if size not in SIZES:
        raise ConfigError(f"unknown VLA size '{size}'; {nearest(size, SIZES)}")
    s, ids = SIZES[size], vocabulary.ids
    return Qwen3Config(
        vocab_size=len(vocabulary),
        hidden_size=s.hidden,
        intermediate_size=s.inner,
        num_hidden_layers=s.layers,
        num_attention_heads=s.heads,
        num_key_value_heads=s.kv_heads,
        head_dim=s.head_dim,
        tie_word_embeddings=s.tied,
        use_sliding_window=True,
        sliding_window=context_tokens,
        max_window_layers=0,
        pad_token_id=ids["<pad>"],
        bos_token_id=ids["<bos>"],
        eos_token_id=ids["<eos>"],
    )


@dataclass(frozen=True)
class Written:
    """What a model wrote for B prompts; rows end with padding."""

    ids: Tensor  # [B, L] int64, from the control token <fast> or <slow> on
    logprobs: Tensor  # [B, L] float32 under the whole vocabulary at the temperature drawn with (1 where it is 0); 0 for forced tokens
    chosen: Tensor  # [B, L] bool, drawn by the model; False for tokens that were forced and for padding
    context: Context  # to go on from


class VlaModel:
    """A decoder, its vocabulary and tokenizer, and the frame tokenizer that turns pictures into its visual tokens."""

    def __init__(
        self, decoder: Qwen3ForCausalLM, vocabulary: Vocabulary, frames: FrameTokenizer, size: str, facts: dict[str, Any] | None = None
    ) -> None:
        self.decoder, self.vocabulary, self.frames, self.size = decoder, vocabulary, frames.eval(), size
        self.facts = facts or {}
        self.tokenizer = vocabulary.tokenizer()

    @classmethod
    def create(cls, size: str, frames: FrameTokenizer, seed: int = 0, context_tokens: int = CONTEXT_TOKENS) -> VlaModel:
        """An untrained model whose embeddings already know which tokens are neighbours."""
        from transformers import Qwen3ForCausalLM

        vocabulary = Vocabulary(frames.codebook_size)
        config = decoder_config(size, vocabulary, context_tokens)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder = Qwen3ForCausalLM(config)
            embeddings: Any = decoder.get_input_embeddings()
            embeddings.weight.data.copy_(structured(vocabulary, frames, config.hidden_size))
        return cls(decoder.eval(), vocabulary, frames, size)

    def save(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> Path:
        """Write everything to `folder`, aside first: `AutoModelForCausalLM` and `AutoTokenizer` read it too.

        Args:
            folder: replaced if it exists.
            dtype: of the stored weights; float16 halves the files, and loading gives float32 again.
        """
        folder = Path(folder)
        aside = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        tensors = {name: tensor.detach().cpu().to(dtype) for name, tensor in self.decoder.state_dict().items()}
        if self.decoder.config.tie_word_embeddings:
            del tensors["lm_head.weight"]
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, aside / "model.safetensors", {"format": "pt"})
        kept = self.decoder.config.dtype
        self.decoder.config.architectures = ["Qwen3ForCausalLM"]
        self.decoder.config.dtype = dtype
        self.decoder.config.save_pretrained(aside)
        self.decoder.config.dtype = kept
        self.tokenizer.save_pretrained(str(aside))
        frames = copy.deepcopy(self.frames)
        torch.nn.Module.to(frames, dtype)  # diffusers' own warns of modules that are to stay float32, of which there are none
        frames.register_to_config(_name_or_path="")  # the folder that it was read from
        frames.save_pretrained(aside / "frames")
        page = {"format": FORMAT[0], "version": FORMAT[1], "vocabulary": VERSION, "size": self.size, "facts": self.facts}
        (aside / PAGE).write_text(json.dumps(page, indent=1) + "\n")
        replace_folder(aside, folder)
        return folder

    @classmethod
    def load(cls, folder: str | Path) -> VlaModel:
        """Read what `save` wrote.

        Raises:
            CheckpointError: missing, damaged, or of another version.
        """
        from transformers import Qwen3ForCausalLM

        folder = Path(folder)
        page = read_page(folder)
        tokenizer, vocabulary = load_tokenizer(folder)
        frames = FrameTokenizer.load(folder / "frames")
        if frames.codebook_size != vocabulary.codebook:
            sizes = f"{frames.codebook_size} tokens, the vocabulary {vocabulary.codebook}"
            raise CheckpointError(f"the frame tokenizer in '{folder}' has {sizes}; train the VLA again")
        try:
            loaded: Any = Qwen3ForCausalLM.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
            decoder, report = loaded
            lacking = sorted(name for name in report["missing_keys"] if name != "lm_head.weight")
            if lacking or report["unexpected_keys"] or report["mismatched_keys"]:
                raise ValueError(f"weights of another model, {(lacking or list(report['unexpected_keys']) or ['shapes'])[0]}")
            if decoder.config.vocab_size != len(vocabulary):
                raise ValueError(f"{decoder.config.vocab_size} tokens in the model, {len(vocabulary)} in the vocabulary")
        except Exception as error:  # transformers and safetensors raise many kinds for damaged files
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"the VLA in '{folder}' cannot be read ({reason}); train it again") from None
        model = cls(decoder.eval(), vocabulary, frames, page["size"], page["facts"])
        model.tokenizer = tokenizer
        return model

    def begin(self, batch: int) -> Context:
        """The context of `batch` episodes that begin: <bos> is the first token they read."""
        return Context.begin(self.decoder.config, batch, self.vocabulary.ids["<bos>"])

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor,
        mode: Mode = "fast",
        temperature: float = 0.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        context: Context | None = None,
    ) -> Written:
        """Write one decision for each prompt [B, PROMPT_LENGTH].

        Fast: `<fast> <act>` and `</act>` are forced and each number is chosen among its own bins, so that the format cannot fail.
        Slow: only `<slow>` is forced; thought and format are the model's own, LONGEST tokens at most.

        Args:
            prompt: from `Vocabulary.prompt`.
            mode: "fast" or "slow".
            temperature: 0 takes the likeliest token, and of a number's bins the median of their distribution.
            generator: the source of draws; one for each row makes a row independent of its batch.
            context: of the episode so far; None begins one.

        Raises:
            ConfigError: an unknown mode, or a temperature below 0.
        """
        if mode not in MODES:
            raise ConfigError(f"unknown VLA mode '{mode}'; {nearest(mode, MODES)}")
        if not temperature >= 0:
            raise ConfigError(f"temperature={temperature} must be 0 or more")
        start = context if context is not None else self.begin(len(prompt))
        reading = Reading(start)
        tag = lambda name: prompt.new_full((len(prompt), 1), self.vocabulary.ids[name])
        if mode == "fast":
            return self._fast(reading, prompt, tag, temperature, generator)
        return self._slow(reading, prompt, tag, temperature, generator)

    def _fast(self, reading: Reading, prompt: Tensor, tag: Any, temperature: float, generator: Any) -> Written:
        logits = self._read(reading, torch.cat((reading.context.pending, prompt, tag("<fast>"), tag("<act>")), 1))
        steer, steer_logprob = choose(logits, self.vocabulary, temperature, generator, "steer")
        logits = self._read(reading, steer.unsqueeze(1))
        wanted, wanted_logprob = choose(logits, self.vocabulary, temperature, generator, "accelerate")
        ids = torch.cat((tag("<fast>"), tag("<act>"), steer.unsqueeze(1), wanted.unsqueeze(1), tag("</act>")), 1)
        none = torch.zeros_like(steer_logprob)
        logprobs = torch.stack((none, none, steer_logprob, wanted_logprob, none), 1)
        chosen = torch.zeros_like(ids, dtype=torch.bool)
        chosen[:, 2:4] = True
        return Written(ids, logprobs, chosen, reading.finish(ids[:, -PENDING:]))

    def _slow(self, reading: Reading, prompt: Tensor, tag: Any, temperature: float, generator: Any) -> Written:
        known = self.vocabulary.ids
        ids, logprobs = [tag("<slow>").squeeze(1)], [torch.zeros(len(prompt), device=prompt.device)]
        open_rows = torch.ones(len(prompt), dtype=torch.bool, device=prompt.device)
        chosen = [torch.zeros_like(open_rows)]
        last = ids[0]
        logits = self._read(reading, torch.cat((reading.context.pending, prompt, tag("<slow>")), 1))
        for _ in range(LONGEST - 1):
            token, logprob = choose(logits, self.vocabulary, temperature, generator)
            token = torch.where(open_rows, token, known["<pad>"])
            ids.append(token)
            logprobs.append(torch.where(open_rows, logprob, torch.zeros_like(logprob)))
            chosen.append(open_rows)
            last = torch.where(open_rows, token, last)
            ended = (token == known["</act>"]) | (token == known["<eos>"])
            going = open_rows & ~ended
            if len(ids) == LONGEST or not bool(going.any()):
                break
            # rows that have ended read nothing more; their last token waits for the next decision
            open_rows = going
            logits = self._read(reading, torch.where(going, token, -1).unsqueeze(1))
        pending = torch.full((len(prompt), PENDING), -1, dtype=torch.int64, device=prompt.device)
        pending[:, -1] = last
        return Written(torch.stack(ids, 1), torch.stack(logprobs, 1), torch.stack(chosen, 1), reading.finish(pending))

    def _read(self, reading: Reading, tokens: Tensor) -> Tensor:
        """Logits [B, vocabulary] after tokens [B, T], -1 for none."""
        real = tokens >= 0
        places, mask = reading.add(real)
        out = self.decoder(
            input_ids=tokens.clamp_min(0),
            position_ids=places,
            attention_mask=mask,
            past_key_values=reading.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].float()


def read_page(folder: Path) -> dict[str, Any]:
    """The JSON page of a VLA's folder.

    Raises:
        CheckpointError: missing, damaged, or of another version.
    """
    try:
        page = json.loads((folder / PAGE).read_text())
        known = (page["format"], page["version"])
        if not isinstance(page["facts"], dict) or not isinstance(page["size"], str):
            raise ValueError("size or facts of the wrong type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{PAGE}: {' '.join(str(error).split())}"
        raise CheckpointError(f"no usable VLA in '{folder}' ({reason}); train one with `xpeng-world train-policy policy=vla`") from None
    if known != FORMAT or page.get("vocabulary") != VERSION:
        found = f"{known[0]} {known[1]} with vocabulary {page.get('vocabulary')}"
        raise CheckpointError(f"'{folder}' holds {found}; this code reads {FORMAT[0]} {FORMAT[1]} with vocabulary {VERSION}")
    return dict(page)


def is_vla(folder: str | Path) -> bool:
    """Whether a folder says that it holds a VLA."""
    return (Path(folder) / PAGE).is_file()
