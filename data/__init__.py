"""Clips and shards: write, read, stream; importers of other recordings."""

from .clip import Clip, decode_clip, encode_clip
from .commonroad import import_commonroad
from .donkeycar import import_donkeycar
from .scenarionet import import_scenarionet
from .shards import ShardWriter, read_clips
from .split import check_trainable, split_of
from .video import import_video
from .windows import ClipBatch, ClipWindows, collate

__all__ = [
    "Clip",
    "ClipBatch",
    "ClipWindows",
    "ShardWriter",
    "check_trainable",
    "collate",
    "decode_clip",
    "encode_clip",
    "import_commonroad",
    "import_donkeycar",
    "import_scenarionet",
    "import_video",
    "read_clips",
    "split_of",
]
