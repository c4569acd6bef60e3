"""`ChatLiteLLM` and `ChatLiteLLMRouter` for programs that come from langchain-litellm: one import changes.

Rule 1: only names and spellings are here. What a call is, and what it counts, is `ChatCounterfoil`'s.
Rule 2: `usage_metadata` can be read as a dict, as LangChain has it, and by attributes, as programs of that library do.
"""
# ruff: noqa: ANN401 - LangChain's signatures

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import Field, model_validator

from counterfoil.compat.litellm_names import deployment_of, place_of
from counterfoil.langchain import ChatCounterfoil
from counterfoil.sdk.errors import invalid

__all__ = ["ChatLiteLLM", "ChatLiteLLMRouter", "ReadableUsage"]

_REFUSED: Final[Mapping[str, str]] = {
    "base_model": "prices go by the model's own name; write others in a price file (counterfoil prices)",
    "client": "calls go through Counterfoil's own client",
    "use_responses_api": "this version speaks to chat completions only",
}
"""Fields of the other class that mean nothing here, and why. Unset or false they are taken."""

Message = TypeVar("Message", bound=BaseMessage)


class ReadableUsage(dict[str, Any]):
    """A `usage_metadata` that answers `usage["input_tokens"]` and `usage.input_tokens` alike."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _readable(message: Message) -> Message:
    """The same message, its usage readable by attributes."""
    if isinstance(message, AIMessage) and message.usage_metadata is not None:
        message.usage_metadata = cast("UsageMetadata", ReadableUsage(message.usage_metadata))
    return message


class ChatLiteLLM(ChatCounterfoil):
    """`ChatCounterfoil` under the names of langchain-litellm.

    Models are spelled as LiteLLM spells them (`azure/...`, `together_ai/...`, ...); a field for each provider's key
    (`openai_api_key`, ...) whose secret goes to that provider and to no other. An `api_base` beside `openai/m` or
    `gpt-...` is an address of that provider's language, as there; one beside any other name is a gateway's.
    """

    max_retries: int | None = 1
    api_version: str | None = None
    """Azure's dated API version."""
    num_ctx: int | None = None
    """Ollama's context size; sent where it is set."""

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, given: Any) -> Any:
        """What has no meaning here is said, not swallowed."""
        if not isinstance(given, Mapping):
            return given
        for name, reason in _REFUSED.items():
            if given.get(name):
                raise ValueError(f"`{name}` is not available: {reason}")
        # That class gives `model` a default and takes `model_name` beside it, where the latter counts.
        kept = {name: value for name, value in given.items() if name not in _REFUSED and value is not None}
        if "model_name" in kept:
            kept.pop("model", None)
        return kept

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where `langchain_core.load` finds the class."""
        return ["counterfoil", "compat", "langchain_litellm"]

    def completion_with_retry(self, run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any) -> Any:
        """One call of the SDK with this model's fields, and `kwargs` (`messages` and others) over them.

        A reply, or a stream where `stream` is true. Retries are the core's own (`max_retries`), each with its entry.
        """
        return self._clients.client(self._books()).chat.completions.create(**self._spoken(kwargs))

    async def acompletion_with_retry(
        self, run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any
    ) -> Any:
        """The same, awaited."""
        client = self._clients.async_client(self._books())
        return await client.chat.completions.create(**self._spoken(kwargs))

    def invoke(self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:  # noqa: A002 - LangChain's name
        """As ever; the usage can be read by attributes."""
        return _readable(super().invoke(input, config, **kwargs))

    async def ainvoke(
        self,
        input: LanguageModelInput,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As ever; the usage can be read by attributes."""
        return _readable(await super().ainvoke(input, config, **kwargs))

    def bind_tools(
        self, tools: Sequence[Any], tool_choice: dict[str, Any] | str | bool | None = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """As ever; `tool_choice` may stand in second place."""
        return super().bind_tools(tools, tool_choice=tool_choice, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _all_readable(super()._generate(messages, stop, run_manager, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _all_readable(await super()._agenerate(messages, stop, run_manager, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in super()._stream(messages, stop, run_manager, **kwargs):
            _readable(chunk.message)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(messages, stop, run_manager, **kwargs):
            _readable(chunk.message)
            yield chunk

    @property
    def _default_params(self) -> dict[str, Any]:
        params = super()._default_params
        return params if self.num_ctx is None else {"num_ctx": self.num_ctx, **params}

    def _asked(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, kwargs: Mapping[str, Any], *, streamed: bool
    ) -> dict[str, Any]:
        return self._placed(super()._asked(messages, stop, kwargs, streamed=streamed))

    def _spoken(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call whose messages are in the chat dialect already."""
        streamed = bool(kwargs.get("stream", self.streaming))
        return {**self._asked([], None, kwargs, streamed=streamed), "messages": kwargs["messages"]}

    def _placed(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The call, sent where LiteLLM would send it."""
        place = place_of(asked["model"], asked.get("custom_llm_provider"), dated=self.api_version is not None)
        if self.api_version is not None:
            asked["extra_query"] = {"api-version": self.api_version}
        if place.provider is not None and (place.renamed or not {"base_url", "custom_llm_provider"}.isdisjoint(asked)):
            asked |= {"model": place.model, "custom_llm_provider": place.provider}
        return asked

    def _secret(self, model: str) -> str | None:
        """The field of the model's own provider before the general one."""
        for name in place_of(model, self.custom_llm_provider).spellings:
            secret = getattr(self, f"{name}_api_key", None) or self.api_keys.get(name)
            if secret is not None:
                return str(secret.get_secret_value())
        return None if self.api_key is None else self.api_key.get_secret_value()


class ChatLiteLLMRouter(ChatLiteLLM):
    """`ChatLiteLLM` whose models are those of a router's `model_list`.

    `router`: anything with `model_list`, such as a `litellm.Router`. It is read anew at each call and never called: the
    deployments of one name are tried in their order, each attempt with its entry.
    """

    router: Any = Field(exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _first(cls, given: Any) -> Any:
        """The first model of the list, where none is named."""
        if isinstance(given, Mapping) and not (given.get("model") or given.get("model_name")):
            listed = getattr(given.get("router"), "model_list", None)
            if listed:
                return {**given, "model": listed[0]["model_name"]}
        return given

    @property
    def _llm_type(self) -> str:
        return "counterfoil-chat-router"

    def set_default_model(self, model_name: str) -> None:
        """Ask this model from now on. Raises ValueError when the router has none of that name."""
        if not self._entries(model_name):
            raise ValueError(f"the router has no model {model_name!r}")
        self.model = model_name

    def _entries(self, name: str) -> list[Mapping[str, Any]]:
        return [entry for entry in self.router.model_list or () if entry["model_name"] == name]

    def _placed(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked["model"]
        entries = self._entries(name)
        if not entries:
            raise invalid(f"the router has no model {name!r}", "model", model=name)
        first, *others = (deployment_of(entry, os.environ) for entry in entries)
        return {**asked, **first, "fallbacks": [*others, *asked.get("fallbacks", ())]}


def _all_readable(result: ChatResult) -> ChatResult:
    for generation in result.generations:
        _readable(generation.message)
    return result
