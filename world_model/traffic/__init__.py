"""How the other road users move."""

from .idm import IdmTraffic
from .interface import SLOTS, NoTraffic, Traffic, make_traffic

__all__ = ["SLOTS", "IdmTraffic", "NoTraffic", "Traffic", "make_traffic"]
