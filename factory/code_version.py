"""Which code a command depends on, as digests by folder, so that a changed module repeats the stages that use it and no others."""

from __future__ import annotations

import ast
import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARIES = ("torch", "numpy", "diffusers", "transformers", "stable-baselines3", "eclipse-sumo", "panda3d")
DYNAMIC = {"import_module", "spec_from_file_location", "iter_modules"}  # calls whose imports cannot be read from the source


def code_version(target: str) -> dict[str, str]:
    """Digests of the code that a command depends on.

    All modules that the target reaches by relative imports, also those inside functions, are read; a module that imports by name at
    run time counts with its whole folder, the command line excepted. YAML files beside a reached module count too.

    Args:
        target: `module:function` below this package, as the command line's table has it.

    Returns:
        A digest for each top-level folder, one for the modules at the root (""), the versions of Python and of the libraries.
    """
    return {**_digests(target.split(":")[0]), **_libraries()}


def reached_modules(module: str) -> list[Path]:
    """Files of the modules that `module` (dotted, below this package) reaches, itself included, sorted."""
    found: set[Path] = set()
    waiting = [ROOT.joinpath(*module.split("."))]
    while waiting:
        place = waiting.pop()
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        if path in found or not path.is_file():
            continue
        found.add(path)
        if path.parent != ROOT:
            waiting.append(path.parent)
        waiting += _needed(path, path.stat().st_mtime_ns)
    return sorted(found)


@cache
def _needed(path: Path, changed_ns: int) -> list[Path]:
    """Places below ROOT that a module, as it was last changed, names, and its whole folder where it imports by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    places = _imported(tree, path)
    if path.parent != ROOT and _is_dynamic(tree):
        places += [p.with_suffix("") for p in path.parent.rglob("*.py")]
    return places


def _imported(tree: ast.AST, path: Path) -> list[Path]:
    """Places below ROOT that a module names in relative imports; a name may be a module or something inside one."""
    places = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parent
            for _ in range(node.level - 1):
                base = base.parent
            base = base.joinpath(*(node.module or "").split(".")) if node.module else base
            if base != ROOT:
                places.append(base)
            places += [base / name.name for name in node.names]
    return places


def _is_dynamic(tree: ast.AST) -> bool:
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name)
    }
    return bool(names & DYNAMIC)


def _digests(module: str) -> dict[str, str]:
    modules = reached_modules(module)
    data = {path for folder in {m.parent for m in modules if m.parent != ROOT} for path in folder.glob("*.yaml")}
    by_folder: dict[str, list[Path]] = {}
    for path in sorted({*modules, *data}):
        parts = path.relative_to(ROOT).parts
        by_folder.setdefault(parts[0] if len(parts) > 1 else "", []).append(path)
    found = {}
    for folder, paths in sorted(by_folder.items()):
        digest = hashlib.sha256()
        for path in paths:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
        found[folder] = digest.hexdigest()[:16]
    return found


@cache
def _libraries() -> dict[str, str]:
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
