"""Plans for replies of the embeddings dialect, and the scripts that play them.

Rule 1. Pure, as the playbook; every vector is invented.
"""

import base64
import struct
from dataclasses import dataclass

from counterfoil.testing.playbook import Request, Script, Send, compact_json

__all__ = ["EmbeddingsReply", "embeddings_player"]

_NUMBERS_OF_EACH = 3
_TOKENS_OF_EACH = 4


@dataclass(frozen=True, slots=True)
class EmbeddingsReply:
    """One reply: its vectors, in the order of the inputs, and what it says it used (None: it says nothing)."""

    vectors: tuple[tuple[float, ...], ...] = ((0.5, -1.25, 0.125),)
    input: int | None = _TOKENS_OF_EACH
    model: str = "play-vectors-1"
    base64: bool = False

    def script(self) -> Script:
        """The reply as one body."""
        data = [
            {"object": "embedding", "index": place, "embedding": self._written(vector)}
            for place, vector in enumerate(self.vectors)
        ]
        body: dict[str, object] = {"object": "list", "data": data, "model": self.model}
        if self.input is not None:
            body["usage"] = {"prompt_tokens": self.input, "total_tokens": self.input}
        return Script(
            steps=(Send(compact_json(body)),),
            headers=(("content-type", "application/json"),),
            framing="length",
            name="embeddings",
        )

    def _written(self, vector: tuple[float, ...]) -> object:
        if not self.base64:
            return list(vector)
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def embeddings_player(request: Request) -> Script:
    """A vector for each input, written as the request asks, four tokens each."""
    asked = request.json.get("input")
    count = len(asked) if isinstance(asked, list) and not (asked and isinstance(asked[0], int)) else 1
    vectors = tuple(
        tuple((place + 1) / 2**number for number in range(1, _NUMBERS_OF_EACH + 1)) for place in range(count)
    )
    coded = request.json.get("encoding_format") == "base64"
    return EmbeddingsReply(vectors, _TOKENS_OF_EACH * count, base64=coded).script()
