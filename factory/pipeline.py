"""The factory: every stage of the line in order, done ones kept, interrupted ones gone on with, by one command."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cli import COMMANDS
from ..errors import ConfigError
from ..evaluation.evidence import write_text
from .child import StageError, command_line, run_child
from .code_version import code_version
from .markers import FORMAT, Marker, begin, difference, digest_of, digest_outputs, finish, read_marker, recover
from .presets import Order, Values, check_orders, load_preset, orders
from .progress import Progress, show_plan
from .stages import LINE, Stage, check_line, select

MANIFEST = "manifest.json"
Recipe = dict[str, Any]


@dataclass
class FactoryConfig:
    """Everything a run of the factory depends on."""

    preset: str = "smoke"
    out: str = "runs/factory"
    seed: int = 0
    threads: int = 2
    only: list[str] = field(default_factory=list)  # stages to run; all when empty
    begin: str = ""  # first stage to run; on the command line also from=
    until: str = ""  # last stage to run
    change: dict[str, Any] | None = None  # of the preset, as '{ppo: {ppo: {steps: 2048}}}'
    exact: bool = True  # start an interrupted stage over whose training would go on, but not to the same result
    dry_run: bool = False


@dataclass(frozen=True)
class Step:
    """What is to be done about a stage, and why."""

    stage: Stage
    action: str  # "keep", "run", "wait" (its inputs must run first), "skip" (not chosen)
    why: str
    recipe: Recipe | None = None  # None while its inputs are unknown


@dataclass(frozen=True)
class Outcome:
    """What a run of the factory came to."""

    config: FactoryConfig
    markers: dict[str, Marker]  # of the finished stages, in the order of the line
    ran: dict[str, str]  # why, for the stages that this run made
    seconds: float


def factory(config: FactoryConfig) -> Path:
    """Run the line; returns the path of its manifest, or of its folder for a dry run.

    Raises:
        ConfigError: an unknown preset, stage or key, a value of the wrong type, or a folder in use.
        StageError: a stage failed; what is finished is kept.
    """
    from .summary import write_summary

    outcome = run_line(config, LINE)
    if outcome is None:
        return Path(config.out)
    page = write_summary(outcome, LINE)
    manifest = Path(config.out) / MANIFEST
    print(f"summary in {page}" + (f", manifest in {manifest}" if len(outcome.markers) == len(LINE) else ""))
    return manifest


def run_line(config: FactoryConfig, line: Sequence[Stage], program: Callable[[Sequence[str]], list[str]] = command_line) -> Outcome | None:
    """Run the chosen stages of a line; None for a dry run.

    Args:
        config: the run.
        line: the stages.
        program: makes the process of a command's words.

    Raises:
        ConfigError: as `factory`.
        StageError: as `factory`.
    """
    if config.threads < 1 or not 0 <= config.seed < 600:
        raise ConfigError(f"threads={config.threads} must be at least 1, seed={config.seed} from 0 to 599")
    check_line(line)
    values = load_preset(config.preset, line, config.change)
    chosen = select(line, config.only, config.begin, config.until)
    out = Path(config.out)
    if config.dry_run:
        show_plan(config, [(s.stage.name, s.action, s.why) for s in plan(config, line, values, chosen)])
        return None
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out) as lock, _stoppable():
        for stage in line:
            recover(_partial(out, stage), out / stage.name)
        steps = plan(config, line, values, chosen)
        check_orders(
            [order for s in steps if s.action in ("run", "wait") for order in orders(s.stage, values, config.seed, config.threads)]
        )
        return _run(config, line, values, chosen, lock, program)


def plan(config: FactoryConfig, line: Sequence[Stage], values: Values, chosen: Sequence[str]) -> list[Step]:
    """What is to be done about each stage as things stand; changes nothing.

    Raises:
        ConfigError: a stage that was not chosen, that a chosen one needs, and that is not up to date.
    """
    out, steps = Path(config.out), []
    digests: dict[str, str] = {}
    for stage in line:
        step = _step(config, stage, values, digests, out)
        if step.action == "keep":
            marker = read_marker(out / stage.name)
            assert marker is not None
            digests[stage.name] = marker.digest
        elif stage.name not in chosen:
            step = Step(stage, "skip", f"not chosen ({step.why})", step.recipe)
        steps.append(step)
    left_out = {s.stage.name: s.why for s in steps if s.action == "skip"}
    for step in steps:
        for name in step.stage.inputs if step.action in ("run", "wait") else ():
            if name in left_out:
                raise ConfigError(f"stage '{step.stage.name}' needs '{name}', which is {left_out[name]}; choose '{name}' too")
    return steps


def _run(
    config: FactoryConfig,
    line: Sequence[Stage],
    values: Values,
    chosen: Sequence[str],
    lock: int,
    program: Callable[[Sequence[str]], list[str]],
) -> Outcome:
    out, began = Path(config.out), time.monotonic()
    markers: dict[str, Marker] = {}
    ran: dict[str, str] = {}
    with Progress([stage.name for stage in line], out) as progress:
        for stage in line:
            step = _step(config, stage, values, {name: m.digest for name, m in markers.items()}, out)
            if step.action == "run" and stage.name in chosen:
                assert step.recipe is not None
                (out / MANIFEST).unlink(missing_ok=True)  # it names results that are about to be replaced
                progress.start(stage.name, step.why)
                try:
                    markers[stage.name] = make(config, stage, step.recipe, values, lock, program, progress.line)
                except StageError as error:
                    raise StageError(f"stage '{stage.name}' {error}") from None
                ran[stage.name] = step.why
                progress.end(stage.name, markers[stage.name].seconds)
            elif step.action == "keep":
                found = read_marker(out / stage.name)
                assert found is not None
                markers[stage.name] = found
                progress.keep(stage.name)
            else:
                progress.skip(stage.name)
    if len(markers) == len(line):
        write_text(out / MANIFEST, json.dumps(manifest(markers), indent=1) + "\n")
    return Outcome(config, markers, ran, time.monotonic() - began)


def manifest(markers: Mapping[str, Marker]) -> dict[str, Any]:
    """What a finished line has made: recipes and digests, nothing of when or how fast."""
    stages = {name: {"key": m.key, "recipe": m.recipe, "outputs": m.outputs} for name, m in markers.items()}
    return {"format": FORMAT, "digest": digest_of({name: m.outputs for name, m in markers.items()}), "stages": stages}


def make(
    config: FactoryConfig,
    stage: Stage,
    recipe: Recipe,
    values: Values,
    lock: int,
    program: Callable[[Sequence[str]], list[str]],
    watch: Callable[[str], None],
) -> Marker:
    """Run the commands of a stage and put its folder in place.

    Raises:
        StageError: a command failed, or left out a file it should have written.
    """
    out = Path(config.out).resolve()
    partial, final, key = _partial(out, stage), out / stage.name, digest_of(recipe)
    broken = begin(partial, key, stage.exact or not config.exact)
    cache = out / ".cache" / stage.name
    if not broken or not stage.exact:
        shutil.rmtree(cache, ignore_errors=True)
    began = time.monotonic()
    # Relative folders, so that nothing a command writes tells two factories apart by where they are.
    folders = {"out": partial.name, **{name: name for name in stage.inputs}}
    for order in orders(stage, values, config.seed, config.threads):
        run_child(program(order.words(folders)), out, out / "logs" / f"{stage.name}.log", config.threads, cache, lock, watch)
    if digest_of(recipe_of(config, stage, values, recipe["inputs"])) != key:
        raise StageError("ran while its code was changed, so nobody can say what made its result; call again")
    marker = Marker(key, recipe, digest_outputs(partial, stage.outputs), round(time.monotonic() - began, 2), broken)
    finish(partial, final, marker)
    shutil.rmtree(cache, ignore_errors=True)
    return marker


def recipe_of(config: FactoryConfig, stage: Stage, values: Values, inputs: Mapping[str, str]) -> Recipe:
    """All that the result of a stage depends on: its commands' values, the code, and the results it takes."""
    found: list[Order] = orders(stage, values, config.seed, config.threads)
    code: dict[str, list[str]] = {}
    for order in found:
        for place, version in code_version(COMMANDS[order.command].target).items():
            code.setdefault(place, []).append(version)
    return {
        "calls": [{"name": order.name, "command": order.command, "values": order.values} for order in found],
        "outputs": list(stage.outputs),
        "code": {place: all_[0] if len(set(all_)) == 1 else digest_of(all_)[:16] for place, all_ in sorted(code.items())},
        "inputs": {name: inputs[name] for name in stage.inputs},
    }


def _step(config: FactoryConfig, stage: Stage, values: Values, digests: Mapping[str, str], out: Path) -> Step:
    unknown = [name for name in stage.inputs if name not in digests]
    if unknown:
        return Step(stage, "wait", f"after '{unknown[0]}' has run, if its result is new")
    recipe = recipe_of(config, stage, values, digests)
    found = read_marker(out / stage.name)
    if found is None:
        begun = (_partial(out, stage)).is_dir()
        return Step(stage, "run", ("it was interrupted" if begun else "it has not run"), recipe)
    if found.key != digest_of(recipe):
        return Step(stage, "run", difference(found.recipe, recipe), recipe)
    damaged = _damaged(out / stage.name, stage, found)
    return Step(stage, "run", damaged, recipe) if damaged else Step(stage, "keep", "up to date", recipe)


def _damaged(folder: Path, stage: Stage, marker: Marker) -> str:
    """What is wrong with the files of a finished stage, in words; empty when they are as they were."""
    from ..errors import DataError

    try:
        now = digest_outputs(folder, stage.outputs)
    except DataError:
        return "files of its result are missing"
    changed = [name for name in {**marker.outputs, **now} if marker.outputs.get(name) != now.get(name)]
    return f"its file '{changed[0]}' was altered" if changed else ""


def _partial(out: Path, stage: Stage) -> Path:
    return out / f"{stage.name}.partial"


@contextmanager
def _locked(out: Path) -> Iterator[int]:
    """Hold the folder's lock; the children of this process hold it too."""
    with open(out / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise ConfigError(
                f"another factory, or a command that one has left running, works in '{out}' (process {file.read().strip() or 'unknown'});"
                " wait for it or choose another out="
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield file.fileno()


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let a polite request to end stop the running command too."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, where nobody can send it
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
