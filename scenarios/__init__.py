"""Scenario families by name: scripted road users that put the ego to a test, the same in every world."""

from .catalogue import FAMILIES, Incident, read_incident
from .clearing import in_the_way
from .place import Misfit, place
from .script import IDENTITY, Script, advance, put_on_road

__all__ = ["FAMILIES", "IDENTITY", "Incident", "Misfit", "Script", "advance", "in_the_way", "place", "put_on_road", "read_incident"]
