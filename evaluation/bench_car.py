"""How long the car network takes to decide: one frame a call, on one thread."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from ..camera import CAMERA
from ..errors import ConfigError
from ..policies import load_policy
from ..world import EGO_OBSERVATION, ROUTE_AHEAD_POINTS, Observation, Policy
from .bootstrap import Estimate, bootstrap
from .evidence import evidence, write_evidence

WARM_UP = 50  # decisions that are not counted
PICTURES = 32  # different observations, so that no cache holds the only one


def bench_car(policy: str, out: str, decisions: int, seed: int) -> Path:
    """Time a policy's decisions and write metrics.json; prints the figures.

    A decision is one call of `act`, from an observation [1] in memory to an action [1, 2], of a policy that reads no scene. The
    observations are noise: a convolutional network's time does not depend on what it sees.

    Raises:
        ConfigError: no such policy, a privileged one, or fewer than 100 decisions.
    """
    if decisions < 100:
        raise ConfigError(f"decisions={decisions} are too few for a 99th percentile; use 100 or more")
    driver = load_policy(policy)
    if driver.privileged:
        raise ConfigError(f"'{policy}' reads the scene, which no car has; time a bundle or the folder of a car network")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        seconds = decision_seconds(driver, decisions, seed)
    finally:
        torch.set_num_threads(before)
    figures = {f"decision_ms_p{share}": percentile_ms(seconds, share) for share in (50, 99)}
    name = Path(policy).name if Path(policy).is_absolute() else policy
    command = f"xpeng-world bench-car policy={name} decisions={decisions} seed={seed}"
    record = evidence(figures, command=command, seconds=time.perf_counter() - began, seeds=[seed], threads=1)
    path = write_evidence(Path(out) / "metrics.json", record)
    for key, figure in figures.items():
        print(f"{key.replace('_', ' ')}: {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}, {figure.n} decisions)")
    print(f"figures in {path}")
    return path


def decision_seconds(driver: Policy, decisions: int, seed: int) -> np.ndarray:
    """Seconds of each decision [decisions], one frame a call."""
    rng = torch.Generator().manual_seed(seed)
    seen = [
        Observation(
            torch.randint(0, 256, (1, CAMERA.height, CAMERA.width, 3), generator=rng, dtype=torch.uint8),
            torch.rand(1, len(EGO_OBSERVATION), generator=rng),
            40 * torch.rand(1, ROUTE_AHEAD_POINTS, 2, generator=rng),
        )
        for _ in range(PICTURES)
    ]
    memory = driver.initial_memory([seed])
    seconds = np.empty(decisions)
    for number in range(WARM_UP + decisions):
        observation = seen[number % PICTURES]
        start = time.perf_counter()
        _, memory = driver.act(observation, memory, None)
        taken = time.perf_counter() - start
        if number >= WARM_UP:
            seconds[number - WARM_UP] = taken
    return seconds


def percentile_ms(seconds: np.ndarray, share: float) -> Estimate:
    """A percentile of decision times in ms, with its interval over decisions."""
    return bootstrap(1000 * seconds, statistic=lambda rows: np.percentile(rows[..., 0], share, axis=-1))
