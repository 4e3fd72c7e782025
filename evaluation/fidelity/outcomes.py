"""False-safe rate: how often the learned world says safe where the same actions end in a crash or beside the road in the reference."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...envs import make_world
from ...envs.core import DrivingLoop, Episodes
from ...errors import ConfigError
from ...policies import load_policy
from ...scene import DT, Track
from ...world_model.learned import LearnedWorld
from ..bootstrap import Estimate, bootstrap
from ..drive import Drive, drive
from ..runner import judge_loop
from ..suites import Episode

DRIVERS = ("reckless", "random", "noisy_expert", "offroad", "reckless", "random")  # in turns, those that hit somebody twice
BAD = {"at_fault_collision": "collision", "on_road": "off_road", "off_route": "off_road"}
EPISODE_STEPS = 200
LEAD = round(5 / DT)  # steps before the end from which the short replays start
GRACE = round(1 / DT)  # steps that a replay may be late, its last action held
TOGETHER = 32  # replays side by side
MOST_TRIES = 10  # times the wanted number of failures


@dataclass(frozen=True)
class Replay:
    """What the learned world made of the actions of one episode of the reference world."""

    truth: str  # "collision", "off_road" or "safe"
    dream: str
    whole: bool  # from the episode's first scene, else from up to 5 s before its end
    driver: str
    seed: int


def outcome_replays(world: str, episodes: int, seed: int) -> list[Replay]:
    """Drive failing drivers on test roads of the reference world until `episodes` have failed, and replay all drives in a world.

    The replays begin from the reference's own scene, once from the first one and once from 5 s before the end. Nothing is painted:
    what happens does not depend on pictures here, as the actions are given.

    Raises:
        ConfigError: the world is no learned one.
    """
    learned = make_world(world, camera=False)
    if not isinstance(learned, LearnedWorld):
        raise ConfigError(f"world '{world}' has no scene to begin from; the false-safe rate is of a learned world")
    drives = list(failing_drives(episodes, seed))
    replays: list[Replay] = []
    loop = judge_loop(learned, EPISODE_STEPS + GRACE)
    for whole in (True, False):
        starts = [0 if whole else max(0, one.track.steps - 1 - LEAD) for _, one in drives]
        for begin in tqdm(range(0, len(drives), TOGETHER), desc="replaying", unit="batch", disable=None):
            part = slice(begin, begin + TOGETHER)
            dreams = replay(loop, [one for _, one in drives[part]], starts[part])
            for (driver, one), dream in zip(drives[part], dreams, strict=True):
                replays.append(Replay(BAD.get(one.ended, "safe"), dream, whole, driver, one.episode.seed))
    return replays


def failing_drives(episodes: int, seed: int) -> Iterator[tuple[str, Drive]]:
    """Drives of DRIVERS in the reference world, until so many have failed; safe ones come along."""
    loop = judge_loop(make_world("reference", camera=False), EPISODE_STEPS)
    failed = 0
    with tqdm(total=episodes, desc="failing", unit="episode", disable=None) as bar:
        for number, driver in zip(range(MOST_TRIES * episodes), cycle(DRIVERS), strict=False):
            episode = Episode(number, 5_000_000 + 100_000 * seed + number, {"split": "test"})
            (one,) = drive(loop, load_policy(driver), [episode])
            yield driver, one
            if one.ended in BAD:
                failed += 1
                bar.update()
            if failed == episodes:
                return


@torch.inference_mode()
def replay(loop: DrivingLoop, drives: Sequence[Drive], starts: Sequence[int]) -> list[str]:
    """What each drive's actions end in, from column `starts` of its track on: "collision", "off_road" or "safe"."""
    world = loop.world
    assert isinstance(world, LearnedWorld)
    states = [world.reset_from(one.track.scene(start), None, [one.episode.seed]) for one, start in zip(drives, starts, strict=True)]
    running = Episodes.cat(
        [Episodes(state, Track.of([state.scene]), torch.zeros(1), torch.zeros(1, len(loop.rules)), None) for state in states]
    )
    running = replace(running, recorded=(running.state.scene,))
    lengths = [one.track.steps - 1 - start for one, start in zip(drives, starts, strict=True)]
    found = ["safe"] * len(drives)
    for step in range(max(lengths) + GRACE):
        actions = torch.stack([_action(one, start, step) for one, start in zip(drives, starts, strict=True)])
        running, outcome = loop.step(running, actions)
        for name, ended in outcome.ended_by.items():
            for row in ended.nonzero().flatten().tolist():
                if found[row] == "safe" and name in BAD and step < lengths[row] + GRACE:
                    found[row] = BAD[name]
    return found


def _action(one: Drive, start: int, step: int) -> Tensor:
    """The action of a drive, its last one held."""
    return one.actions[min(start + step, one.track.steps - 2)]


def outcome_figures(replays: Sequence[Replay]) -> dict[str, Estimate]:
    """False-safe rate and false alarms; "false_safe_rate" is of replays of the last 5 s, `_whole` of whole episodes."""
    figures: dict[str, Estimate] = {}
    for whole, ending in ((False, ""), (True, "_whole")):
        part = [one for one in replays if one.whole == whole]
        failed = [one for one in part if one.truth != "safe"]
        safe = [one for one in part if one.truth == "safe"]
        if failed:
            figures[f"false_safe_rate{ending}"] = bootstrap(np.array([one.dream == "safe" for one in failed], float))
        for kind in ("collision", "off_road"):
            some = [one.dream == "safe" for one in failed if one.truth == kind]
            if some:
                figures[f"false_safe_{kind}{ending}"] = bootstrap(np.array(some, float))
        if safe:
            figures[f"false_alarm_rate{ending}"] = bootstrap(np.array([one.dream != "safe" for one in safe], float))
    figures["false_safe_episodes"] = Estimate(float(sum(one.truth != "safe" and one.whole for one in replays)))
    return figures


def replay_table(replays: Sequence[Replay]) -> str:
    """A CSV of all replays."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["seed", "driver", "from", "reference", "learned"])
    for one in replays:
        table.writerow([one.seed, one.driver, "start" if one.whole else "5 s before the end", one.truth, one.dream])
    return text.getvalue()
