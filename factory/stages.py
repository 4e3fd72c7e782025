"""The line as data: which stages there are, the project's own commands they consist of, and what they hand on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError, nearest

OUT = "{out}"  # the stage's own folder, in the values of `Call.keys`


@dataclass(frozen=True)
class Call:
    """One command of a stage.

    In `keys`, "{out}" stands for the stage's own folder, "{NAME}" for the folder of the stage NAME, "{seed}" and "{threads}" for
    the numbers of the run; a text that is nothing but such a number becomes the number.
    """

    name: str  # how presets name it
    command: str  # of the command line
    keys: Mapping[str, Any] = field(default_factory=dict)  # set by the line; presets set the others


@dataclass(frozen=True)
class Stage:
    """One stage: its commands in order, whose results it takes, and which of its files count as its result."""

    name: str
    summary: str
    calls: tuple[Call, ...]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()  # patterns below the stage's folder; "FILE.json#KEY" is one key of a JSON file
    exact: bool = False  # whether the commands, interrupted, go on to the same result; else the stage starts over
    scores: Mapping[str, str] = field(default_factory=dict)  # metrics.json files of evaluations, by the world that judged
    pictures: tuple[str, ...] = ()  # PNG and MP4 files for the summary, as patterns


def _record(name: str, split: str, offset: int) -> Call:
    # One process: the order of clips within the shards must not depend on which of two processes was faster.
    keys = {"out": OUT, "split": split, "seed": "{seed}" if not offset else f"{{seed+{offset}}}", "workers": 1}
    return Call(name, "record", keys)


def _score(name: str, policy: str, summary: str, made_by: str) -> Stage:
    judge = lambda world, where: Call(where, "eval", {"policy": policy, "world": world, "out": f"{OUT}/{where}", "workers": "{threads}"})
    return Stage(
        name,
        summary,
        (judge("{world}/weights", "learned"), judge("reference", "reference")),
        inputs=("world", made_by),
        outputs=tuple(f"{where}/{file}" for where in ("learned", "reference") for file in ("episodes.csv", "metrics.json#metrics")),
        scores={where: f"{where}/metrics.json" for where in ("learned", "reference")},
        pictures=("reference/worst.mp4", "reference/best.mp4"),
    )


LINE: tuple[Stage, ...] = (
    Stage(
        "record",
        "drive in the reference world and keep the clips",
        (_record("train", "train", 0), _record("validation", "validation", 1), _record("test", "test", 2)),
        outputs=("index.json", "*.tar"),
        exact=True,
    ),
    Stage(
        "world",
        "train the video model and collect the starts of its episodes",
        (
            Call("train-world", "train-world", {"data": "{record}", "out": OUT, "seed": "{seed}", "threads": "{threads}"}),
            Call("collect-starts", "collect-starts", {"data": "{record}", "out": f"{OUT}/weights", "seed": "{seed}"}),
        ),
        inputs=("record",),
        outputs=("weights/**",),
        exact=True,
    ),
    Stage(
        "pictures",
        "measure the learned world's pictures on held-out clips",
        (Call("fidelity", "fidelity", {"world": "{world}/weights", "data": "{record}", "out": OUT, "seed": "{seed}"}),),
        inputs=("record", "world"),
        outputs=("metrics.json#metrics", "horizon.csv"),  # strips are drawn only where a test clip is long enough
        pictures=("strip_0.png",),
    ),
    Stage(
        "imitate",
        "the car network learns what the expert would have done",
        (Call("train-policy", "train-policy", {"data": "{record}", "out": OUT, "seed": "{seed}", "threads": "{threads}"}),),
        inputs=("record",),
        outputs=("weights/**",),
        exact=True,
    ),
    Stage(
        "ppo",
        "the car network improves by reinforcement in the learned world",
        (
            Call(
                "ppo",
                "ppo",
                {"init": "{imitate}/weights", "world": "{world}/weights", "out": OUT, "seed": "{seed}", "threads": "{threads}"},
            ),
        ),
        inputs=("world", "imitate"),
        outputs=("weights/**",),
    ),
    Stage(
        "tokenizer",
        "learn the tokens in which the VLA reads the camera",
        (Call("train-tokenizer", "train-tokenizer", {"data": "{record}", "out": OUT, "seed": "{seed}", "threads": "{threads}"}),),
        inputs=("record",),
        outputs=("weights/**",),
        exact=True,
    ),
    Stage(
        "imitate-vla",
        "the VLA learns the expert's thoughts and actions",
        (
            Call(
                "train-policy",
                "train-policy",
                {
                    "policy": "vla",
                    "vla.tokenizer": "{tokenizer}/weights",
                    "data": "{record}",
                    "out": OUT,
                    "seed": "{seed}",
                    "threads": "{threads}",
                },
            ),
        ),
        inputs=("record", "tokenizer"),
        outputs=("weights/**",),
    ),
    Stage(
        "grpo",
        "the VLA improves by reinforcement in the learned world, episodes of a group judged by each other",
        (
            Call(
                "grpo",
                "grpo",
                {"init": "{imitate-vla}/weights", "world": "{world}/weights", "out": OUT, "seed": "{seed}", "threads": "{threads}"},
            ),
        ),
        inputs=("world", "imitate-vla"),
        outputs=("weights/**",),
        exact=True,
    ),
    Stage(
        "distil",
        "a small car network learns from the one after PPO, in states of its own",
        (
            Call(
                "distil",
                "distil",
                {
                    "teacher": "{ppo}/weights",
                    "world": "{world}/weights",
                    "data": "{record}",
                    "out": OUT,
                    "seed": "{seed}",
                    "threads": "{threads}",
                },
            ),
        ),
        inputs=("record", "world", "ppo"),
        outputs=("weights/**",),
        exact=True,
    ),
    Stage(
        "export",
        "compile the small network for the car and compare every file with it",
        (Call("export", "export", {"policy": "{distil}/weights", "data": "{record}", "out": OUT, "seed": "{seed}"}),),
        inputs=("record", "distil"),
        outputs=("bundle.zip",),
    ),
    _score("score-imitated", "{imitate}/weights", "score the imitated car network in both worlds", "imitate"),
    _score("score-ppo", "{ppo}/weights", "score the car network after PPO in both worlds", "ppo"),
    _score("score-vla", "{imitate-vla}/weights", "score the imitated VLA in both worlds", "imitate-vla"),
    _score("score-grpo", "{grpo}/weights", "score the VLA after GRPO in both worlds", "grpo"),
    _score("score-car", "{export}/bundle.zip", "score the exported file itself in both worlds", "export"),
)


def check_line(line: Sequence[Stage]) -> None:
    """Raise ConfigError unless names are unique and every stage takes from earlier ones only."""
    known: list[str] = []
    for stage in line:
        if stage.name in known:
            raise ConfigError(f"two stages of the line are named '{stage.name}'; rename one")
        for name in stage.inputs:
            if name not in known:
                raise ConfigError(f"stage '{stage.name}' takes from '{name}', which is no stage before it; {nearest(name, known)}")
        known.append(stage.name)


def select(line: Sequence[Stage], only: Iterable[str] = (), begin: str = "", until: str = "") -> list[str]:
    """Names of the chosen stages in the order of the line: those of `only`, or those between `begin` and `until`, both included.

    Raises:
        ConfigError: an unknown stage, both ways of choosing at once, or `until` before `begin`.
    """
    names, only = [stage.name for stage in line], list(only)
    for name in (*only, *filter(None, (begin, until))):
        if name not in names:
            raise ConfigError(f"unknown stage '{name}'; {nearest(name, names)}")
    if only and (begin or until):
        raise ConfigError("give only= or from= and until=, not both")
    if only:
        return [name for name in names if name in only]
    first, last = names.index(begin) if begin else 0, names.index(until) if until else len(names) - 1
    if last < first:
        raise ConfigError(f"until={until} comes before from={begin} in the line; exchange them")
    return names[first : last + 1]
