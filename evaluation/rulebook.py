"""The driving rules in words: what there is, what one of them says, and a new one from a template."""

from __future__ import annotations

import difflib
import inspect
import keyword
from pathlib import Path
from string import Template

from ..errors import ConfigError, nearest
from .evidence import write_text

TOOLS = ("list", "explain", "new", "replay", "compare", "audit", "agree", "bench")
RULE = Template('''"""What this rule is about, in one line."""

from torch import Tensor

from xpeng_world.rewards import rule
from xpeng_world.scene import Track


@rule(kind="cost", unit="m/s2", low=0.0, high=20.0, neutral=0.0, source="ours: what a passenger notices")
def $name(track: Track, *, free_mps2: float = 2.0) -> Tensor:
    """Braking beyond `free_mps2`: [B, T]."""
    return (-track.ego.acceleration - free_mps2).clamp(0, 20)
''')
TEST = Template('''"""Cases of the rule `$name`, worked out by hand."""

from pathlib import Path

import pytest
from xpeng_world.rewards import check_rule, find_rule
from xpeng_world.rewards.cases import drive, straight_road

$name = find_rule("$name.py", beside=Path(__file__).parent)


@pytest.mark.parametrize(("acceleration", "expected"), [(0.0, 0.0), (-2.0, 0.0), (-3.5, 1.5)])
def test_a_steady_drive(acceleration, expected):
    track = drive(*straight_road(), x=[40.0 + t for t in range(10)], acceleration=acceleration)
    assert $name(track)[0].tolist() == pytest.approx([expected] * 10)


def test_it_can_be_trained_on():
    """It neither changes the drive nor looks ahead, nor back further than a running window."""
    speeds = [10.0 + 0.1 * (t % 7) for t in range(80)]
    track = drive(*straight_road(), x=[20.0 + t for t in range(80)], speed=speeds, acceleration=[0.5 * (t % 11) - 4.0 for t in range(80)])
    check_rule($name, track)


def test_a_parameter():
    track = drive(*straight_road(), x=[40.0] * 3, speed=0.0, acceleration=-3.5)
    assert float($name(track, free_mps2=3.0)[0, -1]) == pytest.approx(0.5)
''')


def show_rules(name: str | None = None) -> None:
    """Print all rules, or explain one.

    Raises:
        ConfigError: no rule of that name.
    """
    if name is None:
        list_rules()
        return
    try:
        explain(name, None)
    except ConfigError:
        if difflib.get_close_matches(name, TOOLS, cutoff=0.6):
            raise ConfigError(f"neither a rule nor a tool for rules is named '{name}'; {nearest(name, TOOLS)}") from None
        raise


def list_rules() -> None:
    """Print all rules."""
    from rich.console import Console
    from rich.table import Table

    from .rule_replay import built_in_rules

    table = Table("rule", "kind", "unit", "what it says")
    for rule in sorted(built_in_rules(), key=lambda one: one.name):
        first = inspect.cleandoc(rule.function.__doc__ or "").splitlines()[0]
        table.add_row(rule.name, rule.kind, rule.unit, first.replace(": [B, T].", "."))
    Console().print(table)
    print("`xpeng-world rules explain NAME` explains one")


def explain(name: str, out: str | None) -> None:
    """Print what a rule says, its parameters and its source, and plot its value against what it depends on.

    Args:
        name: a rule, or the path of a .py file.
        out: the PNG, or a folder for NAME.png; None draws nothing.

    Raises:
        ConfigError: no rule of that name.
    """
    from ..rewards.rule import find_rule

    rule = find_rule(name)
    print(f"{rule.name}: {rule.kind}, unit {rule.unit}, {rule.low:g} to {rule.high:g}\n")
    print(inspect.cleandoc(rule.function.__doc__ or ""), "\n")
    for parameter in rule.parameters.values():
        print(f"  {parameter.name}={parameter.default}")
    print(f"source: {rule.source}")
    if out is not None:
        from .rule_cases import telling
        from .rule_plots import plot_curves

        path = Path(out) if Path(out).suffix == ".png" else Path(out) / f"{rule.name}.png"
        curves = telling(rule)
        if curves:
            print(f"plot: {plot_curves(path, rule.name, curves)}")
        else:
            print("no plot: on the made-up drives it always says the same; `xpeng-world rules replay` shows it on recorded ones")


def new(name: str, out: str) -> None:
    """Write a rule and its test from a template: `NAME.py` and `test_NAME.py`.

    Args:
        name: of the rule, a word in small letters, digits and underscores.
        out: folder.

    Raises:
        ConfigError: a name that cannot be one, that a rule has already, or of files that exist.
    """
    from .rule_replay import built_in_rules

    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise ConfigError(f"'{name}' cannot name a rule; use a word of small letters, digits and underscores")
    if name in {rule.name for rule in built_in_rules()}:
        raise ConfigError(f"there is a rule '{name}' already; choose another name")
    folder = Path(out)
    paths = {folder / f"{name}.py": RULE, folder / f"test_{name}.py": TEST}
    for path in paths:
        if path.exists():
            raise ConfigError(f"'{path}' exists already; move it away or choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    for path, template in paths.items():
        write_text(path, template.substitute(name=name))
    print(f"wrote {' and '.join(str(path) for path in paths)}; they judge braking: change both, then")
    print(f"pytest {folder / f'test_{name}.py'}")
    print(f"xpeng-world rules replay SHARDS rule={folder / f'{name}.py'}")
