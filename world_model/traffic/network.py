"""The network of the learned agents: one query per agent attends to its way and to those around it, and names its next motion."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from ...errors import CheckpointError
from .views import OTHER, OWN, PARTS, WAY, Views
from .vocabulary import Vocabulary

FORMAT, VERSION = "xpeng-world-traffic", 1
WEIGHTS, PAGE = "traffic.safetensors", "traffic.json"


@dataclass(frozen=True)
class TrafficSize:
    """Widths of the network."""

    query: int = 128  # of an agent's own state
    token: int = 64  # of what it attends to
    layers: int = 3
    heads: int = 4


class _Layer(nn.Module):
    """The query attends to the tokens, then is worked on by itself; both residual, normalised before."""

    def __init__(self, size: TrafficSize) -> None:
        super().__init__()
        self.heads = size.heads
        self.norm, self.token_norm = nn.LayerNorm(size.query), nn.LayerNorm(size.token)
        self.ask = nn.Linear(size.query, size.query)
        self.tell = nn.Linear(size.token, 2 * size.query)
        self.take = nn.Linear(size.query, size.query)
        self.work = nn.Sequential(
            nn.LayerNorm(size.query), nn.Linear(size.query, 2 * size.query), nn.GELU(), nn.Linear(2 * size.query, size.query)
        )

    def forward(self, query: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Query [D, Q], tokens [D, T, C] of which `mask` [D, T] count."""
        count = tokens.shape[1]
        asked = self.ask(self.norm(query)).view(-1, self.heads, 1, query.shape[-1] // self.heads)
        key, value = self.tell(self.token_norm(tokens)).view(-1, count, 2, self.heads, query.shape[-1] // self.heads).unbind(2)
        told = functional.scaled_dot_product_attention(asked, key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask[:, None, None])
        query = query + self.take(told.reshape(query.shape))
        worked: Tensor = query + self.work(query)
        return worked


class TrafficNetwork(nn.Module):
    """Logits of the V motion tokens from views."""

    def __init__(self, vocabulary: Vocabulary, size: TrafficSize | None = None) -> None:
        super().__init__()
        self.size = size or TrafficSize()
        self.register_buffer("motions", vocabulary.motions.float())
        self.register_buffer("group", vocabulary.group)
        embed = lambda numbers: nn.Sequential(nn.Linear(numbers, self.size.token), nn.GELU(), nn.Linear(self.size.token, self.size.token))
        self.own = nn.Sequential(nn.Linear(OWN, self.size.query), nn.GELU(), nn.Linear(self.size.query, self.size.query))
        self.way, self.others = embed(WAY), embed(OTHER)
        self.place = nn.Parameter(0.02 * torch.randn(PARTS + 1, self.size.token))  # the last one is where nobody is
        self.layers = nn.ModuleList(_Layer(self.size) for _ in range(self.size.layers))
        self.head = nn.Sequential(nn.LayerNorm(self.size.query), nn.Linear(self.size.query, len(vocabulary)))

    @property
    def vocabulary(self) -> Vocabulary:
        """The motions that the logits are of."""
        return Vocabulary(self.motions, self.group)  # type: ignore[arg-type]

    def forward(self, views: Views, group: Tensor) -> Tensor:
        """Logits [B, M, V]; tokens of groups other than `group` [B, M] have -inf."""
        batch = views.own.shape[:2]
        flat = views.map(lambda t: t.flatten(0, 1))
        query = self.own(flat.own)
        way = self.way(flat.way) + self.place[:PARTS]
        tokens = torch.cat((way, self.others(flat.others), self.place[PARTS].expand(len(query), 1, -1)), 1)
        always = flat.seen.new_ones(len(query), PARTS)
        mask = torch.cat((always, flat.seen, always[:, :1]), 1)
        for layer in self.layers:
            query = layer(query, tokens, mask)
        logits: Tensor = self.head(query)
        logits = logits.masked_fill(self.vocabulary.group != group.reshape(-1, 1), -torch.inf)
        return logits.unflatten(0, batch)

    def grown(self, vocabulary: Vocabulary) -> TrafficNetwork:
        """The same network for a vocabulary that begins with its own; further tokens are as likely as their group's first."""
        count = len(self.vocabulary)
        if len(vocabulary) == count:
            return self
        other = TrafficNetwork(vocabulary, self.size)
        held = self.state_dict()
        first = (vocabulary.group[count:].unsqueeze(-1) == self.vocabulary.group).int().argmax(-1)
        for name in ("head.1.weight", "head.1.bias"):
            held[name] = torch.cat((held[name], held[name][first]))
        held["motions"], held["group"] = other.motions, other.group  # type: ignore[assignment]
        other.load_state_dict(held)
        return other

    def save(self, folder: str | Path, about: dict[str, Any] | None = None) -> None:
        """Write `traffic.safetensors` and `traffic.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}, folder / WEIGHTS)
        page = {"format": FORMAT, "version": VERSION, "size": asdict(self.size), "tokens": len(self.motions), **(about or {})}  # type: ignore[arg-type]
        (folder / PAGE).write_text(json.dumps(page, indent=1) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> TrafficNetwork:
        """Read what `save` wrote.

        Raises:
            CheckpointError: files that are missing, damaged or of another version.
        """
        folder = Path(folder)
        for name in (PAGE, WEIGHTS):
            if not (folder / name).is_file():
                raise CheckpointError(f"no learned traffic in {folder}: {name} is missing; train it (`xpeng-world train-traffic`)")
        try:
            page = json.loads((folder / PAGE).read_text())
            if (page["format"], page["version"]) != (FORMAT, VERSION):
                raise CheckpointError(
                    f"{folder / PAGE} is {page['format']} {page['version']}, this code reads {FORMAT} {VERSION}; train again"
                )
            count = int(page["tokens"])
            empty = Vocabulary(torch.zeros(count, 2), torch.zeros(count, dtype=torch.int64))
            network = cls(empty, TrafficSize(**page["size"]))
            network.load_state_dict(load_file(folder / WEIGHTS))
        except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(f"the learned traffic in {folder} is damaged ({first}); train it again") from None
        return network.eval()
