"""Errors a user can cause. Each message says what was got, what was expected, and what to do."""


class VivavozError(Exception):
    """Base of every error the public interface raises on purpose; the command line prints it and exits 2."""


class ConfigError(VivavozError):
    """A preset, option or configuration value that cannot be used."""


class WeightsError(VivavozError):
    """Weights that are missing, truncated, of another format version, or of another preset."""


class AudioError(VivavozError):
    """Sound that cannot be read or used."""


class ImageError(VivavozError):
    """A picture that cannot be read or used as a portrait."""


class CapacityError(VivavozError):
    """More at once than there is room for; it may fit once somebody else has left."""


class OutputError(VivavozError):
    """A result that cannot be written where it was asked for."""


class DataError(VivavozError):
    """A corpus, shard or training input that cannot be used."""


class TrainingError(VivavozError):
    """A training that cannot go on."""


class ServeError(VivavozError):
    """A request that a server cannot fulfil."""


class ProtocolError(ServeError):
    """An event of a session that is not as the protocol says."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFoundError(ServeError):
    """An avatar or session that is not, or no longer, there."""


class RateLimitError(ServeError):
    """Too many requests in too short a time."""


class SpeechError(ServeError):
    """A text that cannot be spoken."""
