"""Where Google's methods are: the model and the method are the path, and streaming is another method.

A provider's base URL ends in the API's version (`/v1beta`), or in Vertex's publisher (`.../publishers/google`).
"""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["method_path", "model_name"]


def model_name(model: str) -> str:
    """`models/M`; a name that says its own collection (`tunedModels/M`, `models/M`) keeps it."""
    return model if "/" in model else f"models/{model}"


def method_path(model: str, method: str) -> str:
    """`/models/M:method`. Nothing in a model's name leads out of it."""
    steps = [
        quote(step, safe="@.-_~") if step.strip(".") else quote(step).replace(".", "%2E")
        for step in model_name(model).split("/")
    ]
    return f"/{'/'.join(steps)}:{method}"
