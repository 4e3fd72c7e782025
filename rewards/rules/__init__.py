"""The built-in rules, one a file; importing this package registers them."""

from .at_fault_collision import at_fault_collision
from .comfort import comfort
from .drivable_area import drivable_area
from .driving_direction import driving_direction
from .lane_keeping import lane_keeping
from .off_route import off_route
from .on_road import on_road
from .progress import progress
from .red_light import red_light
from .relative_progress import relative_progress
from .required_braking import required_braking
from .speed_limit import speed_limit
from .time_to_collision import time_to_collision

__all__ = [
    "at_fault_collision",
    "comfort",
    "drivable_area",
    "driving_direction",
    "lane_keeping",
    "off_route",
    "on_road",
    "progress",
    "red_light",
    "relative_progress",
    "required_braking",
    "speed_limit",
    "time_to_collision",
]
