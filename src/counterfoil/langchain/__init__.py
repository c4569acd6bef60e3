"""The LangChain chat model: `from counterfoil.langchain import ChatCounterfoil`. Needs the extra `langchain`.

Rule: LangChain's words stop here. The model calls the SDK, and what the SDK counted is what the message says.
"""

try:
    from counterfoil.langchain.chat_model import ChatCounterfoil
except ModuleNotFoundError as missing:
    if missing.name is None or missing.name.partition(".")[0] != "langchain_core":
        raise
    raise ModuleNotFoundError(
        "LangChain is not installed: pip install 'counterfoil[langchain]'", name=missing.name
    ) from missing

__all__ = ["ChatCounterfoil"]
