"""The driving rules in words: what there is, and what one of them says."""

from __future__ import annotations

import inspect


def show_rules(name: str | None) -> None:
    """Print all rules, or explain one.

    Raises:
        ConfigError: no rule of that name.
    """
    from rich.console import Console
    from rich.table import Table

    from ..rewards.rule import RULES, find_rule, load_entry_points

    if name is not None:
        rule = find_rule(name)
        print(f"{rule.name}: {rule.kind}, unit {rule.unit}, {rule.low:g} to {rule.high:g}\n")
        print(inspect.cleandoc(rule.function.__doc__ or ""), "\n")
        for parameter in rule.parameters.values():
            print(f"  {parameter.name}={parameter.default}")
        print(f"source: {rule.source}")
        return
    from ..rewards import rules  # noqa: F401  (registers the built-in ones)

    load_entry_points()
    table = Table("rule", "kind", "unit", "what it says")
    for rule in RULES.values():
        first = inspect.cleandoc(rule.function.__doc__ or "").splitlines()[0]
        table.add_row(rule.name, rule.kind, rule.unit, first.replace(": [B, T].", "."))
    Console().print(table)
    print("`xpeng-world rules NAME` explains one")
