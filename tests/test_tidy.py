"""The rules of the house that a machine can hold: who may import whom, what pure code may touch, how long is long."""

from __future__ import annotations

import ast
import graphlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from tests.tree import SOURCE, Module, modules, text_files

__all__: list[str] = []

_LEVELS: Final = (
    ("usage", "framing"),
    ("core", "ledger"),
    ("dialects",),
    ("providers", "config"),
    ("exchange",),
    # ---- pure up to here
    ("transport", "stores"),
    ("driver", "local"),
    ("sdk", "server"),
    ("langchain", "compat", "cli"),
)
_LEVEL: Final = {room: level for level, rooms in enumerate(_LEVELS) for room in rooms}
_PURE: Final = frozenset(room for rooms in _LEVELS[:5] for room in rooms)

_BESIDE: Final[Mapping[str, frozenset[str]]] = {
    "compat": frozenset({"langchain"}),  # another library's chat model is ours under its names
    "config": frozenset({"providers"}),  # a configuration names rows of the table
    "ledger": frozenset({"core"}),  # its errors have the one base
}
"""Rooms of one level that may look at each other all the same, each with its reason."""

# fmt: off
_IMPURE: Final = frozenset({
    "aiohttp", "asyncio", "concurrent", "fcntl", "glob", "http", "httptools", "importlib.resources", "io",
    "logging", "mmap", "multiprocessing", "os", "pathlib", "pkgutil", "platformdirs", "queue", "random",
    "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "sys", "tempfile", "threading", "time", "urllib.error", "urllib.request", "uuid", "uvicorn",
    "uvloop", "warnings", "xllamacpp", "yaml",
})
# fmt: on
"""What reaches outside, is asked for the time, or differs from run to run."""

_SAME_WORD: Final[Mapping[tuple[str, str], str]] = {
    ("counterfoil.cli.command", "local"): "the name of a command",
    ("counterfoil.providers.provider", "google"): "a style of auth: Google's credentials",
    ("counterfoil.providers.facts", "google"): "a style of auth: Google's credentials",
}
"""Where a provider's name is another thing's name as well."""

_LONGEST_FUNCTION: Final = 60
_LONGEST_FILE: Final = 400
_LONG_FUNCTIONS: Final[Mapping[str, str]] = {}
"""`path:function` -> why it is longer."""
_LONG_FILES: Final[Mapping[str, str]] = {}
"""`path` -> why it is longer."""

_LAWFUL: Final = ("usage", "ledger", "exchange")
"""Packages that have a law."""


def _report(problems: Iterator[str]) -> None:
    found = sorted(problems)
    assert not found, "\n" + "\n".join(found)


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {module.room for module in modules()} - {"", "__main__", "testing"}
    assert rooms <= _LEVEL.keys(), f"rooms nobody gave a level: {sorted(rooms - _LEVEL.keys())}"


def test_imports_point_one_way() -> None:
    _report(_wrong_way())


def _wrong_way() -> Iterator[str]:
    for module in modules():
        for imported, line in module.imports():
            if not imported.startswith("counterfoil.") or module.room in ("", "__main__"):
                continue
            target = imported.split(".")[1]
            if target != module.room and not _may_import(module.room, target):
                yield f"{module.place}:{line}: {module.room} imports {target}"


def _may_import(room: str, target: str) -> bool:
    if target == "__version__" or target in _BESIDE.get(room, ()):
        return True
    if room == "testing":
        return _LEVEL.get(target, 99) < _LEVEL["driver"]
    if target == "testing":
        return room == "cli"  # `counterfoil demo --break` plays a provider that breaks
    return _LEVEL.get(target, 99) < _LEVEL[room]


def test_no_module_imports_itself_by_a_detour() -> None:
    known = {module.name for module in modules()}
    graph = {module.name: {name for name, _ in module.imports() if name in known} for module in modules()}
    graphlib.TopologicalSorter(graph).prepare()  # names the cycle


def test_pure_packages_do_no_io_and_know_no_clock_no_chance_and_no_log() -> None:
    _report(problem for module in modules() if module.room in _PURE for problem in _impurities(module))


def _impurities(module: Module) -> Iterator[str]:
    for imported, line in module.imports():
        parts = imported.split(".")
        if any(".".join(parts[:length]) in _IMPURE for length in range(1, len(parts) + 1)):
            yield f"{module.place}:{line}: imports {imported}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("open", "input", "print", "breakpoint", "__import__") or re.search(
                r"\b(datetime|date)\.(now|today|utcnow)$", called
            ):
                yield f"{module.place}:{node.lineno}: calls {called}"


def test_nothing_compares_the_name_of_a_provider() -> None:
    table = SOURCE / "counterfoil" / "providers" / "providers.toml"
    if not table.is_file():
        pytest.skip("there is no table of providers yet")
    names = frozenset(tomllib.loads(table.read_text(encoding="utf-8")))
    assert names
    _report(
        f"{module.place}:{node.lineno}: compares {name!r}"
        for module in modules()
        if module.room != "testing"  # it plays providers: its words name their recorded shapes
        for node, name in _compared(module.tree)
        if name in names and (module.name, name) not in _SAME_WORD
    )


_COMPARING: Final = frozenset({"startswith", "endswith", "removeprefix", "removesuffix", "find", "get"})


def _compared(tree: ast.AST) -> Iterator[tuple[ast.Constant, str]]:
    """Every text that something is compared with: operators, `match`, prefixes, and tables by name."""
    for node in ast.walk(tree):
        operands: list[ast.expr | None] = []
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            operands = [node.value]
        elif isinstance(node, ast.Dict):
            operands = list(node.keys)
        elif isinstance(node, ast.Subscript):
            operands = [node.slice]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _COMPARING:
            operands = list(node.args)
        for operand in operands:
            for inner in _elements(operand):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    yield inner, inner.value


def _elements(operand: ast.expr | None) -> list[ast.expr]:
    if isinstance(operand, ast.Tuple | ast.List | ast.Set):
        return operand.elts
    if isinstance(operand, ast.Call):  # frozenset({...})
        return [inner for argument in operand.args for inner in _elements(argument)]
    return [] if operand is None else [operand]


def test_nothing_prints_outside_the_command_line() -> None:
    _report(
        f"{module.place}:{node.lineno}: prints"
        for module in modules()
        if module.room != "cli"
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "pprint", "pprint.pprint")
    )


def test_every_module_says_what_it_is_for_and_what_it_offers() -> None:
    _report(_unsaid())


def _unsaid() -> Iterator[str]:
    for module in modules():
        if not ast.get_docstring(module.tree):
            yield f"{module.place}: no docstring"
        bare = module.path.name == "__init__.py" and len(module.tree.body) <= 1
        offers = any(
            isinstance(target, ast.Name) and target.id == "__all__"
            for node in module.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        )
        if not offers and not bare:
            yield f"{module.place}: no __all__"


def test_functions_fit_a_screen() -> None:
    long = dict(_long_functions())
    _report(f"{name}: {lines} lines" for name, lines in long.items() if name not in _LONG_FUNCTIONS)
    assert _LONG_FUNCTIONS.keys() <= long.keys(), "listed as long, and no longer is"


def _long_functions() -> Iterator[tuple[str, int]]:
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > _LONGEST_FUNCTION:
                    yield f"{module.place}:{node.name}", lines


def test_files_fit_a_sitting() -> None:
    long = {module.place: module.source.count("\n") for module in modules()}
    long = {place: lines for place, lines in long.items() if lines > _LONGEST_FILE}
    _report(f"{place}: {lines} lines" for place, lines in long.items() if place not in _LONG_FILES)
    assert _LONG_FILES.keys() <= long.keys(), "listed as long, and no longer is"


@pytest.mark.parametrize("package", _LAWFUL)
def test_a_package_that_has_a_law_states_it(package: str) -> None:
    readme = SOURCE / "counterfoil" / package / "README.md"
    assert readme.is_file(), f"{package}/README.md is missing"
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= 60, "a law fits a screen"


# Written in two halves, so that this file does not find itself.
_MACHINE_PATHS: Final = tuple(
    f"/{first}{rest}/" for first, rest in (("ro", "ot"), ("wo", "rk"), ("ho", "me"), ("Us", "ers"))
)
_REGISTRIES: Final = tuple(
    f"{first}.{rest}"
    for first, rest in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry.npmjs", "org"),
        ("crates", "io"),
        ("proxy.golang", "org"),
        ("conda", "anaconda.org"),
    )
)
_UNFINISHED: Final = re.compile(r"\b(TO" + "DO|FIX" + "ME|XX" + r"X)\b")


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    _report(_lines_with(re.compile(r"(?<![\w.:/}-])(" + "|".join(map(re.escape, _MACHINE_PATHS)) + ")")))


def test_no_file_names_the_host_of_a_package_registry() -> None:
    _report(_lines_with(re.compile("|".join(map(re.escape, _REGISTRIES)))))


def test_nothing_is_left_for_later() -> None:
    _report(_lines_with(_UNFINISHED))


def _lines_with(pattern: re.Pattern[str]) -> Iterator[str]:
    for name, text in text_files():
        if pattern.search(text):
            for number, line in enumerate(text.splitlines(), 1):
                if match := pattern.search(line):
                    yield f"{name}:{number}: {match.group()}"


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "from time import monotonic",
        "import urllib.request",
        "from importlib import resources",
        "from importlib.resources import files",
        "def late(): import random",
        "x = open('file')",
        "from datetime import datetime; x = datetime.now()",
    ],
)
def test_the_rule_of_purity_finds_what_it_looks_for(line: str) -> None:
    assert list(_impurities(_planted(line)))


@pytest.mark.parametrize(
    "line",
    [
        "x == 'somebody'",
        "x in ('else', 'somebody')",
        "x in frozenset({'somebody'})",
        "x.startswith('somebody')",
        "{'somebody': 1}[x]",
        "match x:\n case 'somebody': pass",
    ],
)
def test_the_rule_of_names_finds_what_it_looks_for(line: str) -> None:
    assert "somebody" in [name for _, name in _compared(ast.parse(line))]


def test_the_rule_of_direction_finds_what_it_looks_for() -> None:
    assert not _may_import("usage", "core")
    assert not _may_import("exchange", "transport")
    assert not _may_import("transport", "stores")
    assert not _may_import("server", "testing")
    assert _may_import("exchange", "usage")


def _planted(source: str) -> Module:
    return Module(
        "counterfoil.usage.planted", SOURCE / "counterfoil" / "usage" / "planted.py", source, ast.parse(source)
    )
