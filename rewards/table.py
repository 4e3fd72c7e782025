"""The table of rules as documentation shows it: made from the registry, so that it cannot go stale."""

from __future__ import annotations

import inspect

from . import rules
from .rule import RULES


def rule_table() -> str:
    """A Markdown table of the built-in rules: name, kind, range with unit, parameters, what it says, source."""
    lines = ["| rule | kind | range | parameters | what it says | source |", "|---|---|---|---|---|---|"]
    for name, rule in sorted(RULES.items()):
        if not rule.function.__module__.startswith(f"{rules.__name__}."):
            continue
        unit = "" if rule.unit == "1" else f" {rule.unit}"
        parameters = ", ".join(f"`{p.name}` = {p.default}" for p in rule.parameters.values()) or "-"
        says = " ".join((inspect.getdoc(rule.function) or "").split("\n\n")[0].split())
        says = says.removesuffix(": [B, T].").removesuffix(".")
        lines.append(f"| `{name}` | {rule.kind} | {rule.low:g} to {rule.high:g}{unit} | {parameters} | {says} | {rule.source} |")
    return "\n".join(lines)
