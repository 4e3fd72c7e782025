"""The page of figures: `docs/results.md`, made from the evidence files."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from .evidence import merge_evidence, read_evidence, write_text


def results(evidence: str, out: str) -> Path:
    """Write the page of all figures below a folder of evidence files.

    Raises:
        DataError: no evidence file there, or a damaged one.
    """
    files = sorted(Path(evidence).glob("*.json"))
    if not files:
        raise DataError(f"no evidence in '{evidence}'; measure something, `xpeng-world bench` say, and keep it with `xpeng-world keep`")
    lines = ["# Results", "", "Written by `xpeng-world results` from `benchmarks/results/`; edit nothing here.", ""]
    for file in files:
        record = read_evidence(file)
        commands = record["command"] if isinstance(record["command"], list) else [record["command"]]
        lines += [f"## {file.stem}", "", f"Commit {record['commit']}; {record['machine']}; {record['threads']} threads.", ""]
        lines += ["```", *commands, "```", "", "| figure | value | 95 % interval | n |", "|---|---|---|---|"]
        for key, figure in record["metrics"].items():
            interval = "" if figure["low"] is None else f"{figure['low']:.4g} to {figure['high']:.4g}"
            lines.append(f"| `{key}` | {figure['value']:.4g} | {interval} | {figure['n']} |")
        lines.append("")
    path = Path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines))
    print(f"written: {path}")
    return path


def keep(run: str, name: str, keys: list[str] | None) -> Path:
    """Merge a run's `metrics.json` into `benchmarks/results/NAME.json`.

    Raises:
        DataError: no such run, or a figure it did not measure.
    """
    folder = Path(run)
    record = read_evidence(folder / "metrics.json" if folder.is_dir() else folder)
    path = merge_evidence(Path("benchmarks/results") / f"{name}.json", record, keys)
    print(f"kept: {', '.join(keys or record['metrics'])} in {path}")
    return path
