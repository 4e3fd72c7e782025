"""Print requirements.lock: the pinned closure of pyproject's dependencies and extras, as installed in this environment."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("reference", "human", "export", "dev")
HEADER = "# Written by `make lock` from pyproject.toml's dependencies and extras; edit those instead."


def canonical(name: str) -> str:
    """The name as package indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(wanted: list[str]) -> dict[str, str]:
    """Versions of everything that the requirements need here, by canonical name."""
    pins: dict[str, str] = {}
    queue = [(Requirement(line), "") for line in wanted]
    seen = set()
    while queue:
        requirement, extra = queue.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted_extra in ("", *requirement.extras):
            key = (canonical(requirement.name), wanted_extra)
            if key in seen:
                continue
            seen.add(key)
            try:
                found = distribution(requirement.name)
            except PackageNotFoundError:
                raise SystemExit(f"{requirement} is not installed; run `pip install -e '.[{','.join(EXTRAS)}]'` first") from None
            pins[key[0]] = found.version.split("+")[0]
            queue += [(Requirement(line), wanted_extra) for line in found.requires or []]
    return pins


def main() -> None:
    """Print the lock."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    for extra in EXTRAS:
        wanted += project["project"]["optional-dependencies"][extra]
    print(HEADER)
    for name, version in sorted(closure(wanted).items()):
        print(f"{name}=={version}")


if __name__ == "__main__":
    main()
