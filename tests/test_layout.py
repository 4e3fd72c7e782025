import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = {"tests", "examples", "benchmarks", "docs", "build", "dist"}
LONGEST_MODULE = 400
NEIGHBOURS = {("policies/vla", "world_model"): "the VLA sees by the frame tokenizer"}  # who may use a neighbour on its own floor, and why
FLOORS = {
    "data": 1, "rewards": 1,
    "world_model": 2, "reference": 2, "policies": 2,
    "envs": 3,
    "rl": 4, "evaluation": 4,
    "factory": 5, "studio": 5, "cli": 5, "configs": 5, "weights": 0,
}  # fmt: skip


@cache
def modules():
    found = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).parts
        if parts[0] not in OUTSIDE and not any(part.startswith(".") for part in parts):
            found.append(path)
    return found


def floor(place):
    return FLOORS.get(place, 0)


def imported_places(path):
    """First names below the package that a module imports, wherever in the file."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            if node.level:
                base = [*package[: len(package) - node.level + 1], *module]
            elif module[:1] == ["xpeng_world"]:
                base = module[1:]
            else:
                continue
            yield from [base[0]] if base else [name.name for name in node.names]
        elif isinstance(node, ast.Import):
            yield from [name.name.split(".")[1] for name in node.names if name.name.startswith("xpeng_world.")]


def test_listed_packages_are_the_folders():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {".".join(("xpeng_world", *path.relative_to(ROOT).parts[:-1])) for path in modules() if path.name == "__init__.py"}
    assert sorted(listed) == sorted(folders)


def test_every_folder_with_modules_is_a_package():
    assert {path.parent for path in modules()} == {path.parent for path in modules() if path.name == "__init__.py"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_never_run_upward(path):
    parts = path.relative_to(ROOT).parts
    place = parts[0].removesuffix(".py")
    if place in ("__init__", "__main__"):
        return
    for other in imported_places(path):
        assert floor(other) <= floor(place), f"{path.relative_to(ROOT)} (floor {floor(place)}) imports {other} (floor {floor(other)})"
        allowed = ("/".join(parts[:-1]), other) in NEIGHBOURS
        if floor(other) == floor(place) and floor(place) in (1, 2) and other in FLOORS and not allowed:
            assert other == place, f"{path.relative_to(ROOT)} imports {other}, its neighbour on floor {floor(place)}"


def test_no_module_is_too_long():
    long = {
        str(path.relative_to(ROOT)): n for path in modules() if (n := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_MODULE
    }
    assert not long


def test_lock_pins_what_is_declared_from_any_index():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["reference"], *extras["human"], *extras["dev"]]
    lines = [line for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    pins = {line.split("==")[0] for line in lines}
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9A-Za-z.]+", line) for line in lines)
    missing = {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower() for name in wanted} - pins
    assert not missing
