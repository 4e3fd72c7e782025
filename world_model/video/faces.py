"""What the layout's polygons are."""

from __future__ import annotations

from enum import IntEnum


class Face(IntEnum):
    """What a face of the layout is; the order of the ground classes is the order in which they are painted."""

    NONE = 0
    VERGE = 1
    PAVEMENT = 2
    ROAD = 3
    JUNCTION = 4
    EDGE = 5
    DASH = 6
    CENTRE = 7
    STOP = 8
    BODY = 9
    CABIN = 10
    WHEEL = 11
    FRONT_LAMP = 12
    REAR_LAMP = 13
    BRAKE_LAMP = 14
    PERSON = 15
    BUILDING = 16
    TREE = 17
    POLE = 18
    SIGNAL_HOUSING = 19
    SIGNAL_RED = 20
    SIGNAL_YELLOW = 21
    SIGNAL_GREEN = 22
