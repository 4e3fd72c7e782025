"""How long a policy takes to decide: one frame a call, on one thread."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from ..camera import CAMERA
from ..errors import ConfigError
from ..policies import load_policy
from ..policies.export.frames import driving_frames
from ..policies.registry import is_vla_name
from ..world import EGO_OBSERVATION, ROUTE_AHEAD_POINTS, Observation, Policy
from .bootstrap import Estimate, bootstrap
from .evidence import evidence, write_evidence

WARM_UP = 50  # decisions that are not counted
PICTURES = 32  # different observations, so that no cache holds the only one
DRIVING = 200  # observations of recorded driving


def bench_car(policy: str, out: str, decisions: int, data: str | None, seed: int) -> Path:
    """Time a policy's decisions and write metrics.json; prints the figures.

    A decision is one call of `act`, from an observation [1] in memory to an action [1, 2], of a policy that reads no scene. Figures:
    `decision_ms_p50` and `decision_ms_p99`; of a VLA instead `decisions_per_s_fast` and `decisions_per_s_slow`, the rates at which it
    acts at once and thinks first, whatever mode it was named with.

    Args:
        policy: name, bundle or folder.
        out: folder for metrics.json.
        decisions: timed, one frame each.
        data: folder of shards whose driving is seen; None for noise, which is as good for a network whose work does not depend on
            what it sees. A VLA's thoughts are as long as it makes them, so its slow rate needs driving to mean anything.
        seed: of the observations.

    Raises:
        ConfigError: no such policy, a privileged one, or fewer than 100 decisions.
        DataError: no recorded driving in `data`.
    """
    if decisions < 100:
        raise ConfigError(f"decisions={decisions} are too few for a 99th percentile; use 100 or more")
    drivers = {"": policy}
    if is_vla_name(policy):
        drivers = {mode: policy.removesuffix(":slow") + suffix for mode, suffix in (("fast", ""), ("slow", ":slow"))}
    loaded = {mode: load_policy(name) for mode, name in drivers.items()}
    if any(driver.privileged for driver in loaded.values()):
        raise ConfigError(f"'{policy}' reads the scene, which no car has; time a bundle, the folder of a car network or a VLA")
    seen = noise(seed) if data is None else driving(data, seed)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    figures: dict[str, Estimate] = {}
    try:
        for mode, driver in loaded.items():
            seconds = decision_seconds(driver, decisions, seen, seed)
            if mode:
                figures[f"decisions_per_s_{mode}"] = rate(seconds)
            else:
                figures |= {f"decision_ms_p{share}": percentile_ms(seconds, share) for share in (50, 99)}
    finally:
        torch.set_num_threads(before)
    shown = lambda path: Path(path).name if Path(path).is_absolute() else path
    command = f"xpeng-world bench-car policy={shown(policy)} decisions={decisions}"
    command += ("" if data is None else f" data={shown(data)}") + f" seed={seed}"
    record = evidence(figures, command=command, seconds=time.perf_counter() - began, seeds=[seed], threads=1)
    path = write_evidence(Path(out) / "metrics.json", record)
    for key, figure in figures.items():
        print(f"{key.replace('_', ' ')}: {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}, {figure.n} decisions)")
    print(f"figures in {path}")
    return path


def noise(seed: int) -> list[Observation]:
    """PICTURES observations [1] of noise."""
    rng = torch.Generator().manual_seed(seed)
    return [
        Observation(
            torch.randint(0, 256, (1, CAMERA.height, CAMERA.width, 3), generator=rng, dtype=torch.uint8),
            torch.rand(1, len(EGO_OBSERVATION), generator=rng),
            40 * torch.rand(1, ROUTE_AHEAD_POINTS, 2, generator=rng),
        )
        for _ in range(PICTURES)
    ]


def driving(data: str, seed: int) -> list[Observation]:
    """Observations [1] of recorded driving on validation roads, spread over the clips."""
    frames = driving_frames(data, "validation", DRIVING, seed)
    return [Observation(*(part[k : k + 1] for part in (frames.camera, frames.ego, frames.route))) for k in range(len(frames.ego))]


def decision_seconds(driver: Policy, decisions: int, seen: list[Observation], seed: int) -> np.ndarray:
    """Seconds of each decision [decisions], one frame a call."""
    memory = driver.initial_memory([seed])
    seconds = np.empty(decisions)
    for number in range(WARM_UP + decisions):
        observation = seen[number % len(seen)]
        start = time.perf_counter()
        _, memory = driver.act(observation, memory, None)
        taken = time.perf_counter() - start
        if number >= WARM_UP:
            seconds[number - WARM_UP] = taken
    return seconds


def rate(seconds: np.ndarray) -> Estimate:
    """Decisions a second, with its interval over decisions."""
    return bootstrap(seconds, statistic=lambda rows: 1 / rows[..., 0].mean(-1))


def percentile_ms(seconds: np.ndarray, share: float) -> Estimate:
    """A percentile of decision times in ms, with its interval over decisions."""
    return bootstrap(1000 * seconds, statistic=lambda rows: np.percentile(rows[..., 0], share, axis=-1))
