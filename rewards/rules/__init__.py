"""The built-in rules, one a file; importing this package registers them."""

from .at_fault_collision import at_fault_collision
from .blocking import blocking
from .comfort import comfort
from .completion import completion
from .drivable_area import drivable_area
from .driving_direction import driving_direction
from .energy import energy
from .headway import headway
from .jerk import jerk
from .kerb_distance import kerb_distance
from .lane_change_gap import lane_change_gap
from .lane_change_notice import lane_change_notice
from .lane_keeping import lane_keeping
from .min_speed import min_speed
from .needless_lane_change import needless_lane_change
from .off_route import off_route
from .on_road import on_road
from .overtaking_side import overtaking_side
from .progress import progress
from .red_light import red_light
from .relative_progress import relative_progress
from .required_braking import required_braking
from .ride_comfort import ride_comfort
from .route_adherence import route_adherence
from .safe_distance import safe_distance
from .shoulder import shoulder
from .side_distance import side_distance
from .speed_for_conditions import speed_for_conditions
from .speed_limit import speed_limit
from .steering_reversals import steering_reversals
from .stop_sign import stop_sign
from .time_to_collision import time_to_collision
from .wrong_way import wrong_way
from .yield_to_priority import yield_to_priority
from .yield_to_walkers import yield_to_walkers

__all__ = [
    "at_fault_collision",
    "blocking",
    "comfort",
    "completion",
    "drivable_area",
    "driving_direction",
    "energy",
    "headway",
    "jerk",
    "kerb_distance",
    "lane_change_gap",
    "lane_change_notice",
    "lane_keeping",
    "min_speed",
    "needless_lane_change",
    "off_route",
    "on_road",
    "overtaking_side",
    "progress",
    "red_light",
    "relative_progress",
    "required_braking",
    "ride_comfort",
    "route_adherence",
    "safe_distance",
    "shoulder",
    "side_distance",
    "speed_for_conditions",
    "speed_limit",
    "steering_reversals",
    "stop_sign",
    "time_to_collision",
    "wrong_way",
    "yield_to_priority",
    "yield_to_walkers",
]
