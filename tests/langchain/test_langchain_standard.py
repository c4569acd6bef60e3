"""Promise: ChatCounterfoil passes LangChain's own tests for chat models, with every feature it claims.

The provider behind it is played (tests/langchain/player.py) and refuses what a provider of the chat dialect would
refuse. The embedded model takes the text part of the same tests: it is a real model, and too small for tools.
Skipped are the tests of features that are not claimed, and the one that replays recordings of a network.
"""

from __future__ import annotations

import base64
import functools
import inspect
import json
import operator
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final, Literal

import httpx
import pytest
from langchain_core._api.beta_decorator import suppress_langchain_beta_warning
from langchain_core.language_models import BaseChatModel
from langchain_core.load import load
from langchain_core.messages import AIMessage, HumanMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from langchain_tests.unit_tests import chat_models as unit_chat_models

from counterfoil.langchain import ChatCounterfoil
from counterfoil.local import MODEL_NAME, installed
from counterfoil.testing import Counts, Playback, chat_reply, running
from tests.langchain.player import obey

__all__: list[str] = []

_PICTURE: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""One grey pixel: what stands for every picture, document and sound that the standard tests would download."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard tests download their attachments; here they get a pixel, and no test leaves the machine."""
    monkeypatch.setattr(httpx, "get", lambda *_, **__: SimpleNamespace(content=_PICTURE))
    monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "counterfoil tests")


@pytest.fixture(scope="module")
def obliging_provider() -> Iterator[Playback]:
    with running(Playback(obey)) as provider:
        yield provider


class Saved:
    """What a model that is saved has to look like: what it was told, and its secret by name alone."""

    def __call__(self, name: str) -> Saved:
        return self

    def __eq__(self, saved: object) -> bool:
        assert isinstance(saved, dict)
        assert "sk-none" not in json.dumps(saved)
        assert saved["id"] == ["counterfoil", "langchain", "ChatCounterfoil"]
        kept = saved["kwargs"]
        assert kept["api_key"] == {"lc": 1, "type": "secret", "id": ["COUNTERFOIL_API_KEY"]}
        assert (kept["model"], kept["temperature"], kept["max_tokens"]) == ("openai/gpt-4o", 0, 100)
        return True

    __hash__ = object.__hash__


class TestUnit(ChatModelUnitTests):
    """What can be known of the model without a call."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatCounterfoil

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "openai/gpt-4o", "api_key": "sk-none"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"COUNTERFOIL_API_KEY": "sk-none"}, {"model": "openai/gpt-4o"}, {}

    @pytest.fixture
    def snapshot(self, monkeypatch: pytest.MonkeyPatch) -> Saved:
        # "all" is LangChain's own list of partners: everybody else is loaded by naming the class. 1.0 had no such list.
        named: dict[str, Any] = {"valid_namespaces": ["counterfoil"]}
        if "allowed_objects" in inspect.signature(load).parameters:
            named |= {"allowed_objects": [ChatCounterfoil], "secrets_from_env": True}

        def allowing(saved: object, **_: object) -> object:
            with suppress_langchain_beta_warning():
                return load(saved, **named)

        monkeypatch.setattr(unit_chat_models, "load", allowing)
        return Saved()


Detail = Literal["audio_input", "audio_output", "reasoning_output", "cache_read_input", "cache_creation_input"]
_DETAILS: Final[list[Detail]] = [
    "audio_input",
    "audio_output",
    "reasoning_output",
    "cache_read_input",
    "cache_creation_input",
]


class TestPlayed(ChatModelIntegrationTests):
    """Every feature, at a provider that obliges."""

    provider: Playback

    @pytest.fixture(autouse=True)
    def all_asked_rightly(self, obliging_provider: Playback) -> Iterator[None]:
        """The player refuses a wrong request; no test may hide that."""
        self.provider = obliging_provider
        before = len(obliging_provider.served)
        yield
        refused = [served.script.body for served in obliging_provider.served[before:] if served.script.status != 200]
        assert refused == []

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatCounterfoil

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": "play-1", "base_url": self.provider.base_url, "api_key": "play", "timeout": 20}

    @property
    def model_override_value(self) -> str:
        return "play-2"

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[Literal["invoke", "stream"], list[Detail]]:
        return {"invoke": _DETAILS, "stream": _DETAILS}

    def invoke_with_audio_input(self, *, stream: bool = False) -> AIMessage:
        return self._invoke(stream, Counts(input=40, output=6), {"prompt_tokens_details": {"audio_tokens": 31}})

    def invoke_with_audio_output(self, *, stream: bool = False) -> AIMessage:
        return self._invoke(stream, Counts(input=4, output=60), {"completion_tokens_details": {"audio_tokens": 31}})

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        return self._invoke(stream, Counts(input=4, output=20, reasoning=9))

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        return self._invoke(stream, Counts(input=40, output=6, cache_read=32))

    def invoke_with_cache_creation_input(self, *, stream: bool = False) -> AIMessage:
        return self._invoke(stream, Counts(input=40, output=6, cache_write=32))

    def _invoke(self, stream: bool, usage: Counts, extra: dict[str, Any] | None = None) -> AIMessage:
        """One call whose provider reports `usage`; what is streamed comes back added up."""
        self.provider.queue(chat_reply(usage=usage, usage_extra=extra or {}, stream=stream))
        model = ChatCounterfoil(**self.chat_model_params)
        if not stream:
            return model.invoke([HumanMessage("Hello")])
        whole: AIMessage = functools.reduce(operator.add, model.stream([HumanMessage("Hello")]))
        return whole


class TestPlayedWithSchemas(TestPlayed):
    """Structured output by the response format, where `TestPlayed` leaves the choice to the model."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "json_schema"}


class TestPlayedWithFunctions(TestPlayed):
    """Structured output by a function that must be called."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


@pytest.mark.local_model
class TestEmbedded(ChatModelIntegrationTests):
    """Text, at the embedded model."""

    @pytest.fixture(autouse=True)
    def weights(self) -> None:
        if installed() is None:
            pytest.skip("the weights of the embedded model are not installed (counterfoil local install)")

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatCounterfoil

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": f"local/{MODEL_NAME}", "max_tokens": 24, "timeout": 60}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def supports_model_override(self) -> bool:
        return False
