"""Where a request that crosses into a dialect says what it cannot carry.

Rule 1: nothing is dropped silently (DESIGN 4.4.3). What cannot be carried is a 400 that names the parameter and the way
out, or, where the operator chose `drop`, is left out and named.
Rule 2: what asks nothing of the reply is never a reason to refuse one: it is left out and named (docs/crossing.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from counterfoil.core.error import RequestError

__all__ = ["ASKS_NOTHING", "Desk", "asks_nothing", "cannot_be_carried"]

ASKS_NOTHING: Final = frozenset(
    {
        "anthropic_beta",  # a provider of another dialect knows none of them
        "anthropic_version",
        "cache_control",  # a cached prompt is a cheaper one, and says the same
        "labels",  # on the bill
        "metadata",
        "prediction",  # makes a reply faster, never another one
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "speed",
        "thinking.display",  # how reasoning is shown
        "tools.defer_loading",  # the tool is shown to the model at once instead
        "tools.eager_input_streaming",
    }
)
"""Fields, by their names in the client's dialect, that no reply is another for: who asks, what is cached, what it costs
and how it is shown."""
_TAGS: Final = "metadata."


def asks_nothing(name: str) -> bool:
    """Whether a field asks nothing of the reply."""
    return name in ASKS_NOTHING or name.startswith(_TAGS)


def cannot_be_carried(names: Sequence[str], why: str) -> RequestError:
    """The refusal of a request for what its crossing would lose; `names` in the order found, at least one."""
    them = "it" if len(names) == 1 else "them"
    return RequestError(
        f"{', '.join(names)} cannot be carried to this model: {why}. Leave {them} out, or have {them} left out and "
        "named: `drop: true` beside the model in the gateway's configuration, or drop=True in a program's call.",
        param=names[0],
        code="cannot_be_carried",
    )


_NO_OTHER_NAMES: Final[Mapping[str, str]] = MappingProxyType({})


class Desk:
    """One request's record of what was left out."""

    def __init__(self, drop: bool) -> None:
        self._drop = drop
        self._dropped: list[str] = []

    @property
    def dropped(self) -> tuple[str, ...]:
        """The names of what was left out, each once, in order."""
        return tuple(dict.fromkeys(self._dropped))

    def cannot(self, param: str, why: str) -> None:
        """`param` cannot be carried. Returns only where dropping is allowed, or nothing is lost by it."""
        if not (self._drop or asks_nothing(param)):
            raise cannot_be_carried((param,), why)
        self.name(param)

    def refuse(self, param: str, why: str) -> RequestError:
        """`param` is wrong for this provider, and leaving it out would change what is asked: never dropped."""
        return RequestError(f"{param}: {why}", param=param)

    def name(self, param: str) -> None:
        """`param` asks nothing of the reply and is left out; the client can still read that it was."""
        self._dropped.append(param)

    def leave_out(
        self, body: dict[str, Any], refused: Collection[str], called: Mapping[str, str] = _NO_OTHER_NAMES
    ) -> None:
        """What of a written body the provider or the model refuses goes; "generationConfig.seed" is a member of a
        member. `called`: how the client calls it, where that is another name."""
        for name in sorted(refused):
            outer, _, inner = name.partition(".")
            held = body.get(outer)
            if inner and isinstance(held, dict) and inner in held:
                kept = {key: value for key, value in held.items() if key != inner}
            elif not inner and outer in body:
                kept = {}
            else:
                continue
            self.cannot(called.get(name, name), "the provider refuses it for this model")
            if kept:
                body[outer] = kept
            else:
                del body[outer]
