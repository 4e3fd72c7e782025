"""The one exception family of the project: every message is one line that says what was wrong, where, and what to do."""


class XPengWorldError(Exception):
    """Base class of every error a user can cause; the command line prints it as one line and exits with status 2."""


class ConfigError(XPengWorldError):
    """A wrong key, value, rule, suite or policy name."""


class DataError(XPengWorldError):
    """A clip, shard, tub or recording that cannot be read as it is."""


class CheckpointError(XPengWorldError):
    """Weights or a training state that are missing, damaged or of another version."""


class SimulatorError(XPengWorldError):
    """The traffic engine or the renderer failed or was used in a way it cannot serve."""


class ActionError(XPengWorldError):
    """An action of the wrong shape, not finite, or outside [-1, 1]."""
