"""What the layout's polygons are."""

from __future__ import annotations

from enum import IntEnum


class Face(IntEnum):
    """What a face of the layout is; the order of the ground classes is the order in which they are painted."""

    NONE = 0
    VERGE = 1
    PAVEMENT = 2
    KERB = 3
    ROAD = 4
    JUNCTION = 5
    EDGE = 6
    DASH = 7
    CENTRE = 8
    STOP = 9
    BODY = 10
    CABIN = 11
    WHEEL = 12
    FRONT_LAMP = 13
    REAR_LAMP = 14
    BRAKE_LAMP = 15
    PERSON = 16
    BUILDING = 17
    TREE = 18
    POLE = 19
    SIGNAL_HOUSING = 20
    SIGNAL_RED = 21
    SIGNAL_YELLOW = 22
    SIGNAL_GREEN = 23
    STOP_LAMP = 24  # dark unless braking
    DISPLAY = 25
