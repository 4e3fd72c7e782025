"""How fast the worlds step, how long the import takes, and how much memory it needs; repeated, with the spread."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..envs import XPengWorldEnv, XPengWorldVectorEnv
from ..errors import ConfigError, SimulatorError
from ..policies import load_policy
from ..world import World
from .bootstrap import Estimate, bootstrap
from .evidence import ending, evidence, write_evidence

WARM_UP_STEPS = 5
RIVAL_FRAMES = 4  # steps of the rival in each repeat
IMPORT_CODE = "import time; t = time.perf_counter(); import xpeng_world; print(time.perf_counter() - t)"


def bench(
    world: str | World,
    out: str,
    frames: int,
    repeats: int,
    batch: int,
    threads: int | None,
    reference: bool,
    make: list[str],
    rival: bool,
    painter: int = 0,
    device: str = "cpu",
    precision: str = "auto",
    compiled: bool = False,
    label: str = "",
) -> Path:
    """Measure and write metrics.json; prints the figures.

    With `painter` above 0 the video model alone is timed and nothing else: so many frames at once on `device`.

    `make` names targets of the Makefile to time in a checkout, each as NAME_s.
    `rival` times a pixel-space U-Net of DIAMOND's size as well, in turns with the world.
    With a `label` the figures' names end in it, to keep those of another number of threads beside others.

    Raises:
        ConfigError: no such world, a number below 1, or a label that cannot be part of a name.
    """
    if min(frames, repeats, batch, threads or 1) < 1:
        raise ConfigError(f"frames={frames}, repeats={repeats}, batch={batch} and threads={threads} must be at least 1")
    after = ending(label)
    named = f"xpeng-world bench world={world_name(world)} frames={frames} repeats={repeats} threads={threads or 'null'}"
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    began = time.perf_counter()
    try:
        if painter:
            from .painter_speed import painter_rates

            rates = painter_rates(str(world), painter, frames, repeats, device, precision, compiled)
            figures = {f"{'gpu' if device.startswith('cuda') else 'painter'}_fps_b{painter}": bootstrap(rates)}
            command = f"{named} painter={painter} device={device} precision={precision} compiled={str(compiled).lower()}"
        else:
            figures = _world_figures(world, frames, repeats, batch, reference, make, rival)
            command = f"{named} batch={batch} rival={str(rival).lower()} make=[{','.join(make)}]"
        figures = {name + after: figure for name, figure in figures.items()}
        command += f" label={label}" if label else ""
        record = evidence(figures, command=command, seconds=time.perf_counter() - began, threads=torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    path = write_evidence(Path(out) / "metrics.json", record)
    _print(figures, record["threads"], path)
    return path


def _world_figures(
    world: str | World, frames: int, repeats: int, batch: int, reference: bool, make: list[str], rival: bool
) -> dict[str, Estimate]:
    figures = {"step_fps_b1": speed(lambda: single_steps(world, frames), repeats)}
    figures[f"step_fps_b{batch}"] = speed(lambda: vector_steps(world, frames, batch), repeats)
    figures["peak_memory_mib"] = Estimate(peak_memory_mib())
    if rival:
        figures |= rival_ratios(world, frames, repeats, batch)
    if reference:
        figures["reference_fps"] = speed(lambda: single_steps("reference", frames), repeats)
    figures["import_s"] = bootstrap([import_seconds() for _ in range(repeats)])
    return figures | {f"{target}_s": Estimate(make_seconds(target)) for target in make}


def speed(steps: Callable[[], list[float]], repeats: int) -> Estimate:
    """Frames per second over repeats of a function that returns the seconds of each frame."""
    return bootstrap([1.0 / float(np.mean(steps())) for _ in range(repeats)])


def single_steps(world: str | World, frames: int) -> list[float]:
    """Seconds of each `env.step` of one environment, driven by the expert; its resets and decisions are not counted."""
    env = XPengWorldEnv(world)
    driver = load_policy("expert")
    seconds: list[float] = []
    seed = 0
    env.reset(seed=seed)
    for step in range(WARM_UP_STEPS + frames):
        with torch.inference_mode():
            action, _ = driver.act(None, None, env.scene)  # type: ignore[arg-type]
        start = time.perf_counter()
        *_, terminated, truncated, _ = env.step(action[0].numpy())
        taken = time.perf_counter() - start
        if step >= WARM_UP_STEPS:
            seconds.append(taken)
        if terminated or truncated:
            seed += 1
            env.reset(seed=seed)
    env.close()
    return seconds


def vector_steps(world: str | World, frames: int, batch: int) -> list[float]:
    """Seconds per frame of each step of a vector environment, driven by the expert; episodes that begin anew are counted."""
    env = XPengWorldVectorEnv(batch, world)
    driver = load_policy("expert")
    env.reset(seed=0)
    seconds: list[float] = []
    for step in range(WARM_UP_STEPS + -(-frames // batch)):
        with torch.inference_mode():
            action, _ = driver.act(None, None, env.scene)  # type: ignore[arg-type]
        start = time.perf_counter()
        env.step(action.numpy())
        taken = time.perf_counter() - start
        if step >= WARM_UP_STEPS:
            seconds.append(taken / batch)
    env.close()
    return seconds


def rival_ratios(world: str | World, frames: int, repeats: int, batch: int) -> dict[str, Estimate]:
    """Frames/s of `env.step` over those of the rival alone, at batch 1 and `batch`, each repeat timing one after the other."""
    from .rival import rival_seconds

    figures: dict[str, Estimate] = {}
    for size in (1, batch):
        steps = single_steps if size == 1 else lambda world, frames: vector_steps(world, frames, batch)
        pairs = []
        for _ in range(repeats):
            ours = float(np.mean(steps(world, frames)))
            pairs.append((rival_seconds(size, RIVAL_FRAMES), ours))
        seconds = np.array(pairs)
        figures[f"rival_fps_b{size}"] = bootstrap(1 / seconds[:, 0])
        figures[f"fps_ratio_b{size}"] = bootstrap(seconds[:, 0] / seconds[:, 1])
    return figures


def import_seconds() -> float:
    """Seconds that `import xpeng_world` takes in a fresh process."""
    done = subprocess.run([sys.executable, "-c", IMPORT_CODE], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise SimulatorError(f"`import xpeng_world` fails in a fresh process: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout)


def make_seconds(target: str) -> float:
    """Seconds that `make TARGET` takes in this checkout, once installed.

    Raises:
        SimulatorError: it fails.
    """
    began = time.perf_counter()
    done = subprocess.run(["make", target], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SimulatorError(f"`make {target}` fails: {(done.stdout + done.stderr).strip().splitlines()[-1]}")
    return time.perf_counter() - began


def peak_memory_mib() -> float:
    """Largest memory of this process so far."""
    unit = 1024 if sys.platform != "darwin" else 1024**2
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def world_name(world: str | World) -> str:
    """A name as it is, the last part of a path, or the class of a world of one's own."""
    return Path(world).name if isinstance(world, str) else type(world).__name__


def _print(figures: dict[str, Estimate], threads: int, path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value", "spread", title=f"Speed, {threads} torch thread{'s' if threads > 1 else ''}")
    for key, estimate in figures.items():
        spread = "" if estimate.low is None else f"{estimate.low:.3g} to {estimate.high:.3g}"
        table.add_row(key.replace("_", " "), f"{estimate.value:.4g}", spread)
    Console().print(table)
    print(f"figures in {path}")
