"""The command: `xpeng-world COMMAND key=value ...`; defaults and descriptions of the keys are in `configs/COMMAND.yaml`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError, XPengWorldError, nearest
from .memory import keep_freed_memory

USAGE = "usage: xpeng-world COMMAND [key=value ...]; `xpeng-world help COMMAND` lists a command's keys"


@dataclass(frozen=True)
class Command:
    """One word of the command line: what it does, the function it calls, and the keys its bare words stand for."""

    summary: str
    target: str  # module:function below this package, imported only when the command runs
    words: tuple[str, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()  # keys that may be typed otherwise, where the better word is one of Python's own

    def function(self) -> Callable[..., Any]:
        """Import the function."""
        module, name = self.target.split(":")
        return getattr(importlib.import_module(f".{module}", __package__), name)


COMMANDS: dict[str, Command] = {
    "demo": Command("a shipped policy drives in the learned world; writes a video and prints its scorecard", "evaluation.demo:demo"),
    "record": Command("drive policies in the reference world and keep the clips as shards", "factory.record:record"),
    "import": Command("turn a DonkeyCar tub or a plain video into shards", "data.importing:import_clips", ("kind", "path")),
    "train-tokenizer": Command("train the visual tokenizer on shards", "world_model.video.tokenizer:train_tokenizer"),
    "train-world": Command("train the video model of the learned world on shards", "world_model.video.train:train_world"),
    "train-traffic": Command("train the learned road users on recorded traffic", "world_model.traffic.train:train_traffic"),
    "train-probes": Command(
        "train the readers that judge pictures: of the ego's motion, of what is where", "world_model.video.train_probes:train_probes"
    ),
    "train-policy": Command("train the car network or the VLA to imitate recorded driving", "rl.imitation:train_imitation"),
    "collect-starts": Command("gather roads and opening scenes from shards for a learned world", "factory.collect:collect_starts"),
    "ppo": Command("train the car network by reinforcement in a world", "rl.ppo:train_ppo"),
    "grpo": Command("train the VLA by reinforcement in a world, groups of episodes from one start each", "rl.grpo:train_grpo"),
    "distil": Command("train a car network on a teacher's actions in the states it visits itself", "rl.distil:distil"),
    "eval": Command("score a policy in a world over a named suite", "evaluation.runner:evaluate", ("policy",)),
    "export": Command("compile a policy for the car and bundle it: ONNX, int8, TensorRT", "evaluation.export:export_policy", ("policy",)),
    "fidelity": Command("measure how true the learned world is", "evaluation.fidelity:fidelity"),
    "bench": Command("measure speed, start-up time and memory", "evaluation.bench:bench"),
    "bench-car": Command("measure how long a policy takes to decide", "evaluation.bench_car:bench_car", ("policy",)),
    "measure-gain": Command("train PPO with several seeds and score what it gained", "factory.gain:measure_gain"),
    "measure-grpo": Command("train GRPO with several seeds and score what it gained", "factory.gain_grpo:measure_grpo"),
    "factory": Command("run the whole line, from recording to scores", "factory.pipeline:factory", spellings=(("from", "begin"),)),
    "measure-kills": Command("kill factories at random moments and see whether they make the same", "factory.kill_rerun:measure_kills"),
    "measure-student": Command("score a distilled policy beside its teacher", "rl.distil_measure:measure_student"),
    "scenarios": Command("list the scenario families with their parameters", "scenarios.catalogue:list_scenarios"),
    "measure-left": Command("score a policy where traffic keeps left, as it is and mirrored", "evaluation.left_hand:measure_left"),
    "keep": Command("keep a measurement's figures in benchmarks/results", "evaluation.results:keep", ("run",)),
    "results": Command("write the page of all figures kept", "evaluation.results:results"),
    "rules": Command("list the driving rules, or explain one", "evaluation.rulebook:show_rules", ("name",)),
    "rules list": Command("list the driving rules", "evaluation.rulebook:list_rules"),
    "rules explain": Command("say what a rule does, and plot it", "evaluation.rulebook:explain", ("name",)),
    "rules new": Command("write a rule and its test from a template", "evaluation.rulebook:new", ("name",)),
    "rules replay": Command("judge recorded drives by one rule or all, without simulating", "evaluation.rule_replay:replay", ("data",)),
    "rules compare": Command("where two designs see recorded drives differently, and why", "evaluation.rule_replay:compare", ("a", "b")),
    "rules audit": Command("whether a design pays drivers that nobody wants", "evaluation.rule_audit:audit"),
    "rules agree": Command("how often designs rank labelled pairs of drives right", "evaluation.rule_agree:agree", ("pairs",)),
    "rules bench": Command("what rules cost beside the world, and on recordings", "evaluation.rule_bench:bench_rules"),
    "version": Command("print the version", "cli:version"),
    "help": Command("list the commands, or one command's keys", "cli:show_help", ("command",)),
}

ALIASES = {"distill": "distil"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when it worked, 2 after one line on stderr when the user must change something."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    keep_freed_memory()
    try:
        name, rest = (words[0], words[1:]) if words else ("help", [])
        if name in ("-h", "--help"):
            name = "help"
        if name in ("-V", "--version"):
            name = "version"
        name = ALIASES.get(name, name)
        if rest and f"{name} {rest[0]}" in COMMANDS:
            name, rest = f"{name} {rest[0]}", rest[1:]
        command = _command(name)
        if any(word in ("-h", "--help") for word in rest):
            show_help(name)
        elif name == "help" and rest and not any("=" in word for word in rest):
            show_help(" ".join(rest))
        else:
            _run(name, command, rest)
    except XPengWorldError as error:
        print(f"xpeng-world: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("xpeng-world: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    return 0


def _command(name: str) -> Command:
    if name not in COMMANDS:
        raise ConfigError(f"unknown command '{name}'; {nearest(name, COMMANDS)}")
    return COMMANDS[name]


def _run(name: str, command: Command, rest: Sequence[str]) -> None:
    from .configs.compose import check_values, compose

    config = compose(name, _overrides(name, command, rest))
    try:
        function = command.function()
    except (ModuleNotFoundError, AttributeError) as error:
        raise ConfigError(
            f"'{name}' cannot run in this installation: {error}; install the extras with pip install 'xpeng-world[reference]'"
        ) from error
    values = check_values(name, function, config)
    function(**values)


def _overrides(name: str, command: Command, rest: Sequence[str]) -> list[str]:
    """The words after the command as overrides: bare words stand for the command's own keys, in order."""
    free = list(command.words)
    overrides = []
    for word in rest:
        if "=" in word:
            key, value = word.split("=", 1)
            overrides.append(f"{dict(command.spellings).get(key, key)}={value}")
        elif free:
            overrides.append(f"{free.pop(0)}={word}")
        else:
            raise ConfigError(f"'{word}' is no key=value; `xpeng-world help {name}` lists the keys of {name}")
    return overrides


def version() -> None:
    """Print the installed version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        print(installed("xpeng-world"))
    except PackageNotFoundError:
        print("unknown (not installed; run `pip install -e .`)")


def show_help(command: str | None = None) -> None:
    """Print the commands, or the keys of one with their defaults."""
    if command is None:
        print(f"{USAGE}\n")
        width = max(map(len, COMMANDS))
        for name, entry in COMMANDS.items():
            print(f"  {name:<{width}}  {entry.summary}")
        return
    from .configs.compose import keys

    command = ALIASES.get(command, command)
    entry = _command(command)
    rows = keys(command)
    bare = "".join(f" [{word.upper()}]" for word in entry.words)
    print(f"usage: xpeng-world {command}{bare}{' [key=value ...]' if rows else ''}\n\n{entry.summary}")
    if rows:
        print()
    width = max((len(f"{row.name}={row.default}") for row in rows), default=0)
    for row in rows:
        print(f"  {f'{row.name}={row.default}':<{min(width, 44)}}  {row.description}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
