"""The `import` command: one door to every importer."""

from __future__ import annotations

from ..errors import ConfigError, nearest
from .commonroad import import_commonroad
from .donkeycar import import_donkeycar
from .picture import CROP_TOP
from .plan import ImportReport
from .scenarionet import import_scenarionet
from .video import import_video

KINDS = ("commonroad", "donkeycar", "scenarionet", "video")


def import_clips(
    kind: str,
    path: str,
    out: str,
    clip_steps: int = 300,
    min_steps: int = 16,
    test_share: float = 0.2,
    crop_top: float = CROP_TOP,
    skip_missing: bool = False,
    egos: str | None = None,
    licence: str | None = None,
    append: bool = False,
) -> ImportReport:
    """Turn a recording into shards and print what was written; see the importers for the keys.

    Raises:
        ConfigError: an unknown kind.
        DataError: a recording that cannot be read as it is.
    """
    common = (clip_steps, min_steps, test_share, crop_top)
    if kind == "donkeycar":
        report = import_donkeycar(path, out, *common, skip_missing=skip_missing, licence=licence, append=append)
    elif kind == "video":
        report = import_video(path, out, *common, licence=licence, append=append)
    elif kind == "commonroad":
        report = import_commonroad(path, out, *common[:3], egos=egos or "longest", licence=licence, append=append)
    elif kind == "scenarionet":
        report = import_scenarionet(path, out, *common[:3], egos=egos or "sdc", licence=licence, append=append)
    else:
        raise ConfigError(f"unknown kind of recording '{kind}'; {nearest(kind, KINDS)}")
    print(report.summary(out))
    return report
