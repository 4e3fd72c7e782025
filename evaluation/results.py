"""The page of figures: `docs/results.md`, made from the evidence files."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from .evidence import merge_evidence, read_evidence, runs_of, write_text


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
        lines += [f"## {file.stem}", "", "```"]
        runs = runs_of(record)
        for number, run in enumerate(runs, 1):
            commands = run["command"] if isinstance(run["command"], list) else [run["command"]]
            last = "the last of these at " if len(commands) > 1 else ""  # kept before runs were told apart
            lines += [f"# {number}: {last}commit {run['commit']}; {run['machine']}; {run['threads']} threads", *commands]
        lines += ["```", "", "| figure | value | 95 % interval | n | run |", "|---|---|---|---|---|"]
        whose = {key: number for number, run in enumerate(runs, 1) for key in run["figures"]}
        for key, figure in record["metrics"].items():
            interval = "" if figure["low"] is None else f"{figure['low']:.4g} to {figure['high']:.4g}"
            lines.append(f"| `{key}` | {figure['value']:.4g} | {interval} | {figure['n']} | {whose.get(key, '')} |")
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
