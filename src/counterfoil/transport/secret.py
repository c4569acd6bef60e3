"""Secrets: values that only the transport reads, and that nothing shows.

Rule 1: a secret is never in a representation, a format, a pickle, a comparison by `==`, or an error.
Rule 2: everything else holds a secret's name. Names are safe to show.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from typing import Final, NoReturn

__all__ = ["HIDDEN", "SHORTEST", "Secret", "SecretStore", "same_secret"]

HIDDEN: Final = "[secret]"
"""What stands wherever a secret would be shown."""
SHORTEST: Final = 8
"""A gateway key of fewer characters can be guessed."""


class Secret:
    """One secret. `reveal()` is the only way to its value."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The value itself. Call it where it is sent or compared, nowhere else."""
        return self.__value

    def matches(self, offered: str | bytes) -> bool:
        """Whether `offered` is this secret. Takes the same time however much of it is right."""
        return same_secret(self.__value, offered)

    @property
    def short(self) -> bool:
        """Whether it is too short to be a key."""
        return len(self.__value) < SHORTEST

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return HIDDEN

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")

    def __eq__(self, other: object) -> bool:
        """Identity: two secrets are compared with `matches`."""
        return self is other

    def __hash__(self) -> int:
        return id(self)


class SecretStore:
    """Secrets by name. Frozen: `merged` gives another."""

    __slots__ = ("__secrets",)

    def __init__(self, secrets: Mapping[str, Secret] | None = None) -> None:
        self.__secrets = dict(secrets or {})

    def reveal(self, name: str) -> str | None:
        """The value of the secret called `name`, or None when there is none."""
        secret = self.__secrets.get(name)
        return None if secret is None else secret.reveal()

    def get(self, name: str) -> Secret | None:
        """The secret called `name`, unrevealed."""
        return self.__secrets.get(name)

    def merged(self, more: Mapping[str, Secret] | SecretStore) -> SecretStore:
        """This store and `more`, which wins where both have a name."""
        other = more.__secrets if isinstance(more, SecretStore) else dict(more)  # noqa: SLF001 - another of this class
        return SecretStore({**self.__secrets, **other})

    def __contains__(self, name: object) -> bool:
        return name in self.__secrets

    def __iter__(self) -> Iterator[str]:
        """Names."""
        return iter(self.__secrets)

    def __len__(self) -> int:
        return len(self.__secrets)

    def __repr__(self) -> str:
        return f"SecretStore({sorted(self.__secrets)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store of secrets is not pickled or copied")


def same_secret(known: str | bytes, offered: str | bytes) -> bool:
    """Compare in constant time. Text counts as UTF-8; what is no text at all is simply another secret."""
    return hmac.compare_digest(_bytes(known), _bytes(offered))


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
