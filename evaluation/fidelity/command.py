"""The `fidelity` command: parts that are measured on their own, their figures in one record."""

from __future__ import annotations

import time
from pathlib import Path

from ...errors import ConfigError, nearest
from ...scene import DT
from ...world_model.learned import SHIPPED
from ..bootstrap import Estimate
from ..evidence import evidence, write_evidence, write_text
from ..pictures import write_strip
from . import pictures, rollouts
from .pictures import BARE_AHEAD, SECOND
from .rollouts import STRIP_STEPS

PARTS = ("pictures", "reading", "outcomes", "ranking", "guards")  # of part=all
VIDEO = "video"
GUARD_EPISODES = 96
SHIPPED_PROBES = "shipped"


def fidelity(
    world: str,
    out: str,
    data: str | None,
    part: str,
    clips: int,
    seconds: int,
    steps: int,
    strips: int,
    seed: int,
    probes: str,
    failures: int,
    policies: list[str] | None,
    suite: str,
    episodes: int | None,
    workers: int | None,
) -> Path:
    """Measure how true a learned world is; writes metrics.json and, by part, tables, strips and plots.

    Parts: "pictures" (errors ahead, by region and by level of layout, long rollouts), "reading" (actions and scenes read back off
    long rollouts, and their Frechet distance), "outcomes" (false-safe rate), "ranking" (policies scored in both worlds), "guards"
    (their thresholds, as a guards.json for the world's folder, and how well they tell strange drives from usual ones), or "all"; and
    "video", for worlds trained on recordings without scenes.

    Raises:
        ConfigError: no such world or part, or a number out of range.
        DataError: no clip of the test split with scenes.
        CheckpointError: probes that cannot be read.
    """
    wanted = PARTS if part == "all" else (part,)
    if wanted[0] not in (*PARTS, VIDEO):
        raise ConfigError(f"unknown part '{part}'; {nearest(part, (*PARTS, VIDEO, 'all'))}")
    if min(clips, steps, failures, seconds) < 1 or strips < 0:
        raise ConfigError(
            f"clips={clips}, steps={steps}, seconds={seconds}, failures={failures} must be at least 1, strips={strips} at least 0"
        )
    if data is None and {"pictures", "reading", VIDEO} & set(wanted):
        raise ConfigError("data is missing: give a folder of recorded clips, data=runs/logs say")
    began = time.perf_counter()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, Estimate] = {}
    if {"pictures", "reading"} & set(wanted):
        assert data is not None
        figures |= _pictures(world, data, folder, wanted, clips, seconds * SECOND, steps, strips, seed, probes)
    if VIDEO in wanted:
        assert data is not None
        from ...world_model.video.probes import Probes
        from .plain_video import load_video_world, plain_clips, video_figures

        dreaming = load_video_world(world, steps)
        reader = Probes.load(_probes(probes))
        figures, rows = video_figures(dreaming, plain_clips(data, clips), reader, seed)
        write_strip(folder / "strip_0.png", rows, ["now", "0.5 s", "1 s", "2 s", "3 s"])
    if "outcomes" in wanted:
        from .outcomes import outcome_figures, outcome_replays, replay_table

        replays = outcome_replays(world, failures, seed)
        write_text(folder / "outcomes.csv", replay_table(replays))
        figures |= outcome_figures(replays)
    if "ranking" in wanted:
        from .ranking import plot_ranking, rank_policies, ranking_figures, ranking_table

        ranking = rank_policies(world, policies, suite, episodes, seed, workers)
        write_text(folder / "ranking.csv", ranking_table(ranking))
        plot_ranking(ranking, folder / "ranking.png")
        figures |= ranking_figures(ranking)
    if "guards" in wanted:
        from ...world_model.guards import PAGE, write_thresholds
        from .guarding import calibrate, guard_figures, load_measuring

        measuring = load_measuring(world)
        thresholds = calibrate(measuring, GUARD_EPISODES, seed)
        write_thresholds(folder / PAGE, thresholds, {"episodes": GUARD_EPISODES, "split": "validation", "seed": seed})
        figures |= guard_figures(measuring, thresholds, GUARD_EPISODES, seed)
    command = _command(world, data, part, wanted, clips, seconds, steps, seed, failures, suite, episodes)
    record = evidence(figures, command=command, seconds=time.perf_counter() - began, seeds=[seed])
    path = write_evidence(folder / "metrics.json", record)
    _print(figures, path)
    return path


def _pictures(
    world: str, data: str, folder: Path, wanted: tuple[str, ...], clips: int, long: int, steps: int, strips: int, seed: int, probes: str
) -> dict[str, Estimate]:
    reader = None
    if "reading" in wanted:
        from ...world_model.video.probes import Probes

        reader = Probes.load(_probes(probes))
    generator = pictures.load_generator(world, steps)
    held_out = pictures.held_out_clips(data, clips, long)
    mean = pictures.mean_picture(data)
    figures: dict[str, Estimate] = {}
    if "pictures" in wanted:
        figures |= pictures.short_figures(pictures.errors_ahead(generator, held_out, mean, seed))
        for level in ("no_scenery", "no_layout"):
            bare = pictures.load_generator(world, steps, level.replace("no_layout", "none"))
            errors = pictures.errors_ahead(bare, held_out, mean, seed, BARE_AHEAD, BARE_AHEAD)
            if errors:
                figures |= pictures.bare_figures(errors, level)
    rolled = rollouts.roll_out(generator, held_out, mean, seed, long, strips)
    if rolled is None:
        print(f"no clip has more than {long} frames, so nothing is said of rollouts of {long * DT:.0f} s")
    if "pictures" in wanted:
        write_text(folder / "horizon.csv", rollouts.horizon_table(rolled))
        if rolled is not None:
            figures |= rollouts.long_figures(rolled)
            for index, rows in enumerate(rolled.strips):
                columns = [f"{k} frames ({k * DT:.0f} s)" if k >= SECOND else f"{k} frame" for k in STRIP_STEPS[: len(rows["true"])]]
                write_strip(folder / f"strip_{index}.png", rows, columns)
    if reader is not None and rolled is not None:
        from .frechet import frechet_figures
        from .reading import agreement_figures, obedience_figures

        figures |= obedience_figures(rolled, reader) | agreement_figures(rolled, reader) | frechet_figures(rolled, seed)
    return figures


def _probes(name: str) -> Path:
    return SHIPPED / "probes" if name == SHIPPED_PROBES else Path(name)


def _command(
    world: str, data: str | None, part: str, wanted: tuple[str, ...], clips: int, seconds: int, steps: int, seed: int, failures: int,
    suite: str, episodes: int | None,
) -> str:  # fmt: skip
    """The command again, without what does not matter to its parts."""
    words = [f"xpeng-world fidelity part={part} world={Path(world).name}"]
    if data is not None and {"pictures", "reading", VIDEO} & set(wanted):
        words.append(f"data={Path(data).name} clips={clips} seconds={seconds} steps={steps}")
    if "outcomes" in wanted:
        words.append(f"failures={failures}")
    if "ranking" in wanted:
        words.append(f"suite={suite}" + ("" if episodes is None else f" episodes={episodes}"))
    return " ".join([*words, f"seed={seed}"])


def _print(figures: dict[str, Estimate], path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value", "95 % interval", "n", title="Fidelity")
    for key, estimate in figures.items():
        interval = "" if estimate.low is None else f"{estimate.low:.3g} to {estimate.high:.3g}"
        table.add_row(key.replace("_", " "), f"{estimate.value:.3f}", interval, str(estimate.n))
    Console().print(table)
    print(f"figures in {path}")
