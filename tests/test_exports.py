"""`__all__` is the public surface: it names what is there, in order, and nothing twice."""

from __future__ import annotations

import importlib
from typing import Final

import pytest

import counterfoil
from tests.tree import modules

__all__: list[str] = []

_EXTRAS: Final = frozenset(
    {"aiohttp", "httptools", "uvicorn", "uvloop", "xllamacpp", "langchain_core", "openai", "psycopg"}
)
"""What only an extra brings: a module that needs one of these may be missing it."""

_MODULES: Final = [module.name for module in modules() if not module.name.endswith("__main__")]


@pytest.mark.parametrize("name", _MODULES)
def test_what_a_module_offers_is_there_in_order_and_once(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name is not None and missing.name.split(".")[0] in _EXTRAS:
            pytest.skip(f"{missing.name} is not installed")
        raise
    offered = getattr(module, "__all__", [])
    assert [entry for entry in offered if not hasattr(module, entry)] == []
    assert list(offered) == sorted(set(offered), key=_order)


def _order(name: str) -> tuple[int, str]:
    """Constants, then classes, then the rest, each by name: what ruff's RUF022 calls sorted."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, name


def test_the_package_offers_what_it_says() -> None:
    assert "__version__" in counterfoil.__all__
    for name in counterfoil.__all__:
        assert getattr(counterfoil, name) is not None
