"""Tools and answers of a given form, as LangChain asks for them, in the chat dialect.

Rule: what a caller asks for is asked of the provider, or is a ValueError here; nothing is left out quietly.
"""

# ruff: noqa: ANN401 - LangChain's signatures
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.base import BaseOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_function, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass

__all__ = ["METHODS", "Method", "Schema", "Tool", "format_of", "parsed", "structured_parser", "tool_params"]

Tool = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
Schema = dict[str, Any] | type
Method = Literal["function_calling", "json_mode", "json_schema"]
METHODS: Final[tuple[Method, ...]] = ("function_calling", "json_mode", "json_schema")
_WORDS: Final = {"any": "required", "required": "required", "auto": "auto", "none": "none"}
"""What LangChain's programs say for `tool_choice`, and the dialect's word for it."""


def tool_params(
    tools: Sequence[Tool], tool_choice: Mapping[str, Any] | str | bool | None, strict: bool | None
) -> dict[str, Any]:
    """`tools` and `tool_choice` of a request. Raises ValueError for a choice that is neither a word nor a tool."""
    made = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
    params: dict[str, Any] = {"tools": made}
    if tool_choice is None or tool_choice is False:
        return params
    if tool_choice is True:
        params["tool_choice"] = "required"
    elif isinstance(tool_choice, str):
        names = [tool["function"]["name"] for tool in made if "function" in tool]
        if tool_choice in names:
            params["tool_choice"] = {"type": "function", "function": {"name": tool_choice}}
        elif tool_choice in _WORDS:
            params["tool_choice"] = _WORDS[tool_choice]
        else:
            raise ValueError(f"tool_choice {tool_choice!r} is none of {sorted(_WORDS)} and no bound tool: {names}")
    else:
        params["tool_choice"] = dict(tool_choice)
    return params


def format_of(schema: Schema, strict: bool | None) -> dict[str, Any]:
    """`response_format` for a schema: a pydantic class, a TypedDict, a JSON schema, or the dialect's own shape."""
    if isinstance(schema, dict):
        if schema.get("type") == "json_schema" and "json_schema" in schema:
            return schema
        if "name" in schema and "schema" in schema:
            return {"type": "json_schema", "json_schema": schema}
    function = convert_to_openai_function(schema, strict=strict)
    made = {"name": function["name"], "schema": function.get("parameters", {})}
    made.update({key: function[key] for key in ("description", "strict") if key in function})
    return {"type": "json_schema", "json_schema": made}


def structured_parser(schema: Schema | None, method: Method) -> BaseOutputParser[Any]:
    """What reads the answer: a pydantic object for a pydantic class, else a dict."""
    model = schema if isinstance(schema, type) and is_basemodel_subclass(schema) else None
    if method == "function_calling":
        if schema is None:
            raise ValueError('`schema` is needed for method="function_calling"')
        if model is not None:
            return PydanticToolsParser(tools=[model], first_tool_only=True)
        name = convert_to_openai_tool(schema)["function"]["name"]
        return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    return _JsonParser() if model is None else _PydanticParser(pydantic_object=model)


def parsed(
    asked: Runnable[LanguageModelInput, AIMessage], parser: BaseOutputParser[Any], *, include_raw: bool
) -> Runnable[LanguageModelInput, Any]:
    """The model and its parser in a row; with `include_raw` a dict of `raw`, `parsed`, `parsing_error`."""
    if not include_raw:
        return asked | parser
    good = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    bad = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=asked) | good.with_fallbacks([bad], exception_key="parsing_error")


def _told(result: list[Generation]) -> None:
    """Raise OutputParserException when the model refused: a refusal is no answer that failed to parse."""
    message = result[0].message if result and isinstance(result[0], ChatGeneration) else None
    refusal = message.additional_kwargs.get("refusal") if message is not None else None
    if refusal:
        raise OutputParserException(f"the model refused: {refusal}", llm_output=str(refusal))


class _JsonParser(JsonOutputParser):
    """A dict from JSON text, or the model's refusal."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        _told(result)
        return super().parse_result(result, partial=partial)


class _PydanticParser(PydanticOutputParser[Any]):
    """A pydantic object from JSON text, or the model's refusal."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        _told(result)
        return super().parse_result(result, partial=partial)
