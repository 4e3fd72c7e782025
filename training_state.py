"""Training states on disk: tensors and a JSON page in one folder, replaced as a whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .errors import CheckpointError


def replace_folder(new: Path, final: Path) -> None:
    """Put a finished folder in the place of another."""
    old = final.with_name(final.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def save_state(folder: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer, meta: dict[str, Any]) -> None:
    """Write modules, optimiser and `meta` (JSON) to `folder`, aside first."""
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors = {f"{name}.{k}": v for name, module in modules.items() for k, v in module.state_dict().items()}
    for index, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in entry.items()}
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, aside / "state.safetensors")
    (aside / "state.json").write_text(json.dumps(meta, indent=1) + "\n")
    replace_folder(aside, folder)


def read_meta(folder: Path, kind: str, version: int) -> dict[str, Any] | None:
    """The JSON page of a state, or None where there is no state.

    Raises:
        CheckpointError: damaged, or of another kind or version.
    """
    if not folder.is_dir():
        return None
    try:
        meta = json.loads((folder / "state.json").read_text())
        known = (meta["format"], meta["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"the training state '{folder}' cannot be read ({error!r}); delete it or set resume=false") from None
    if known != (kind, version):
        raise CheckpointError(f"'{folder}' is a training state of {known[0]} {known[1]}, not of {kind} {version}; choose another out=")
    return dict(meta)


def load_state(folder: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer) -> None:
    """Fill modules and optimiser from `save_state`'s folder.

    Raises:
        CheckpointError: damaged tensors, or tensors of another model.
    """
    try:
        tensors = load_file(folder / "state.safetensors")
        for name, module in modules.items():
            module.load_state_dict(_part(tensors, f"{name}."))
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimiser.").items():
            index, key = name.split(".", 1)
            entries.setdefault(int(index), {})[key] = value
        optimiser.load_state_dict({"state": entries, "param_groups": optimiser.state_dict()["param_groups"]})
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"the training state '{folder}' cannot be used ({reason}); delete it or set resume=false") from None


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
