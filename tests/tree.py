"""The source tree as data: its modules, what they import and how long they are."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

__all__ = ["REPOSITORY", "SOURCE", "Module", "modules", "text_files"]

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src"


class Module(msgspec.Struct, frozen=True):
    """One module of ours, parsed and not run."""

    name: str
    path: Path
    source: str
    tree: ast.Module

    @property
    def room(self) -> str:
        """The package (or the single module) below `counterfoil` that it lives in; empty for the root."""
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def place(self) -> str:
        """The path below the repository, with forward slashes."""
        return self.path.relative_to(REPOSITORY).as_posix()

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every module it imports, wherever the import stands, with its line. Relative imports are resolved."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    package = self.name.split(".")
                    package = package[: len(package) - node.level + (self.path.name == "__init__.py")]
                    base = ".".join([*package, *([node.module] if node.module else [])])
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    # A name out of one of our modules is that module; of a foreign one it may be a module itself.
                    yield (base if base in _names() and inner not in _names() else inner), node.lineno


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(_name(path) for path in SOURCE.rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module below `src`."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        found.append(Module(_name(path), path, source, ast.parse(source)))
    return tuple(found)


@functools.cache
def text_files() -> tuple[tuple[str, str], ...]:
    """Path and text of every file that is, or would be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    names = [name for name in listed.stdout.decode().split("\0") if name]
    if listed.returncode != 0:  # an unpacked archive, not a checkout
        names = [path.relative_to(REPOSITORY).as_posix() for path in SOURCE.rglob("*") if path.is_file()]
    found = []
    for name in names:
        path = REPOSITORY / name
        if not path.is_file():
            continue
        try:
            found.append((name, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue  # not text
    return tuple(found)
