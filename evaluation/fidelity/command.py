"""The `fidelity` command: parts that are measured on their own, their figures in one record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ...data import Clip
from ...errors import ConfigError, nearest
from ...scene import DT
from ...world_model.learned import SHIPPED
from ...world_model.video.generator import LayoutLevel
from ...world_model.video.probes import Probes
from ..bootstrap import Estimate
from ..evidence import ending, evidence, write_evidence, write_text
from ..pictures import write_strip
from . import pictures, rollouts
from .baselines import Generator
from .pictures import BARE_AHEAD, SECOND
from .rollouts import STRIP_STEPS, Rollouts

PARTS = ("pictures", "reading", "frechet", "outcomes", "ranking", "guards", "traffic", "video")
ALL = PARTS[:-2]  # of part=all: a world either knows its scene or not, and traffic is judged on other clips
OF_CLIPS = ("pictures", "reading", "frechet", "traffic", "video")  # parts that need data
BEGUN_LATE = ("pictures", "reading", "frechet")  # parts that may leave out how a clip begins
SECONDS = {"traffic": 8}  # of the rollouts by default, else LONG_SECONDS
LONG_SECONDS = 20
GUARD_EPISODES = 48
REPEATING = ("replay", "log_replay")  # traffic that follows a recording: it cannot react, and has no step of its own


@dataclass
class FidelityConfig:
    """What is measured, and on what."""

    world: str = "learned"  # or folder of a trained world
    out: str = "runs/fidelity"
    data: str | list[str] | None = None  # folder of recorded clips, whose test split is used; several for the part traffic
    part: str = "pictures"  # of PARTS, or all
    clips: int = 16  # of each folder
    seconds: int | None = None  # of the long rollouts: 8 of traffic, else 20, when None
    start: int = 0  # s of every clip that the parts of BEGUN_LATE leave out
    steps: int = 1  # denoising steps a frame
    shortcut: bool = False  # whether they paint one of the frames that could be there, for weights trained for it
    strips: int = 3
    seed: int = 0
    probes: str = "shipped"  # or folder of probes
    failures: int = 200  # of the part outcomes
    policies: list[str] | None = None  # of the part ranking
    suite: str = "standard"  # of the part ranking
    episodes: int | None = None  # of the suite
    workers: int | None = None  # for the reference world
    traffic: list[str] = field(default_factory=lambda: ["learned", "idm", "constant_velocity", "replay"])  # the first is compared
    rollouts: int = 32  # of each window of the part traffic
    label: str = ""  # what the names of the figures end with, to keep those of several worlds beside each other

    def command(self, parts: tuple[str, ...]) -> str:
        """The command again, without the keys that do not matter to its parts."""
        words = [f"xpeng-world fidelity part={self.part} world={Path(self.world).name}"]
        if self.data is not None and set(OF_CLIPS) & set(parts):
            words.append(f"data={_names(self.data)} clips={self.clips} seconds={self.horizon}")
            words.append(f"traffic=[{','.join(self.traffic)}] rollouts={self.rollouts}" if "traffic" in parts else f"steps={self.steps}")
            words += ["shortcut=true"] * self.shortcut + [f"start={self.start}"] * (self.start > 0)
        if "outcomes" in parts:
            words.append(f"failures={self.failures}")
        if "ranking" in parts:
            words.append(f"suite={self.suite}" + ("" if self.episodes is None else f" episodes={self.episodes}"))
        return " ".join([*words, f"seed={self.seed}"] + [f"label={self.label}"] * bool(self.label))

    def ending(self, part: str) -> str:
        """What the names of a part's figures end with, to tell those of another world or begun in the midst of a drive from others."""
        label = ending(self.label)
        return f"{label}_after_{self.start}s" if self.start and part in BEGUN_LATE else label

    @property
    def horizon(self) -> int:
        """Seconds of the long rollouts."""
        return SECONDS.get(self.part, LONG_SECONDS) if self.seconds is None else self.seconds


def _names(data: str | list[str]) -> str:
    return Path(data).name if isinstance(data, str) else f"[{','.join(Path(folder).name for folder in data)}]"


def fidelity(config: FidelityConfig) -> Path:
    """Measure how true a learned world is; writes metrics.json and, by part, tables, strips and plots.

    Raises:
        ConfigError: no such world or part, or a number out of range.
        DataError: no clip of the test split to measure on.
        CheckpointError: probes or guards that cannot be read.
    """
    parts = ALL if config.part == "all" else (config.part,)
    if parts[0] not in PARTS:
        raise ConfigError(f"unknown part '{config.part}'; {nearest(config.part, (*PARTS, 'all'))}")
    for name, least in (("clips", 1), ("seconds", 1), ("steps", 1), ("failures", 1), ("strips", 0), ("rollouts", 1), ("start", 0)):
        value = getattr(config, name)
        if value is not None and value < least:
            raise ConfigError(f"{name}={value} must be at least {least}")
    ending(config.label)  # refused now rather than after the measurement
    if config.data is None and set(OF_CLIPS) & set(parts):
        raise ConfigError("data is missing: give a folder of recorded clips, data=runs/logs say")
    if config.part != "traffic" and isinstance(config.data, list):
        raise ConfigError(f"part={config.part} takes one folder as data, not {len(config.data)}")
    began = time.perf_counter()
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    measuring = _Measurement(config, folder)
    figures: dict[str, Estimate] = {}
    for part in parts:
        found = getattr(measuring, part)()
        figures |= {key + config.ending(part): estimate for key, estimate in found.items()}
    record = evidence(figures, command=config.command(parts), seconds=time.perf_counter() - began, seeds=[config.seed])
    path = write_evidence(folder / "metrics.json", record)
    _print(figures, path)
    return path


class _Measurement:
    """One method a part; what several need is made once."""

    def __init__(self, config: FidelityConfig, folder: Path) -> None:
        self.config, self.folder = config, folder

    @property
    def data(self) -> str:
        assert isinstance(self.config.data, str)
        return self.config.data

    @cached_property
    def generator(self) -> Generator:
        return pictures.load_generator(self.config.world, self.config.steps, shortcut=self.config.shortcut)

    @cached_property
    def clips(self) -> list[Clip]:
        config = self.config
        return pictures.held_out_clips(self.data, config.clips, config.horizon * SECOND, config.start * SECOND)

    @cached_property
    def mean(self) -> Tensor:
        return pictures.mean_picture(self.data)

    @cached_property
    def probes(self) -> Probes:
        return Probes.load(SHIPPED / "probes" if self.config.probes == "shipped" else self.config.probes)

    @cached_property
    def rolled(self) -> Rollouts | None:
        steps, judged = self.config.horizon * SECOND, self.config.part in ("pictures", "all")
        found = rollouts.roll_out(self.generator, self.clips, self.mean if judged else None, self.config.seed, steps, self.config.strips)
        if found is None:
            self._say_that_none_is_long(steps)
        return found

    def _say_that_none_is_long(self, steps: int) -> None:
        after = f" after the first {self.config.start * SECOND}" * (self.config.start > 0)
        print(f"no clip has more than {steps} frames{after}, so nothing is said of rollouts of {self.config.horizon} s")

    def pictures(self) -> dict[str, Estimate]:
        """Errors ahead by region and by level of layout, and long rollouts."""
        config = self.config
        figures = pictures.short_figures(pictures.errors_ahead(self.generator, self.clips, self.mean, config.seed))
        levels: dict[str, LayoutLevel] = {"no_scenery": "no_scenery", "no_layout": "none"}
        for name, level in levels.items():
            bare = pictures.load_generator(config.world, config.steps, level, config.shortcut)
            errors = pictures.errors_ahead(bare, self.clips, self.mean, config.seed, BARE_AHEAD, BARE_AHEAD)
            if errors:
                figures |= pictures.bare_figures(errors, name)
        write_text(self.folder / "horizon.csv", rollouts.horizon_table(self.rolled))
        write_text(self.folder / "regions.csv", rollouts.region_table(self.rolled))
        if self.rolled is not None:
            figures |= rollouts.long_figures(self.rolled)
            for index, rows in enumerate(self.rolled.strips):
                columns = [f"{k} frames ({k * DT:.0f} s)" if k >= SECOND else f"{k} frame" for k in STRIP_STEPS[: len(rows["true"])]]
                write_strip(self.folder / f"strip_{index}.png", rows, columns)
        return figures

    def reading(self) -> dict[str, Estimate]:
        """Actions and scenes read back off long rollouts."""
        from .reading import agreement_figures, obedience_figures

        probes, rolled = self.probes, self.rolled
        return {} if rolled is None else obedience_figures(rolled, probes) | agreement_figures(rolled, probes)

    def frechet(self) -> dict[str, Estimate]:
        """Frechet distance of long rollouts, at their beginning and at their end."""
        from .frechet import WINDOW, frechet_figures, paint_windows

        config, steps, start = self.config, self.config.horizon * SECOND, self.config.start * SECOND
        if steps < 2 * WINDOW:
            print(f"rollouts of {config.horizon} s are too short for a Frechet distance: at least {2 * WINDOW // SECOND} s are needed")
            return {}
        addresses = pictures.held_out_addresses(self.data, config.clips, steps, start)
        addresses = [address for address in addresses if address.steps > start + steps]
        if not addresses:
            self._say_that_none_is_long(steps)
            return {}
        return frechet_figures(paint_windows(self.generator, addresses, steps, start, config.seed), config.horizon)

    def outcomes(self) -> dict[str, Estimate]:
        """The false-safe rate."""
        from .outcomes import outcome_figures, outcome_replays, replay_table

        replays = outcome_replays(self.config.world, self.config.failures, self.config.seed)
        write_text(self.folder / "outcomes.csv", replay_table(replays))
        return outcome_figures(replays)

    def ranking(self) -> dict[str, Estimate]:
        """Policies scored in both worlds."""
        from .ranking import plot_ranking, rank_policies, ranking_figures, ranking_table

        config = self.config
        ranking = rank_policies(config.world, config.policies, config.suite, config.episodes, config.seed, config.workers)
        write_text(self.folder / "ranking.csv", ranking_table(ranking))
        plot_ranking(ranking, self.folder / "ranking.png")
        return ranking_figures(ranking)

    def guards(self) -> dict[str, Estimate]:
        """Thresholds of the guards, as a guards.json for the world's folder, and how well they tell strange drives from usual ones."""
        from ...world_model.guards import PAGE, write_thresholds
        from .guarding import calibrate, guard_figures, load_measuring

        world, seed = load_measuring(self.config.world), self.config.seed
        thresholds = calibrate(world, GUARD_EPISODES, seed)
        write_thresholds(self.folder / PAGE, thresholds, {"episodes": GUARD_EPISODES, "split": "validation", "seed": seed})
        return guard_figures(world, thresholds, GUARD_EPISODES, seed)

    def traffic(self) -> dict[str, Estimate]:
        """Road users beside recorded ones: realism, conduct, reactions and cost."""
        from . import reaction, traffic
        from .cost import cost_figures
        from .windows import KINDS, read_windows

        config, kinds = self.config, self.config.traffic
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ConfigError(f"unknown traffic '{unknown[0]}'; {nearest(unknown[0], KINDS)}" if unknown else "traffic is empty; name some")
        assert config.data is not None
        folders = [config.data] if isinstance(config.data, str) else list(config.data)
        windows = read_windows(folders, config.clips, config.horizon * SECOND)
        looking = [kind for kind in kinds if kind not in REPEATING]
        cases = reaction.find_cases(folders, config.clips)
        figures = reaction.reaction_figures(cases, {kind: reaction.keep_clear(cases, kind, config.world, config.seed) for kind in looking})
        figures |= cost_figures(windows, looking, config.world)
        judged = traffic.judge(windows, kinds, config.world, config.rollouts, config.seed)
        figures |= traffic.realism_figures(judged, kinds) | traffic.conduct_figures(judged, kinds)
        figures = traffic.headlines(figures, kinds) | figures
        write_text(self.folder / "traffic.csv", traffic.window_table(judged))
        busiest = sorted(windows, key=lambda window: -int(window.log.agents.valid.sum()))
        for index, window in enumerate(busiest[: config.strips]):
            traffic.draw_window(window, kinds, config.world, config.seed, self.folder / f"strip_{index}.png")
        return figures

    def video(self) -> dict[str, Estimate]:
        """Commands read back from a world that was trained on recordings without scenes."""
        from .plain_video import load_video_world, plain_clips, video_figures

        world = load_video_world(self.config.world, self.config.steps, self.config.shortcut)
        clips = plain_clips(self.data, self.config.clips, world.generator.context - 1)
        figures, rows = video_figures(world, clips, self.probes, self.config.seed)
        write_strip(self.folder / "strip_0.png", rows, ["now", "0.5 s", "1 s", "2 s", "3 s"])
        return figures


def _print(figures: dict[str, Estimate], path: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value", "95 % interval", "n", title="Fidelity")
    for key, estimate in figures.items():
        interval = "" if estimate.low is None else f"{estimate.low:.3g} to {estimate.high:.3g}"
        table.add_row(key.replace("_", " "), f"{estimate.value:.4g}", interval, str(estimate.n))
    Console().print(table)
    print(f"figures in {path}")
