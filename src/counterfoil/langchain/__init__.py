"""The LangChain chat model: `from counterfoil.langchain import ChatCounterfoil`. Needs the extra `langchain`.

Rule: LangChain's words stop here. The model calls the SDK, and what the SDK counted is what the message says.
"""

from counterfoil.langchain.chat_model import ChatCounterfoil

__all__ = ["ChatCounterfoil"]
