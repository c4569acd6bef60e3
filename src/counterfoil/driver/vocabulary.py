"""Tokens of text by the model's own vocabulary, where `splintr-rs` (the extra `tokenizers`) brings it.

Rule 1: which model has which vocabulary is data, and each row has its reason. A model nobody wrote down has none: a
wrong vocabulary is no better than no vocabulary.
Rule 2: nothing is downloaded. The vocabularies are inside the installed package.
Rule 3: bounded, and with pauses. The library holds the interpreter's lock while it counts, so text is counted in
pieces; and it remembers words it has met, so it is made to forget them after each text.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, Protocol

__all__ = ["PIECE", "VOCABULARIES", "Vocabularies", "available", "vocabulary_of"]

# A pattern is matched against the model's name in small letters, behind the last slash; the first that matches decides.
# None: known, and not among those that are bundled.
VOCABULARIES: Final[tuple[tuple[str, str | None], ...]] = (
    # OpenAI: as its own library tiktoken maps names to encodings (tiktoken/model.py).
    ("*gpt-oss*", "gpt-oss"),
    ("*gpt-4o*", "o200k_base"),
    ("*gpt-4.1*", "o200k_base"),
    ("*gpt-4.5*", "o200k_base"),
    ("*gpt-5*", "o200k_base"),
    ("o1*", "o200k_base"),
    ("o3*", "o200k_base"),
    ("o4-*", "o200k_base"),
    ("openai.o[134]*", "o200k_base"),
    ("*gpt-4*", "cl100k_base"),
    ("*gpt-3.5*", "cl100k_base"),
    ("*gpt-35*", "cl100k_base"),
    ("davinci-002", "cl100k_base"),
    ("babbage-002", "cl100k_base"),
    ("text-embedding-3-*", "cl100k_base"),
    ("text-embedding-ada-002", "cl100k_base"),
    # Others, as their makers' model cards say which tokenizer they ship. Distilled models have their base's.
    ("*deepseek-r1-distill-llama*", "llama3"),
    ("*deepseek-r1-distill-qwen*", "qwen3"),
    ("*deepseek-v3*", "deepseek_v3"),
    ("*deepseek-r1*", "deepseek_v3"),
    ("deepseek-chat*", "deepseek_v3"),
    ("deepseek-reasoner*", "deepseek_v3"),
    ("*codellama*", "codellama"),
    ("*code-llama*", "codellama"),
    ("*tinyllama*", "llama2"),
    ("*llama-4*", None),
    ("*llama4*", None),
    ("*llama-3*", "llama3"),
    ("*llama3*", "llama3"),
    ("*llama-v3*", "llama3"),
    ("*llama-2*", "llama2"),
    ("*llama2*", "llama2"),
    ("*qwen3.[5-9]*", None),
    ("*qwen3-[5-9]*", None),
    ("*qwen3*", "qwen3"),
    ("*qwen-3*", "qwen3"),
    ("*qwen2*", "qwen3"),
    ("*qwen-2*", "qwen3"),
    ("*qwq*", "qwen3"),
    ("*glm-4*", "glm4"),
    ("*glm4*", "glm4"),
    ("*kimi-k3*", "kimi_k3"),
    ("*kimi-k2*", "kimi_k2"),
    ("*phi-4-mini*", None),
    ("*phi-4-multimodal*", None),
    ("*phi-4*", "phi4"),
    ("*olmo-2*", "olmo2"),
    ("*mixtral-8x22b*", "mistral_v2"),
    ("*mixtral-8x7b*", "mistral_v1"),
    ("*mistral-7b*v0.3*", "mistral_v2"),
    ("*mistral-7b*", "mistral_v1"),
    ("*mistral-nemo*", "mistral_v3"),
    ("*mistral-small*", "mistral_v3"),
    ("*mistral-medium*", "mistral_v3"),
    ("*mistral-large*", "mistral_v3"),
    ("*magistral*", "mistral_v3"),
    ("*ministral*", "mistral_v3"),
    ("*pixtral*", "mistral_v3"),
    ("*voxtral*", "mistral_v3"),
    ("*devstral*", "mistral_v3"),
)
"""Model name patterns and their vocabularies, by the names `splintr` has for these."""

PIECE: Final = 1 << 13
"""Characters that are counted at a time: some milliseconds of the interpreter's lock at the slowest."""

_KEPT: Final = 4
"""Vocabularies that stay loaded: about 25 MB of memory each."""
_CUT: Final = re.compile(r"(?=[ \n]\S)")
_LIBRARY: Final = "splintr"


def available() -> bool:
    """Whether the library is installed. It is not imported."""
    return importlib.util.find_spec(_LIBRARY) is not None


@lru_cache(maxsize=1024)
def vocabulary_of(model: str) -> str | None:
    """The vocabulary of a model by the name its provider has for it; None when nobody wrote it down."""
    name = model.lower().rpartition("/")[2]
    return next((vocabulary for pattern, vocabulary in VOCABULARIES if fnmatchcase(name, pattern)), None)


class _Tokenizer(Protocol):
    """What is used of a tokenizer of the library's."""

    def encode_ordinary(self, text: str) -> Sequence[int]: ...

    def clear_cache(self) -> None: ...


class Vocabularies:
    """Counts text by vocabularies, loaded when they are first asked for. Threads may share it; one counts at a time."""

    def __init__(self, pause: Callable[[], None] = lambda: None) -> None:
        """`pause` is called between two pieces of one text."""
        self._pause = pause
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, _Tokenizer] = OrderedDict()

    def estimator(self, vocabulary: str) -> str:
        """What counted, for a correction."""
        return f"{_LIBRARY} {importlib.import_module(_LIBRARY).__version__}, {vocabulary}"

    def count(self, vocabulary: str, text: str) -> int:
        """Tokens of `text`. Raises ImportError without the library, ValueError for a vocabulary it lacks."""
        if not text:
            return 0
        with self._lock:
            tokenizer = self._tokenizer(vocabulary)
            try:
                tokens = 0
                for number, piece in enumerate(_pieces(text)):
                    if number:
                        self._pause()
                    # Special tokens that are spelled out in a text are text.
                    tokens += len(tokenizer.encode_ordinary(piece))
                return tokens
            finally:
                _forget(tokenizer)

    def _tokenizer(self, vocabulary: str) -> _Tokenizer:
        found = self._loaded.get(vocabulary)
        if found is None:
            made: _Tokenizer = importlib.import_module(_LIBRARY).Tokenizer.from_pretrained(vocabulary)
            found = self._loaded[vocabulary] = made
            if len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(vocabulary)
        return found


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces, cut before a word where there is one: no vocabulary has tokens across that place."""
    start = 0
    while len(text) - start > PIECE:
        cut = _CUT.search(text, start + PIECE, start + 2 * PIECE)
        end = start + 2 * PIECE if cut is None else cut.start()
        yield _encodable(text[start:end])
        start = end
    yield _encodable(text[start:])


def _encodable(text: str) -> str:
    """Half of a surrogate pair, which JSON can say and UTF-8 cannot, as the mark that stands for it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _forget(tokenizer: _Tokenizer) -> None:
    """Empty its memory of words: it would hold pieces of what people wrote."""
    with contextlib.suppress(ValueError):  # one without such a memory says so
        tokenizer.clear_cache()
