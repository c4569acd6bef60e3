"""A canonical text to go on with as a body of `/api/generate`.

Rule: the model's own template is applied, as Ollama does for clients of its OpenAI face; `raw: true` of the client
turns it off.

https://docs.ollama.com/api/generate
"""

from __future__ import annotations

from typing import Final

from counterfoil.core.operation import CompleteRequest
from counterfoil.dialects.desk import Desk
from counterfoil.dialects.dialect import Quirks, WrittenRequest
from counterfoil.dialects.ollama.options import Body
from counterfoil.dialects.schema import encode

__all__ = ["write_generate"]

_OWN: Final = frozenset({"system", "template", "context", "raw", "think", "format", "images"})
"""Fields that the endpoint takes and no canonical word says."""
_ONE: Final = "this model goes on with one text at a time"


def write_generate(request: CompleteRequest, model: str, quirks: Quirks, drop: bool) -> WrittenRequest:
    """The body, and what it leaves out. Raises RequestError."""
    desk = Desk(drop)
    body = Body(model, quirks, desk)
    if len(request.prompts) != 1 or not isinstance(request.prompts[0], str):
        why = _ONE if len(request.prompts) != 1 else "this model takes text, not tokens"
        raise desk.refuse("prompt", f"{why}; send each text in a request of its own")
    if request.n != 1:
        raise desk.refuse("n", "this model gives one choice only; ask n times")
    body.put("prompt", request.prompts[0])
    body.put("suffix", request.suffix or None)
    if request.logprobs is not None:
        body.put("logprobs", True)
        body.put("logprobs", request.logprobs, at="top_logprobs")
    bound = quirks.default_max_tokens if request.max_output_tokens is None else request.max_output_tokens
    body.option("max_tokens", bound, at="num_predict")
    for name in ("temperature", "top_p", "seed", "presence_penalty", "frequency_penalty"):
        body.option(name, getattr(request, name))
    body.option("stop", list(request.stop) or None)
    body.unless("echo", request.echo, (None, False), "this model does not repeat its prompt")
    body.unless("best_of", request.best_of, (None, 1), "this model gives one choice only")
    if request.user is not None:
        desk.name("user")
    body.rest(request.rest, _OWN)
    return WrittenRequest(encode(body.written(request.stream)), desk.dropped)
