"""The page of an evaluation: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runner import Evaluation

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #1d2330; background: #fff }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.score { font-size: 3rem; font-weight: 650; line-height: 1.1 } .faint { color: #667 }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #e3e6ec } td.n { text-align: right }
video { width: 100%; border-radius: 6px; background: #000 }
.bad { color: #b3261e } .scroll { overflow-x: auto }
@media (prefers-color-scheme: dark) { body { background: #14161b; color: #e6e8ee } th, td { border-color: #2c313c } .faint { color: #99a } }
"""


def page(found: Evaluation, record: Mapping[str, Any], videos: Sequence[Path]) -> str:
    """The scorecard, the worst and the best episode, and all episodes, as HTML."""
    from .report import LABELS

    metrics = record["metrics"]
    title = f"{found.policy} in {found.world}: {found.suite.name}"
    points = metrics["epdms"]
    interval = "" if points["low"] is None else f"95 % interval {points['low']:.1f} to {points['high']:.1f}, "
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<div class="score">{points["value"]:.1f}</div>',
        f'<p class="faint">closed-loop EPDMS in points, {interval}{points["n"]} episodes</p>',
        "<h2>Figures</h2>",
        _table(
            ["", "value", "95 % interval"],
            [
                [
                    LABELS.get(key, key.replace("_", " ")),
                    f"{m['value']:.4g}",
                    "" if m["low"] is None else f"{m['low']:.4g} to {m['high']:.4g}",
                ]
                for key, m in metrics.items()
            ],
        ),
    ]
    for path in videos:
        data = base64.b64encode(path.read_bytes()).decode()
        parts.append(f'<h2>{escape(path.stem.capitalize())} episode</h2><video controls loop src="data:video/mp4;base64,{data}"></video>')
    failed = [row for row in found.rows if row.unscored]
    if failed:
        listed = "".join(f"<li>episode {row.episode.index}, seed {row.episode.seed}: {escape(row.unscored)}</li>" for row in failed)
        parts.append(f'<h2 class="bad">Not scored, and in no mean</h2><ul class="bad">{listed}</ul>')
    names = list(found.scored[0].scores)
    circumstances = list(found.rows[0].episode.scenario)
    parts += [
        "<h2>Episodes</h2>",
        _table(
            ["episode", *circumstances, "ended", *names],
            [
                [
                    str(row.episode.index),
                    *(str(row.episode.scenario.get(key, "")) for key in circumstances),
                    row.ended.replace("_", " "),
                    *(f"{row.scores[name]:.4g}" if name in row.scores else "-" for name in names),
                ]
                for row in found.rows
            ],
        ),
        f'<p class="faint">{escape(str(record["command"]))}<br>commit {escape(record["commit"])}, {escape(record["machine"])}, '
        f"{record['threads']} threads, {record['seconds']:.0f} s</p>",
    ]
    body = "\n".join(parts)
    head = f'<meta charset="utf-8">\n<title>{escape(title)}</title>\n<style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = lambda tag, cells: "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"
    return f'<div class="scroll"><table>{line("th", head)}{"".join(line("td", row) for row in rows)}</table></div>'
