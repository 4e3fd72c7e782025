"""The table of rules as documentation shows it: made from the registry, so that it cannot go stale."""

from __future__ import annotations

import inspect

from . import rules  # noqa: F401  (registers the built-in ones)
from .rule import RULES


def rule_table() -> str:
    """A Markdown table of all registered rules: name, kind, range with unit, parameters, what it says, source."""
    lines = ["| rule | kind | range | parameters | what it says | source |", "|---|---|---|---|---|---|"]
    for name in sorted(RULES):
        rule = RULES[name]
        unit = "" if rule.unit == "1" else f" {rule.unit}"
        parameters = ", ".join(f"`{p.name}` = {p.default}" for p in rule.parameters.values()) or "-"
        says = " ".join((inspect.getdoc(rule.function) or "").split("\n\n")[0].split())
        says = says.removesuffix(": [B, T].").removesuffix(".")
        lines.append(f"| `{name}` | {rule.kind} | {rule.low:g} to {rule.high:g}{unit} | {parameters} | {says} | {rule.source} |")
    return "\n".join(lines)
