"""The one exception family of the project: every message is one line that says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class XPengWorldError(Exception):
    """Base class of every error a user can cause; the command line prints it as one line and exits with status 2."""


class ConfigError(XPengWorldError):
    """A wrong key, value, rule, suite or policy name."""


class DataError(XPengWorldError):
    """A clip, shard, tub or recording that cannot be read as it is."""


class CheckpointError(XPengWorldError):
    """Weights or a training state that are missing, damaged or of another version."""


class TrainingError(XPengWorldError):
    """A training that cannot go on; what it had saved before is kept."""


class SimulatorError(XPengWorldError):
    """The traffic engine or the renderer failed or was used in a way it cannot serve."""


class ActionError(XPengWorldError):
    """An action of the wrong shape, not finite, or outside [-1, 1]."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an error message: the known name closest to a wrong one, then all of them."""
    known = [str(k) for k in known]
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    return (f"did you mean '{close[0]}'? " if close else "") + f"known: {', '.join(known)}"
