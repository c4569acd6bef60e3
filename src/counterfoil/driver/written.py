"""What a person wrote in a YAML file, read against a type, with a place for everything that is wrong.

Rule 1: nothing is guessed. An unknown key, a wrong type, a number out of range or a name without a value is a problem
that says where it stands and, for a name, which valid one is nearest. All of them are found, not only the first.
Rule 2: `${NAME}` stands for an environment variable, `${NAME:-default}` for one that may be missing or empty, `$${` for
a plain `${`. What came from the environment is never shown.
Rule 3: everything is bounded: size, depth, aliases, values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

import msgspec
import msgspec.inspect as shape
import yaml

from counterfoil.driver.key_homes import homes_of

__all__ = ["SIZE_LIMIT", "Mark", "Problem", "Unreadable", "Writing", "close_names", "nearest"]

SIZE_LIMIT: Final = 1 << 20
"""Bytes of a file."""
_DEPTH: Final = 32
_ALIASES: Final = 64
_VALUES: Final = 50_000
"""Values read in all; a shared one counts each time, so aliases cannot multiply without end."""
_PROBLEMS: Final = 100
_FEW: Final = 8  # keys of a mapping that are named where it should have stood

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPER: Final[Mapping[type[yaml.Event], int]] = {
    yaml.MappingStartEvent: 1,
    yaml.SequenceStartEvent: 1,
    yaml.MappingEndEvent: -1,
    yaml.SequenceEndEvent: -1,
}
_REFERENCE: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\}|\$\{")
_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,18}")
_DECIMAL: Final = re.compile(r"[-+]?[0-9]{1,18}(\.[0-9]{0,18})?([eE][-+]?[0-9]{1,2})?")
_WITH_UNIT: Final = re.compile(r"[0-9][0-9._]*\s*[A-Za-z]{1,8}")
_TRUE: Final = frozenset({"true", "yes", "on"})
_FALSE: Final = frozenset({"false", "no", "off"})
_WORDS: Final = {"bool": "a yes or no", "int": "a number", "float": "a number", "null": "nothing"}
_KEY: Final = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}")
"""A word that is surely a mistaken key, and no secret that slipped into its place."""
_UNKNOWN: Final = "no such key"
_SURELY: Final = 0.8  # so like a known key that it is that one misspelt, and no other one in the wrong place
_QUOTED: Final = re.compile(r"'[^']{4,}'|\"[^\"]{4,}\"")
_TAG: Final = "tag:yaml.org,2002:"
_PLAIN: Final = frozenset({"str", "int", "float", "bool", "null", "timestamp", "value", "merge"})
"""Kinds of scalars that YAML tells apart by their look; any other kind was asked for with a tag."""


class Mark(msgspec.Struct, frozen=True):
    """A place in a file, both from 1."""

    line: int
    column: int


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, and where. Safe to show."""

    file: str
    message: str
    key: str = ""
    """The dotted path, such as `models.my-model[0].api_key`."""
    mark: Mark | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.mark.line}:{self.mark.column}" if self.mark else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class Unreadable(Exception):
    """The file cannot be read as values at all."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _Wrong(Exception):
    """A value that cannot be had; its problem is noted."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them when they are few."""
    names = list(known)
    close = close_names(name, names)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(names)}" if 0 < len(names) <= 24 else ""


def _is_tab(text: str, mark: Mark) -> bool:
    """Whether a tab stands at `mark`: the parser says of most only that no token begins so."""
    lines = text.splitlines()
    return mark.line <= len(lines) and lines[mark.line - 1][mark.column - 1 : mark.column] == "\t"


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """The known names that may be meant, likeliest first: `azure` is the beginning of `azure-openai` before it is a
    misspelt `azure-ai`."""
    names = list(known)
    longer = [one for one in names if name and one.startswith(f"{name}-")]
    return list(dict.fromkeys([*longer, *get_close_matches(name, names, n=3)]))


class Writing:
    """One file being read. `read` first; then `mark` and `note` place what is found wrong later."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.references: dict[str, str] = {}
        """By dotted path: the variable that is a value's whole text and gave it its value."""
        self._environ = environ
        self._marks: dict[str, Mark] = {}
        self._homes: Mapping[str, tuple[str, ...]] = {}
        self._read = 0

    def read(self, text: str, type_: type) -> object:
        """`text` as builtins that fit `type_`; what is wrong is in `problems` and missing. Raises Unreadable."""
        node = self._compose(text)
        if node is None:
            return {}
        self._homes = homes_of(kind := shape.type_info(type_))
        try:
            return self._value(node, kind, "")
        except _Wrong:
            return {}

    def note(self, key: str, message: str) -> None:
        """Add a problem at a dotted path that was read, or at the nearest one around it."""
        at = key
        while at and at not in self._marks:
            at = at[: max(at.rfind("."), at.rfind("["), 0)]
        self._note(self._marks.get(at), key, message)

    def instead(self, key: str, message: str) -> None:
        """Say this instead of what was noted at a dotted path, and of unknown keys of the mapping that stands there."""
        self.problems = [
            one
            for one in self.problems
            if one.key != key and not (one.key.rpartition(".")[0] == key and one.message.startswith(_UNKNOWN))
        ]
        self.note(key, message)

    @property
    def marks(self) -> Mapping[str, Mark]:
        """Where each dotted path that was read stands."""
        return self._marks

    def _note(self, mark: Mark | None, key: str, message: str) -> None:
        if len(self.problems) < _PROBLEMS:
            self.problems.append(Problem(self.file, message, key, mark))

    def _compose(self, text: str) -> yaml.Node | None:
        depth = aliases = 0
        try:
            for event in yaml.parse(text, Loader=_Loader):
                depth += _DEEPER.get(type(event), 0)
                aliases += isinstance(event, yaml.AliasEvent)
                if depth > _DEPTH or aliases > _ALIASES:
                    limit = f"nested deeper than {_DEPTH}" if depth > _DEPTH else f"more than {_ALIASES} aliases"
                    raise Unreadable(Problem(self.file, limit, "", _mark(event.start_mark)))
            return yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            # Only the problem's own words: the rest quotes the file, which may hold a secret, and so may a long word.
            said = _QUOTED.sub("it", error.problem or "not YAML")
            mark = _mark(error.problem_mark) if error.problem_mark else None
            if mark is not None and ("tab character" in said or _is_tab(text, mark)):
                said = "there is a tab here, where it allows spaces only"
            raise Unreadable(Problem(self.file, f"this is not YAML: {said}", "", mark)) from None
        except yaml.YAMLError:
            raise Unreadable(Problem(self.file, "this is not YAML: it has a character YAML does not allow")) from None

    def _value(self, node: yaml.Node, kind: shape.Type, key: str) -> object:
        self._read += 1
        if self._read > _VALUES:
            raise Unreadable(Problem(self.file, "its aliases stand for too much", "", _mark(node.start_mark)))
        self._marks.setdefault(key, _mark(node.start_mark))
        match kind:
            case shape.Metadata(type=inner):
                return self._value(node, inner, key)
            case shape.UnionType():
                return self._union(node, kind, key)
            case shape.StructType():
                return self._struct(node, kind, key)
            case shape.DictType():
                return self._dict(node, kind, key)
            case shape.VarTupleType():
                return self._list(node, kind, key)
            case shape.StrType():
                return self._string(node, key)
            case shape.LiteralType():
                return self._choice(node, kind, key)
            case shape.BoolType():
                return self._bool(node, key)
            case shape.IntType() | shape.FloatType():
                return self._number(node, kind, key)
        raise TypeError(f"{key}: nobody can write a {type(kind).__name__}")  # our mistake; the first test finds it

    def _union(self, node: yaml.Node, kind: shape.UnionType, key: str) -> object:
        """The alternative that the node's form chooses: a list, a mapping, nothing, or one value."""
        kinds = [one.type if isinstance(one, shape.Metadata) else one for one in kind.types]
        if _is_null(node) and any(isinstance(one, shape.NoneType) for one in kinds):
            return None
        forms = {_FORMS.get(type(one), yaml.ScalarNode): one for one in kinds if not isinstance(one, shape.NoneType)}
        if type(node) in forms and not (isinstance(node, yaml.ScalarNode) and shape.FloatType in map(type, kinds)):
            return self._value(node, forms[type(node)], key)
        if isinstance(node, yaml.ScalarNode) and shape.FloatType in map(type, kinds):
            return self._text(node, key)  # a number or its text: the text, so that it never becomes a float
        only = next(iter(forms.values()))
        if len(forms) == 1 and isinstance(only, shape.StructType):
            return self._struct(node, only, key)
        raise self._wrong(node, key, f"{_wanted(forms.values())} is expected, not {_form(node)}")

    def _struct(self, node: yaml.Node, kind: shape.StructType, key: str) -> dict[str, object]:
        fields = {field.encode_name: field for field in kind.fields}
        if not isinstance(node, yaml.MappingNode):
            named = f" of {', '.join(fields)}" if len(fields) <= _FEW else ""
            raise self._wrong(node, key, f"a mapping{named} is expected, not {_form(node)}")
        found: dict[str, object] = {}
        for name, inside, key_node, value in self._pairs(node, key):
            if name not in fields:
                shown = inside if _KEY.fullmatch(name) else key
                self._note(_mark(key_node.start_mark), shown, self._no_such_key(name, fields))
                continue
            try:
                found[name] = self._value(value, fields[name].type, inside)
            except _Wrong:
                found[name] = None
        for name, field in fields.items():
            if field.required and name not in found:
                self._note(_mark(node.start_mark), key, f"`{name}` is missing")
        return found

    def _no_such_key(self, name: str, fields: Iterable[str]) -> str:
        """What is wrong with a key: it is misspelt, it stands in the wrong place, or nobody knows it."""
        homes = self._homes.get(name, ())
        if not homes or get_close_matches(name, list(fields), n=1, cutoff=_SURELY):
            return f"{_UNKNOWN}{nearest(name, fields)}"
        return f"{_UNKNOWN} here; it is one of {' and of '.join(home or 'the top of the file' for home in homes)}"

    def _dict(self, node: yaml.Node, kind: shape.DictType, key: str) -> dict[str, object]:
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, key, f"a mapping is expected, not {_form(node)}")
        found: dict[str, object] = {}
        for name, inside, _, value in self._pairs(node, key):
            try:
                found[name] = self._value(value, kind.value_type, inside)
            except _Wrong:
                continue
        return found

    def _list(self, node: yaml.Node, kind: shape.VarTupleType, key: str) -> list[object]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, key, f"a list is expected, not {_form(node)}")
        least, most = kind.min_length or 0, kind.max_length
        if len(node.value) < least or (most is not None and len(node.value) > most):
            limit = f"at least {least}" if len(node.value) < least else f"at most {most}"
            raise self._wrong(node, key, f"{limit} entries are needed, not {len(node.value)}")
        found: list[object] = []
        for place, value in enumerate(node.value):
            try:
                found.append(self._value(value, kind.item_type, f"{key}[{place}]"))
            except _Wrong:
                found.append(None)
        return found

    def _string(self, node: yaml.Node, key: str) -> str:
        tag = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.ScalarNode) and tag in _WORDS:
            hint = "" if tag == "null" else "; put it in quotes"
            raise self._wrong(node, key, f"a text is expected, not {_WORDS[tag]}{hint}")
        return self._text(node, key)

    def _choice(self, node: yaml.Node, kind: shape.LiteralType, key: str) -> str:
        text, choices = self._text(node, key), [str(value) for value in kind.values]
        if text not in choices:
            shown = repr(node.value) if key not in self.references and len(node.value) <= 40 else "this"
            near = nearest(text, choices) if close_names(text, choices) else ""
            raise self._wrong(node, key, f"{shown} is not one of {', '.join(choices)}{near}")
        return text

    def _bool(self, node: yaml.Node, key: str) -> bool:
        text = self._text(node, key).lower()
        if text not in _TRUE | _FALSE:
            raise self._wrong(node, key, "true or false is expected")
        return text in _TRUE

    def _number(self, node: yaml.Node, kind: shape.IntType | shape.FloatType, key: str) -> int | float:
        whole = isinstance(kind, shape.IntType)
        text = self._text(node, key)
        if not (_WHOLE if whole else _DECIMAL).fullmatch(text):
            unit = "; times are in seconds and sizes in bytes, without a unit" if _WITH_UNIT.fullmatch(text) else ""
            raise self._wrong(node, key, f"a {'whole ' if whole else ''}number is expected{unit}")
        number = int(text) if whole else float(text)
        bounds = (
            (kind.ge, "at least", kind.ge is None or number >= kind.ge),
            (kind.gt, "more than", kind.gt is None or number > kind.gt),
            (kind.le, "at most", kind.le is None or number <= kind.le),
            (kind.lt, "less than", kind.lt is None or number < kind.lt),
        )
        broken = [f"{word} {bound:g}" for bound, word, kept in bounds if not kept and bound is not None]
        if broken:
            raise self._wrong(node, key, f"out of range: {' and '.join(broken)} is allowed")
        return number

    def _text(self, node: yaml.Node, key: str) -> str:
        """A scalar's text with its references filled in."""
        if not isinstance(node, yaml.ScalarNode):
            raise self._wrong(node, key, f"one value is expected, not {_form(node)}")
        if node.tag.removeprefix(_TAG) not in _PLAIN:
            raise self._wrong(node, key, "tags are not read")
        missing: list[str] = []

        def fill(match: re.Match[str]) -> str:
            name, default = match.group(1), match.group(2)
            if name is None:
                if match.group() == "$${":
                    return "${"
                missing.append("`${` begins no reference; write ${NAME}, ${NAME:-default}, or $${ for the text itself")
                return ""
            value = self._environ.get(name)
            if value is None or (not value and default is not None):
                if default is None:
                    missing.append(f"the environment variable {name} is not set{_close_name(name, self._environ)}")
                return default or ""
            if match.group() == node.value:
                self.references[key] = name
            return value

        text = _REFERENCE.sub(fill, node.value)
        for message in missing:
            self._note(_mark(node.start_mark), key, message)
        if missing:
            raise _Wrong
        return text

    def _pairs(self, node: yaml.MappingNode, key: str) -> Iterator[tuple[str, str, yaml.Node, yaml.Node]]:
        """Name, dotted path, key node and value node of each pair; a name that is there twice is a problem."""
        seen: dict[str, Mark] = {}
        for key_node, value in node.value:
            mark = _mark(key_node.start_mark)
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(mark, key, "a key is one word")
                continue
            name = str(key_node.value)
            inside = f"{key}.{name}" if key else name
            if name in seen:
                shown = inside if _KEY.fullmatch(name) else key
                self._note(mark, shown, f"this key is there twice; the first is on line {seen[name].line}")
                continue
            seen[name] = mark
            self._marks.setdefault(inside, mark)
            yield name, inside, key_node, value

    def _wrong(self, node: yaml.Node, key: str, message: str) -> _Wrong:
        self._note(_mark(node.start_mark), key, message)
        return _Wrong()


def _close_name(name: str, environ: Mapping[str, str]) -> str:
    close = get_close_matches(name, list(environ)[:4096], n=1, cutoff=0.8)
    return f"; {close[0]} is" if close else ""


def _mark(mark: Any) -> Mark:  # noqa: ANN401 - each of PyYAML's parsers has its own class of marks
    return Mark(mark.line + 1, mark.column + 1)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and bool(node.tag == f"{_TAG}null")


def _form(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    return "nothing" if _is_null(node) else "a single value"


def _wanted(kinds: Iterable[shape.Type]) -> str:
    names = {yaml.SequenceNode: "a list", yaml.MappingNode: "a mapping", yaml.ScalarNode: "a single value"}
    return " or ".join(dict.fromkeys(names[_FORMS.get(type(kind), yaml.ScalarNode)] for kind in kinds))


_FORMS: Final[Mapping[type[shape.Type], type[yaml.Node]]] = {
    shape.VarTupleType: yaml.SequenceNode,
    shape.StructType: yaml.MappingNode,
    shape.DictType: yaml.MappingNode,
}
