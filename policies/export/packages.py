"""The optional packages that an export needs, asked for before any work is done."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from importlib.util import find_spec

from ...errors import ConfigError

EXTRAS: dict[str, tuple[str, ...]] = {
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "tensorrt": ("tensorrt_rtx",),
}
DISTRIBUTIONS = {"tensorrt_rtx": "tensorrt-rtx-cu13"}


def require(extra: str) -> None:
    """Check that an extra's packages are there.

    Raises:
        ConfigError: one is missing; the message names the extra.
    """
    missing = [package for package in EXTRAS[extra] if find_spec(package) is None]
    if missing:
        name = DISTRIBUTIONS.get(missing[0], missing[0])
        raise ConfigError(f"the package '{name}' is not installed; install it with pip install 'xpeng-world[{extra}]'")


def version(package: str) -> str:
    """Name and version of an installed package, for the manifest."""
    name = DISTRIBUTIONS.get(package, package)
    try:
        return f"{name} {installed_version(name)}"
    except PackageNotFoundError:
        return f"{name} of unknown version"
