"""Compile a policy for the car, compare every file with the network it came from, and write the bundle that says so."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, ConfigError, nearest
from ..policies.export.bundle import write_bundle, write_file
from ..policies.export.engines import CHIPS, Engine, build_engine, check_chips
from ..policies.export.exportable import Exportable, lag_of, load_exportable
from ..policies.export.frames import driving_frames
from ..policies.export.onnx_model import OPSET, to_onnx
from ..policies.export.operators import check_operators
from ..policies.export.packages import require, version
from ..policies.export.quantise import quantise
from ..policies.export.runtime import OnnxNetwork
from ..policies.export.trtexec import SCRIPT, trtexec_script
from ..world import Observation
from .bootstrap import Estimate
from .evidence import evidence, write_evidence

TARGETS = ("onnx", "tensorrt")


@dataclass
class ExportConfig:
    """Everything an export depends on."""

    policy: str  # folder of a trained policy
    target: str = "onnx"
    data: str = "runs/logs"
    split: str = "validation"
    out: str = "runs/export"
    frames: int = 1000
    tolerance: float = 1e-5
    int8: bool = True
    calibration_frames: int = 256
    chips: list[str] = field(default_factory=lambda: list(CHIPS))
    bundle_engines: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Difference:
    """How far the actions of a file lie from torch's, over M frames and both channels."""

    largest: float
    mean: float
    frames: int


def export_policy(config: ExportConfig) -> Path:
    """Export a policy, check the result, and write bundle.zip and metrics.json; returns the bundle's path.

    Everything that could be refused is asked for first: names, packages, weights, frames, operators.

    Raises:
        ConfigError: an unknown target, chip or format, a missing package, or an operator that a target lacks.
        CheckpointError: weights that cannot be used, or an exported model whose actions are not torch's.
        DataError: not enough driving frames.
    """
    _check(config)
    began = time.perf_counter()
    policy = load_exportable(config.policy)
    lag = lag_of(policy.inputs)
    frames = driving_frames(config.data, config.split, config.frames, config.seed, lag)
    calibration = driving_frames(config.data, "train", config.calibration_frames, config.seed, lag) if config.int8 else None
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models, verified, figures = _models(config, policy, frames, calibration)
    finally:
        torch.set_num_threads(before)
    files = {f"policy.{precision}.onnx": model for precision, model in models.items()}
    names = {precision: f"policy.{precision}.onnx" for precision in models}
    files[SCRIPT] = trtexec_script(names, policy.inputs).encode()
    verified.append({"what": f"{SCRIPT} builds an engine on the car's chip", "where": "nowhere: such a chip was not at hand", "run": False})
    if config.target == "tensorrt":
        engines = _engines(config, models["fp32"], policy, verified, figures)
        if config.bundle_engines:
            files |= engines
    manifest = {
        "policy": {"format": policy.format, "name": _name(config.policy), **policy.facts},
        "models": names,
        "inputs": [port.facts() for port in policy.inputs],
        "outputs": [port.facts() for port in policy.outputs],
        "ranges_of_the_frames": {port.name: _range(getattr(frames, port.name)) for port in policy.inputs},
        "onnx": {"opset": OPSET, "operators": check_operators(models["fp32"], "policy.fp32.onnx")},
        "verified": verified,
    }
    path = Path(config.out) / "bundle.zip"
    digest = write_bundle(path, _storable(manifest), files)
    record = evidence(figures, command=_command(config), seconds=time.perf_counter() - began, seeds=[config.seed], threads=1)
    write_evidence(Path(config.out) / "metrics.json", record)
    _print(figures, path, digest)
    return path


def _check(config: ExportConfig) -> None:
    """Refuse what can be refused without any work."""
    if config.target not in TARGETS:
        raise ConfigError(f"unknown target '{config.target}'; {nearest(config.target, TARGETS)}")
    if not config.tolerance > 0:
        raise ConfigError(f"tolerance={config.tolerance} must be above 0")
    check_chips(config.chips)
    if config.target == "tensorrt" and not config.chips:
        raise ConfigError(f"target=tensorrt needs chips=[...]; known: {', '.join(CHIPS)}")
    require("export")
    if config.target == "tensorrt":
        require("tensorrt")


def _models(
    config: ExportConfig, policy: Exportable, frames: Observation, calibration: Observation | None
) -> tuple[dict[str, bytes], list[dict[str, Any]], dict[str, Estimate]]:
    """The models by precision, what was verified of them, and the figures."""
    models = {"fp32": to_onnx(policy)}
    check_operators(models["fp32"], "policy.fp32.onnx")
    exact = difference(policy, models["fp32"], frames, optimise=True)
    if not exact.largest <= config.tolerance:
        raise CheckpointError(
            f"the exported actions differ from torch's by up to {exact.largest:.3g} (tolerance={config.tolerance:g}): "
            f"nothing was written; check the weights of '{config.policy}'"
        )
    where = f"CPU, {version('onnxruntime')}, 1 thread, against {version('torch')}"
    seen = {"frames": exact.frames, "split": config.split}
    verified: list[dict[str, Any]] = [
        {
            "what": "policy.fp32.onnx gives torch's actions, one frame a call",
            "where": f"{where}, graph optimisation on",
            "run": True,
            "tolerance": config.tolerance,
            "largest_difference": exact.largest,
            **seen,
        }
    ]
    figures = {"parity_fp32": Estimate(exact.largest, n=exact.frames)}
    if calibration is not None:
        models["int8"] = quantise(models["fp32"], calibration)
        rounded = difference(policy, models["int8"], frames, optimise=False)
        verified.append(
            {
                "what": "policy.int8.onnx gives actions near torch's",
                "where": f"{where}, graph optimisation off, so that every value is rounded as the file says",
                "run": True,
                "largest_difference": rounded.largest,
                "mean_difference": rounded.mean,
                "calibration_frames": calibration.batch_size,
                **seen,
            }
        )
        figures["int8_mean_difference"] = Estimate(rounded.mean, n=rounded.frames)
        figures["int8_max_difference"] = Estimate(rounded.largest, n=rounded.frames)
    return models, verified, figures


@torch.no_grad()
def difference(policy: Exportable, model: bytes, frames: Observation, *, optimise: bool) -> Difference:
    """Compare a model's actions with the torch graph's, frame by frame as the car calls it."""
    network = OnnxNetwork(model, policy.inputs, policy.outputs, optimise=optimise)
    gaps: list[Tensor] = []
    for row in range(frames.batch_size):
        values = {port.name: getattr(frames, port.name)[row : row + 1] for port in policy.inputs}
        gaps.append((network(values) - policy.graph(*values.values())).abs())
    gap = torch.cat(gaps).double()
    return Difference(float(gap.max()), float(gap.mean()), frames.batch_size)


def _engines(
    config: ExportConfig, model: bytes, policy: Exportable, verified: list[dict[str, Any]], figures: dict[str, Estimate]
) -> dict[str, bytes]:
    """Build the engines, write them beside the bundle, and note what is known of them."""
    built: list[Engine] = []
    began = time.perf_counter()
    for chip in config.chips:
        built.append(build_engine(model, chip, policy.inputs))
    seconds = (time.perf_counter() - began) / len(built)
    files = {}
    for engine in built:
        name = f"engines/{engine.chip}.engine"
        files[name] = engine.data
        write_file(Path(config.out) / name, engine.data)
        verified.append(
            {
                "what": f"{name} ({CHIPS[engine.chip]}) was built from policy.fp32.onnx",
                "where": f"{version('tensorrt_rtx')}, ahead of time, without such a chip",
                "run": False,
                "bytes": len(engine.data),
                "sha256": hashlib.sha256(engine.data).hexdigest(),
                "in_bundle": config.bundle_engines,
            }
        )
    figures["engines_built"] = Estimate(len(built))
    figures["engine_build_s"] = Estimate(seconds, n=len(built))
    return files


def _range(values: Tensor) -> dict[str, list[float]]:
    """Least and greatest value of each component over the frames compared; over all pixels of a picture."""
    rows = values.flatten(0, -2).float() if values.dtype != torch.uint8 else values.flatten().float().unsqueeze(-1)
    return {"least": rows.amin(0).tolist(), "greatest": rows.amax(0).tolist()}


def _storable(value: Any) -> Any:
    """Numbers rounded to 9 digits, so that a manifest does not end in noise."""
    if isinstance(value, dict):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _command(config: ExportConfig) -> str:
    words = [f"xpeng-world export policy={_name(config.policy)} target={config.target} split={config.split} frames={config.frames}"]
    words.append(f"int8={str(config.int8).lower()} calibration_frames={config.calibration_frames} seed={config.seed}")
    if config.target == "tensorrt":
        words.append(f"chips=[{','.join(config.chips)}]")
    return " ".join(words)


def _name(path: str) -> str:
    """A path as it was given, or the last part of an absolute one."""
    return Path(path).name if Path(path).is_absolute() else path


def _print(figures: dict[str, Estimate], path: Path, digest: str) -> None:
    for key, estimate in figures.items():
        print(f"{key.replace('_', ' ')}: {estimate.value:.4g} (n = {estimate.n})")
    print(f"written: {path}, SHA-256 {digest}")
