"""`ChatCounterfoil`: LangChain's chat model on the SDK.

Rule 1: what a message says of usage is what the ledger's entry says: the model itself counts nothing.
Rule 2: sync and async are the same words; all that differs is who waits. Reading a reply is `convert.ChunkReader`.
Rule 3: a client belongs to a configuration and a ledger. Everything else goes with each call, so that any field may
change between two calls.
"""

# ruff: noqa: ANN401 - LangChain's signatures
from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import PrivateAttr

from counterfoil.core.estimate import Tally
from counterfoil.langchain.blocks import PROVIDER
from counterfoil.langchain.clients import Books, Clients
from counterfoil.langchain.convert import ChunkReader, _convert_message_to_dict, create_chat_result
from counterfoil.langchain.fields import ChatFields
from counterfoil.langchain.history import without_reasoning
from counterfoil.langchain.tools import METHODS, Method, Schema, Tool, format_of, parsed, structured_parser, tool_params
from counterfoil.langchain.usage import add_token_usage

__all__ = ["ChatCounterfoil"]

_OTHER_NAMES: Final[Mapping[str, str]] = {"api_base": "base_url", "model_name": "model", "request_timeout": "timeout"}
"""Names of ours in a call, and the SDK's."""
_OF_STREAMS: Final = frozenset({"stream", "stream_options", "stream_usage"})
_ORGANIZATION: Final = "OpenAI-Organization"


class ChatCounterfoil(ChatFields):
    """A chat model of any provider, with exact usage on every path.

    `ChatCounterfoil(model="provider/model")`; see `ChatFields` for what else it can be told. `usage_metadata` is on
    the message of a whole reply and on the last chunk of a stream; `response_metadata["counterfoil"]` names the
    ledger's attempt, its cost and who vouches for the numbers. Errors are those of the SDK (`counterfoil.Error`).
    """

    _clients: Clients = PrivateAttr(default_factory=Clients)

    if TYPE_CHECKING:

        def __init__(self, **fields: Any) -> None:
            """Every field by each of its names, and any parameter of the provider's."""

    @property
    def _llm_type(self) -> str:
        return "counterfoil-chat"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        provider, name = self._provider(kwargs.get("model") or self.model)
        params["ls_provider"] = provider or "counterfoil"
        params["ls_model_name"] = name
        stops = stop or kwargs.get("stop") or self.stop
        if stops:
            params["ls_stop"] = [stops] if isinstance(stops, str) else stops
        return params

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        params = {**super()._get_invocation_params(stop=stop), **self._default_params, **kwargs}
        if stop is not None:
            params["stop"] = stop
        return params

    # ---- calling

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        reply = self._clients.client(self._books()).chat.completions.create(
            **self._asked(messages, stop, kwargs, streamed=False)
        )
        return create_chat_result(reply, entry=reply.entry, cost=reply.cost)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        asked = self._asked(messages, stop, kwargs, streamed=False)
        reply = await self._clients.async_client(self._books()).chat.completions.create(**asked)
        return create_chat_result(reply, entry=reply.entry, cost=reply.cost)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        asked = self._asked(messages, stop, kwargs, streamed=True)
        reader = ChunkReader()
        with self._clients.client(self._books()).chat.completions.create(**asked) as stream:
            for said in stream:
                chunk = reader.read(said)
                if chunk is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
        for chunk in reader.close(stream.usage, stream.entry, stream.cost, tell_usage=_tells_usage(asked)):
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        asked = self._asked(messages, stop, kwargs, streamed=True)
        reader = ChunkReader()
        async with await self._clients.async_client(self._books()).chat.completions.create(**asked) as stream:
            async for said in stream:
                chunk = reader.read(said)
                if chunk is not None:
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk
        for chunk in reader.close(stream.usage, stream.entry, stream.cost, tell_usage=_tells_usage(asked)):
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _should_stream(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        """Not for several answers where the caller wants them all: a stream has one message."""
        if run_manager is not None and self._answers(kwargs) > 1:
            return False
        return super()._should_stream(async_api=async_api, run_manager=run_manager, **kwargs)

    def _should_use_protocol_streaming(self, *, async_api: bool, run_manager: Any = None, **kwargs: Any) -> bool:
        if run_manager is not None and self._answers(kwargs) > 1:
            return False
        return super()._should_use_protocol_streaming(async_api=async_api, run_manager=run_manager, **kwargs)

    def _answers(self, kwargs: Mapping[str, Any]) -> int:
        asked = kwargs.get("n", self.model_kwargs.get("n", self.n))
        return asked if isinstance(asked, int) else 1

    def _asked(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any], *, streamed: bool
    ) -> dict[str, Any]:
        """The arguments of one call of the SDK: the model's fields, and over them what the call says."""
        said = {**self._default_params, **{_OTHER_NAMES.get(name, name): value for name, value in kwargs.items()}}
        params = {name: value for name, value in said.items() if name not in _OF_STREAMS}
        params["stream"] = streamed
        if streamed:
            own = kwargs.get("stream_options", self.model_kwargs.get("stream_options"))
            params["stream_options"] = self._options_of_stream(kwargs.get("stream_usage"), own)
        if stop is not None:
            params["stop"] = stop
        model = str(params["model"])
        params["messages"] = [self._sent(message, model) for message in messages]
        return {**self._way(model), **params}

    def _sent(self, message: BaseMessage, model: str) -> dict[str, Any]:
        """A message as `model` is to read it. Reasoning goes back to the provider it came from: another one has no use
        for its proof, and some refuse a field they do not know."""
        sent = _convert_message_to_dict(message)
        said = message.response_metadata
        author = said.get("model_name")
        if said.get("model_provider") != PROVIDER or not isinstance(author, str) or author == model:
            return sent
        theirs, ours = self._provider(author)[0], self._provider(model)[0]
        return sent if theirs is not None and theirs == ours else without_reasoning(sent)

    def _way(self, model: str) -> dict[str, Any]:
        """Where and how a call goes."""
        headers = dict(self.extra_headers or {})
        if self.organization is not None:
            headers.setdefault(_ORGANIZATION, self.organization)
        way = {
            "api_key": self._secret(model),
            "base_url": self.api_base,
            "custom_llm_provider": self.custom_llm_provider,
            "region": self.region,
            "project": self.project,
            "timeout": self.request_timeout,
            "max_retries": self.max_retries,
            "fallbacks": self.fallbacks,
            "extra_headers": headers or None,
            "extra_body": self.extra_body,
        }
        return {name: value for name, value in way.items() if value is not None}

    def _books(self) -> Books:
        """What a client belongs to."""
        return self.config, self.ledger

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        combined: dict[str, Any] = {"model_name": self.model, "token_usage": {}}
        for output in llm_outputs:
            combined["token_usage"] = add_token_usage(combined["token_usage"], (output or {}).get("token_usage") or {})
        return combined

    # ---- asking for a form

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | Tool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools it may call: pydantic classes, TypedDicts, functions, LangChain tools, or schemas.

        `tool_choice`: "auto", "none", "any" (also "required" and True: some tool must be called), a tool's name, or the
        dialect's own object. Raises ValueError for a choice that is neither a word nor a bound tool.
        """
        params = tool_params(tools, tool_choice, strict)
        if parallel_tool_calls is not None:
            params["parallel_tool_calls"] = parallel_tool_calls
        return self.bind(**params, **kwargs)

    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        include_raw: bool = False,
        method: Method = "function_calling",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model with its answer read into `schema`: a pydantic object for a pydantic class, else a dict.

        `method`: "function_calling" (a tool that must be called: most providers have it), "json_schema" (the provider
        holds the answer to the schema), "json_mode" (any JSON; the prompt says which). A refusal raises
        OutputParserException. With `include_raw` a dict of `raw`, `parsed` and `parsing_error`.
        """
        if method not in METHODS:
            raise ValueError(f"`method` is one of {METHODS}, not {method!r}")
        parser = structured_parser(schema, method)
        told = {"kwargs": {"method": method, "strict": strict}, "schema": schema}
        asked: Runnable[LanguageModelInput, AIMessage]
        if method == "json_mode":
            told["kwargs"] = {"method": method}
            asked = self.bind(response_format={"type": "json_object"}, ls_structured_output_format=told, **kwargs)
        elif schema is None:
            raise ValueError(f"`schema` is needed for method={method!r}")
        elif method == "json_schema":
            asked = self.bind(response_format=format_of(schema, strict), ls_structured_output_format=told, **kwargs)
        else:
            asked = self.bind_tools(
                [schema],
                tool_choice="any",
                strict=strict,
                **{"parallel_tool_calls": False, "ls_structured_output_format": told, **kwargs},
            )
        return parsed(asked, parser, include_raw=include_raw)

    def get_num_tokens(self, text: str) -> int:
        """An estimate, by script and without a vocabulary: in prose about 12 % from what a provider counts. For the
        exact number of a call, see its `usage_metadata`."""
        tally = Tally()
        tally.add(text)
        return tally.tokens


def _tells_usage(asked: Mapping[str, Any]) -> bool:
    return asked["stream_options"].get("include_usage") is not False
