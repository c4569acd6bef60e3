"""What every Ollama request has besides its content: the options of the model, and the fields around them.

Rule 1: a field is put where this API has it under the name by which the client knows it, so that what a server refuses
is told by that name.
Rule 2: the options this API has and no other are taken from the client's own fields, word for word.

https://docs.ollama.com/modelfile#valid-parameters-and-values
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks
from counterfoil.dialects.schema import UNREADABLE, Fields, fields_of

__all__ = ["Body", "only_text"]

_OPTIONS: Final = frozenset(
    {
        "num_ctx",
        "num_keep",
        "num_batch",
        "num_gpu",
        "num_thread",
        "main_gpu",
        "use_mmap",
        "min_p",
        "typical_p",
        "tfs_z",
        "top_k",
        "repeat_last_n",
        "repeat_penalty",
        "penalize_newline",
        "mirostat",
        "mirostat_eta",
        "mirostat_tau",
        "draft_num_predict",
    }
)
"""Options by name, for a client that says them as fields of its own request."""
_AROUND: Final = frozenset({"keep_alive", "truncate", "shift"})
"""Fields of every request that belong to the server, not to the model."""
_ASKS_NOTHING: Final = frozenset({"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"})
"""Fields of chat clients that cannot change the reply: left out, and named."""
_NEUTRAL: Final[Mapping[str, tuple[bytes, ...]]] = {
    "store": (b"false",),
    "logit_bias": (b"{}",),
    "modalities": (b'["text"]',),
    "functions": (b"[]",),
    "verbosity": (b'"medium"',),
}
"""Values that ask for what happens anyway: left out without a word."""


class Body:
    """A request body being written, for one model."""

    def __init__(self, model: str, quirks: Quirks, desk: Desk) -> None:
        self.fields: dict[str, Any] = {"model": model}
        self.options: dict[str, Any] = {}
        self._quirks = quirks
        self._desk = desk

    def put(self, name: str, value: object, *, at: str | None = None) -> None:
        """A field that the client calls `name` and this API `at`. None: the client did not say."""
        if self._wanted(name, value):
            self.fields[at or name] = value

    def option(self, name: str, value: object, *, at: str | None = None) -> None:
        """The same for an option of the model."""
        if self._wanted(name, value):
            self.options[at or name] = value

    def unless(self, name: str, value: object, neutral: Iterable[object], why: str) -> None:
        """A field this API lacks: nothing to say of a value that asks for what happens anyway."""
        if value not in tuple(neutral):
            self._desk.cannot(name, why)

    def rest(self, rest: Mapping[str, msgspec.Raw], own: frozenset[str] = frozenset()) -> None:
        """The fields that have no canonical word. `own`: those that this request takes."""
        for name, raw in rest.items():
            if name in own or name in _AROUND:
                self.put(name, raw)
            elif name in _OPTIONS:
                self.option(name, raw)
            elif name == "options" and (options := _members(raw)) is not None:
                self.options = {**options, **self.options}
            elif name in _ASKS_NOTHING:
                self._desk.name(name)
            elif bytes(raw) not in _NEUTRAL.get(name, ()):
                self._desk.cannot(name, "Ollama has no such parameter")

    def written(self, stream: bool | None = None) -> dict[str, Any]:
        """All of it. `stream` is always said: Ollama streams unless it is told not to."""
        body = dict(self.fields)
        if stream is not None:
            body["stream"] = stream
        if self.options:
            body["options"] = self.options
        return body

    def _wanted(self, name: str, value: object) -> bool:
        if value is None:
            return False
        if name in self._quirks.unsupported:
            self._desk.cannot(name, "this server refuses it")
            return False
        return True


def only_text(pieces: Iterable[str]) -> str:
    """Texts that stand one after the other, as one."""
    return "\n".join(pieces)


def _members(raw: msgspec.Raw) -> Fields | None:
    try:
        return fields_of(raw)
    except UNREADABLE:
        return None
