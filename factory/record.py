"""Record driving in a world: episodes by a mixture of drivers, written as shards of clips by several processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from .. import errors
from ..data import Clip, ShardWriter, read_clips
from ..errors import ConfigError, SimulatorError, XPengWorldError
from ..policies import MIXTURE, POLICIES, load_policy
from ..policies.registry import is_vla_name
from ..scenario import draw_scenario, nearest
from ..scene import DT, Scene, Track
from ..world import Policy, World, observe
from .failure import has_failed

AFTERMATH = 10  # steps an episode goes on after a crash or off the road, so that failures are seen
ROUTE_END_MARGIN = 4.0  # m
EPISODES_PER_SEED = 1_000_000


@dataclass(frozen=True)
class Recording:
    """What every worker of one recording needs to know."""

    out: str
    split: str
    steps: int
    world: str | Callable[[], World]
    mixture: Mapping[str, float]
    scenario: Mapping[str, Any]
    clips_per_shard: int
    camera: bool


def record(
    out: str | Path,
    episodes: int,
    seed: int = 0,
    workers: int | None = None,
    split: str = "train",
    steps: int = 200,
    world: str | Callable[[], World] = "reference",
    mixture: Mapping[str, float] | None = None,
    scenario: Mapping[str, Any] | None = None,
    clips_per_shard: int = 8,
    camera: bool = True,
) -> dict[str, Any]:
    """Record episodes into a folder of shards and return what `metrics.json` there says.

    Episodes that the folder holds already are skipped, so an interrupted recording goes on when it is called again. An episode
    is drawn from its own seed alone: it is the same whatever the number of workers.

    Args:
        out: the folder.
        episodes: how many episodes the folder shall hold of this seed.
        seed: seed of the recording, below 2000.
        workers: processes, each with its own world; None for one per core, 1 records in this process.
        split: which road networks, see `scenario.SPLITS`.
        steps: frames of an episode, fewer after a failure or at the end of the route.
        world: "reference", a name or folder for `envs.make_world`, or an importable function that makes a world.
        mixture: weight of each driver's episodes; None for `policies.MIXTURE`.
        scenario: further keys of `scenario.draw_scenario`.
        clips_per_shard: clips that a worker collects before it writes them.
        camera: whether to paint frames; black ones are faster and enough for `train-traffic`. A driver that looks sees nothing then.

    Raises:
        ConfigError: an unknown driver or scenario key, or a number out of range.
        SimulatorError: a world failed; finished episodes are kept.
        DataError: the folder holds damaged shards, or a clip could not be written.
    """
    mixture = dict(MIXTURE if mixture is None else mixture)
    _check(episodes, seed, steps, mixture)
    draw_scenario(0, {**(scenario or {}), "split": split})
    job = Recording(str(out), split, steps, world, mixture, dict(scenario or {}), clips_per_shard, camera)
    Path(out).mkdir(parents=True, exist_ok=True)
    wanted = [seed * EPISODES_PER_SEED + k for k in range(episodes)]
    done = {c.provenance.get("seed") for c in _stored(out)}
    missing = [s for s in wanted if s not in done]
    count = min(workers or os.cpu_count() or 1, max(1, len(missing)))
    started, frames = time.perf_counter(), 0
    with tqdm(total=len(wanted), initial=len(wanted) - len(missing), desc="recording", unit="episode") as bar:
        for clip_frames in _serial(job, missing) if count == 1 else _parallel(job, missing, count):
            frames += clip_frames
            bar.update()
            bar.set_postfix_str(f"{frames / (time.perf_counter() - started):.0f} frames/s")
    return _write_metrics(Path(out), frames, time.perf_counter() - started, count)


def drive_episode(world: World, driver: Policy, seed: int, scenario: Mapping[str, Any], steps: int) -> Clip:
    """Drive one episode and return its clip; it ends AFTERMATH steps after a failure, or at the end of the route."""
    state = world.reset([seed], scenario)
    memory = driver.initial_memory([seed])
    scenes: list[Scene] = []
    frames, actions = [], []
    left, ended = steps, "time_limit"
    while True:
        scenes.append(state.scene)
        frames.append(state.frame)
        left -= 1
        if ended == "time_limit" and bool(has_failed(state.scene)):
            left, ended = min(left, AFTERMATH), "failure"
        if left <= 0:
            break
        if ended == "time_limit" and _route_driven(state.scene):
            ended = "route_end"
            break
        seen = None if driver.privileged else observe(state)
        action, memory = driver.act(seen, memory, state.scene if driver.privileged else None)  # type: ignore[arg-type]
        actions.append(action)
        state = world.step(state, action)
    actions.append(torch.zeros(1, 2))
    drawn = getattr(world, "describe", draw_scenario)(seed, scenario)
    provenance = {
        "source": type(world).__name__,
        "driver": driver.name,
        "seed": seed,
        "split": drawn.split,
        "family": drawn.family,
        "network_seed": drawn.network_seed,
        "density": drawn.density,
        "appearance": drawn.appearance.name.lower(),
        "ended": ended,
        "dt": DT,
    }
    if drawn.incident is not None:
        provenance["scenario"] = {"name": drawn.incident.name, **drawn.incident.parameters}
    return Clip(torch.cat(frames), torch.cat(actions).float(), Track.of(scenes), provenance)


def _route_driven(scene: Scene) -> bool:
    end = scene.route.ahead(scene.route.length, 1, 0.0)[:, 0]
    return bool((scene.ego.position - end).norm(dim=-1) < ROUTE_END_MARGIN)


class _Recorder:
    """One worker's world and drivers."""

    def __init__(self, job: Recording) -> None:
        self.job = job
        if callable(job.world):
            self.world = job.world()
        else:
            from ..envs import make_world

            self.world = make_world(job.world, **({} if job.camera else {"camera": False}))
        self.drivers = {name: load_policy(name) for name in job.mixture}

    def record(self, seed: int) -> Clip:
        names, weights = list(self.job.mixture), np.array(list(self.job.mixture.values()))
        name = str(np.random.default_rng([seed, 31]).choice(names, p=weights / weights.sum()))
        try:
            return drive_episode(self.world, self.drivers[name], seed, {**self.job.scenario, "split": self.job.split}, self.job.steps)
        except XPengWorldError as error:
            raise type(error)(f"episode {seed} ({name}): {error}") from error


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _serial(job: Recording, seeds: list[int]) -> Iterator[int]:
    if not seeds:
        return
    with _one_thread(), ShardWriter(job.out, job.clips_per_shard) as writer:
        recorder = _Recorder(job)
        for seed in seeds:
            clip = recorder.record(seed)
            writer.add(clip)
            yield clip.steps


def _parallel(job: Recording, seeds: list[int], count: int) -> Iterator[int]:
    """Frames of each finished episode, as the workers report them."""
    context = multiprocessing.get_context("spawn")
    tasks, reports = context.Queue(), context.Queue()
    for seed in [*seeds, *[None] * count]:
        tasks.put(seed)
    processes = [context.Process(target=_work, args=(job, tasks, reports), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        running = count
        while running:
            try:
                kind, value = reports.get(timeout=2.0)
            except queue.Empty:
                dead = [p.exitcode for p in processes if p.exitcode not in (None, 0)]
                if dead:
                    raise SimulatorError(
                        f"a recording worker died (exit code {dead[0]}); record again, finished episodes are kept"
                    ) from None
                continue
            if kind == "frames":
                yield value
            elif kind == "end":
                running -= 1
            else:
                raise getattr(errors, kind)(value)
    finally:
        for process in processes:
            process.join(timeout=0 if process.exitcode is None and running else 30)
            if process.is_alive():
                process.terminate()
                process.join()


def _work(job: Recording, tasks: Any, reports: Any) -> None:
    """A worker process: records until the tasks end, reports frames, the end, or one error."""
    try:
        with _one_thread(), ShardWriter(job.out, job.clips_per_shard) as writer:
            recorder = _Recorder(job)
            while (seed := _next(tasks)) is not None:
                clip = recorder.record(seed)
                writer.add(clip)
                reports.put(("frames", clip.steps))
        reports.put(("end", None))
    except XPengWorldError as error:
        reports.put((type(error).__name__, str(error)))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        said = next(iter(str(error).splitlines()), "")
        reports.put(("SimulatorError", f"a recording worker failed: {type(error).__name__}: {said}"))


def _next(tasks: Any) -> int | None:
    """The next episode's seed; None at the end, and when the process that hands them out is gone: killed, it cannot stop its workers."""
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        try:
            seed: int | None = tasks.get(timeout=2.0)
        except queue.Empty:
            continue
        return seed
    return None


def _check(episodes: int, seed: int, steps: int, mixture: Mapping[str, float]) -> None:
    for name in mixture:
        if name in POLICIES:
            continue
        if not is_vla_name(name) and not Path(name).exists():
            raise ConfigError(f"unknown driver '{name}' in the mixture, and no such folder; {nearest(name, POLICIES)}")
        load_policy(name)
    if not mixture or min(mixture.values()) < 0 or sum(mixture.values()) <= 0:
        raise ConfigError("the mixture's weights must be 0 or more, and not all 0")
    if not 1 <= episodes <= EPISODES_PER_SEED or not 0 <= seed < 2000 or steps < 2:
        raise ConfigError(f"episodes={episodes} seed={seed} steps={steps}; use episodes 1 to 1000000, seed 0 to 1999, steps from 2")


def _stored(out: str | Path) -> Iterator[Clip]:
    if (Path(out) / "index.json").exists():
        yield from read_clips(out, frames=False, track=False)


def _write_metrics(out: Path, frames: int, seconds: float, workers: int) -> dict[str, Any]:
    """Write and return the figures: the shares of all that the folder holds, the speed of this run."""
    episodes: Counter[str] = Counter()
    stored: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for clip in _stored(out):
        driver = str(clip.provenance.get("driver", "unknown"))
        episodes[driver] += 1
        stored[driver] += clip.steps
        ended[str(clip.provenance.get("ended", "unknown"))] += 1
    total = max(1, sum(stored.values()))
    metrics = {
        "episodes": sum(episodes.values()),
        "frames": sum(stored.values()),
        "frames_recorded_now": frames,
        "seconds": round(seconds, 2),
        "frames_per_second": round(frames / seconds, 2) if frames else None,
        "workers": workers,
        "mixture": {name: {"episodes": n, "frame_share": round(stored[name] / total, 4)} for name, n in sorted(episodes.items())},
        "ended": dict(sorted(ended.items())),
    }
    partial = out / ".metrics.json.partial"
    partial.write_text(json.dumps(metrics, indent=1))
    partial.replace(out / "metrics.json")
    return metrics
