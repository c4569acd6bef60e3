"""What is wrong with a client's body that does not decode, in the client's own names.

Rule: types and places are told, never values. msgspec, whose words these are, names a value only where a closed list
of words was expected; whoever has such a list says what is in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from counterfoil.core.error import RequestError

__all__ = ["missing", "refused"]

_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_KEY: Final = re.compile(r"(?:required|unknown) field `(?P<key>[^`]+)`")
_NO_LISTS: Final[Mapping[str, str]] = MappingProxyType({})


def refused(error: Exception, lists: Mapping[str, str] = _NO_LISTS) -> RequestError:
    """`error` is what decoding raised, one of UNREADABLE; `lists` has the words that a member of this name may be."""
    if isinstance(error, RecursionError):
        return RequestError("The body is nested too deep. Send a flatter one.", code="too_deep")
    if not isinstance(error, msgspec.ValidationError):
        return RequestError("The body is not valid JSON.", code="invalid_json")
    found = _PLACE.match(str(error))
    what = found["what"] if found else str(error)
    path = (found["path"] or "$") if found else "$"
    param = path.removeprefix("$").removeprefix(".")
    if key := _KEY.search(what):
        return missing(f"{param}.{key['key']}" if param else key["key"])
    words = lists.get(param.rpartition(".")[2])
    what = what[:1].lower() + what[1:] if words is None else f"expected one of {words}"
    return RequestError(f"`{param or 'body'}`: {what}.", param=param or None, code="invalid_type")


def missing(param: str) -> RequestError:
    """A member that has to be there is not."""
    return RequestError(f"`{param}` is missing.", param=param, code="missing_required_parameter")
