"""What a run of the factory leaves to look at: metrics.json, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
import subprocess
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.codec import ffmpeg
from ..data.video import probe_video
from ..evaluation.bootstrap import Estimate
from ..evaluation.evidence import evidence, read_evidence, write_evidence, write_text
from ..evaluation.page import STYLE
from .markers import Marker
from .progress import clock
from .stages import Stage

if TYPE_CHECKING:
    from .pipeline import Outcome

MORE_STYLE = """
img { max-width: 100%; border-radius: 4px } .done { color: #1a7f37 } .kept { color: #35629a } figure { margin: 1rem 0 }
figcaption { color: #667; font-size: .9rem } code { font-size: .85em }
"""
FILM_FRAMES = 4  # frames shown of a video
SHOWN = {  # figures of an evaluation beside its score
    "no_at_fault_collision": "no collision",
    "traffic_light": "lights",
    "ego_progress": "progress",
    "mean_speed_mps": "speed, m/s",
}


def write_summary(outcome: Outcome, line: Sequence[Stage]) -> Path:
    """Write metrics.json and summary.html into the factory's folder; returns the path of the page."""
    out = Path(outcome.config.out)
    scores = read_scores(out, line, outcome.markers)
    config = outcome.config
    command = f"xpeng-world factory preset={config.preset} seed={config.seed} threads={config.threads}"
    record = evidence(figures(outcome, scores), command=command, seconds=outcome.seconds, seeds=[config.seed], threads=config.threads)
    write_evidence(out / "metrics.json", record)
    path = out / "summary.html"
    write_text(path, page(outcome, line, scores, record))
    return path


def read_scores(out: Path, line: Sequence[Stage], markers: Mapping[str, Marker]) -> dict[str, dict[str, dict[str, Any]]]:
    """Figures of every evaluation that the finished stages made: by stage, by the world that judged."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for stage in line:
        if stage.name in markers:
            for world, name in stage.scores.items():
                found.setdefault(stage.name, {})[world] = read_evidence(out / stage.name / name)["metrics"]
    return found


def figures(outcome: Outcome, scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Estimate]:
    """Times of the stages that ran, scores in points of closed-loop EPDMS, and the whole line's time where nothing was kept.

    The whole line's time is `PRESET_s`, "smoke_s" say. It is left out where a stage was kept or was interrupted on the way.
    """
    found = {f"seconds_{name}": Estimate(outcome.markers[name].seconds) for name in outcome.ran}
    for stage, worlds in scores.items():
        for world, metrics in worlds.items():
            points = metrics["epdms"]
            found[f"epdms_{stage.removeprefix('score-')}_{world}"] = Estimate(*(points[k] for k in ("value", "low", "high", "n")))
    whole = len(outcome.ran) == len(outcome.markers) and not any(m.broken for m in outcome.markers.values())
    chosen_all = not (outcome.config.only or outcome.config.begin or outcome.config.until or outcome.config.change)
    if whole and chosen_all:
        found[f"{Path(outcome.config.preset).stem}_s"] = Estimate(outcome.seconds)
    return {key.replace("-", "_"): value for key, value in found.items()}


def page(outcome: Outcome, line: Sequence[Stage], scores: Mapping[str, Mapping[str, Mapping[str, Any]]], record: Mapping[str, Any]) -> str:
    """Stages, scores and pictures as HTML."""
    config, out = outcome.config, Path(outcome.config.out)
    title = f"Factory, preset {config.preset}, seed {config.seed}"
    did = f"{len(outcome.ran)} of {len(line)} stages ran in {clock(outcome.seconds)}, {len(outcome.markers) - len(outcome.ran)} were kept"
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="faint">{did}</p>', "<h2>Stages</h2>", _stages(outcome, line)]
    if scores:
        parts += ["<h2>Scores</h2>", _scores(scores)]
    for stage in line:
        if stage.name in outcome.markers:
            for pattern in stage.pictures:
                parts += [_figure(path, f"{stage.name}: {_caption(path)}") for path in sorted((out / stage.name).glob(pattern))]
    parts.append(
        f'<p class="faint">{escape(str(record["command"]))}<br>commit {escape(record["commit"])}, {escape(record["machine"])}, '
        f"{record['threads']} threads</p>"
    )
    head = f'<meta charset="utf-8">\n<title>{escape(title)}</title>\n<style>{STYLE}{MORE_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en">\n{head}\n{body}\n</html>\n'


def _stages(outcome: Outcome, line: Sequence[Stage]) -> str:
    rows = []
    for stage in line:
        marker = outcome.markers.get(stage.name)
        if marker is None:
            cells = ["left out", "", "", ""]
        else:
            ran = stage.name in outcome.ran
            state = f'<span class="{"done" if ran else "kept"}">{"ran" if ran else "kept"}</span>'
            why = escape(outcome.ran.get(stage.name, "up to date")) + ("; it had been interrupted before" if marker.broken else "")
            cells = [state, clock(marker.seconds), why, f"<code>{marker.key[:12]}</code>"]
        rows.append([escape(stage.name), escape(stage.summary), *cells])
    return _table(["stage", "what", "", "time", "why", "key"], rows)


def _scores(scores: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    rows = []
    for stage, worlds in scores.items():
        for world, metrics in worlds.items():
            points = metrics["epdms"]
            interval = "" if points["low"] is None else f"{points['low']:.1f} to {points['high']:.1f}"
            rest = [f"{metrics[name]['value']:.3g}" for name in SHOWN]
            rows.append([escape(stage), escape(world), f"<b>{points['value']:.1f}</b>", interval, str(points["n"]), *rest])
    head = ["stage", "world", "EPDMS, points", "95 % interval", "episodes", *SHOWN.values()]
    return _table(head, rows)


def _caption(path: Path) -> str:
    return {"worst": "the worst episode", "best": "the best episode"}.get(path.stem, path.stem.replace("_", " "))


def _figure(path: Path, caption: str) -> str:
    data = path.read_bytes() if path.suffix == ".png" else film(path)
    kind = "png" if path.suffix == ".png" else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<figure><img alt="{escape(caption)}" src="{source}"><figcaption>{escape(caption)}</figcaption></figure>'


def film(path: Path) -> bytes:
    """A JPEG of frames taken evenly from a video, the first and the last among them, two a row."""
    import numpy as np
    from PIL import Image

    width, height, _, _ = probe_video(path)
    command = (ffmpeg(), "-v", "error", "-threads", "1", "-i", str(path), "-an", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    raw = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, FILM_FRAMES)]
    rows = [np.concatenate(chosen[i : i + 2], axis=1) for i in range(0, FILM_FRAMES, 2)]
    packed = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(packed, "JPEG", quality=85)
    return packed.getvalue()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    line = lambda tag, cells: "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"
    return f'<div class="scroll"><table>{line("th", head)}{"".join(line("td", row) for row in rows)}</table></div>'
