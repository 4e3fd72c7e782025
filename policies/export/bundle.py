"""The bundle: one zip with the models, the script, the engines asked for, a manifest, and the hash of every file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import CheckpointError, ConfigError
from .exportable import Port

FORMAT, VERSION = "xpeng-world-bundle", 1
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
MOST_FILES, MOST_BYTES = 64, 4 << 30
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the least time that a zip can state


@dataclass(frozen=True)
class Bundle:
    """The files of a checked bundle, in memory; nothing of it is ever unpacked or run as code."""

    manifest: dict[str, Any]
    files: dict[str, bytes]  # by name, without the manifest and the hashes
    name: str

    @property
    def models(self) -> dict[str, str]:
        """File of each model by precision."""
        return dict(self.manifest["models"])

    def ports(self, side: str) -> tuple[Port, ...]:
        """The "inputs" or "outputs" that the manifest states."""
        return tuple(Port(**{**port, "shape": tuple(port["shape"][1:])}) for port in self.manifest[side])


def write_bundle(path: str | Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """Write a bundle whole or not at all; equal files and manifest give equal bytes. Returns the SHA-256 of the zip.

    Args:
        path: the zip to write.
        manifest: what `read_bundle` checks: models, inputs, outputs; and what was verified. JSON.
        files: contents by name.
    """
    members = {**files, MANIFEST: _json({"format": FORMAT, "version": VERSION, **manifest})}
    sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in sorted(members.items()))
    members[SUMS] = sums.encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, data)
    path = Path(path)
    write_file(path, packed.getvalue())
    return hashlib.sha256(packed.getvalue()).hexdigest()


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle into memory and check every byte of it against its hashes.

    The hashes find damage and careless changes. They are no signature: compare the zip's own SHA-256, which the export prints,
    where somebody could have written another bundle.

    Raises:
        ConfigError: no such file.
        CheckpointError: no zip, truncated, tampered with, or of another version.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"no bundle '{path}'; write one with `xpeng-world export`")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive.infolist(), path)
            members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError, NotImplementedError) as error:
        raise _refused(path, f"truncated or no bundle ({str(error).splitlines()[0] if str(error) else type(error).__name__})") from None
    _check_sums(members, path)
    manifest = _manifest(members, path)
    files = {name: data for name, data in members.items() if name not in (MANIFEST, SUMS)}
    bundle = Bundle(manifest, files, path.name)
    try:
        bundle.ports("inputs"), bundle.ports("outputs")
        missing = [file for file in bundle.models.values() if file not in files]
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(path, f"its manifest is not understood ({error!r})") from None
    if missing or not bundle.models:
        raise _refused(path, f"it has no model '{missing[0]}'" if missing else "it has no model")
    return bundle


def write_file(path: Path, data: bytes) -> None:
    """Write beside the file, then rename over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _check_entries(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Refuse anything that `write_bundle` does not write: odd names, links, compression, encryption, too much."""
    names = [entry.filename for entry in entries]
    if len(names) > MOST_FILES or sum(entry.file_size for entry in entries) > MOST_BYTES:
        raise _refused(path, f"more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not _NAME.fullmatch(entry.orig_filename) or names.count(entry.filename) > 1:
            raise _refused(path, f"the name {entry.orig_filename!r} is not allowed or stands there twice")
        if kind not in (0, stat.S_IFREG) or entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 0x1:
            raise _refused(path, f"'{entry.filename}' is a link, compressed or encrypted")


def _check_sums(members: Mapping[str, bytes], path: Path) -> None:
    if SUMS not in members:
        raise _refused(path, f"it has no {SUMS}")
    lines = members[SUMS].decode("ascii", "replace").splitlines()
    stated = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = {name: hashlib.sha256(data).hexdigest() for name, data in members.items() if name != SUMS}
    for name in sorted({*stated, *found}):
        if name not in found:
            raise _refused(path, f"'{name}' is missing")
        if stated.get(name) != found[name]:
            raise _refused(path, f"'{name}' is not the file that was bundled")


def _manifest(members: Mapping[str, bytes], path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(members[MANIFEST])
        kind, version = manifest["format"], manifest["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise _refused(path, f"its manifest cannot be read ({error!r})") from None
    if (kind, version) != (FORMAT, VERSION):
        raise _refused(path, f"it is of format '{kind}' {version}; this code reads {FORMAT} {VERSION}")
    return dict(manifest)


def _refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"the bundle '{path}' is refused: {reason}; export the policy again or copy the bundle anew")


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
