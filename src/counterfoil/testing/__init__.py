"""Public helpers for tests: a provider on a loopback port that plays back bytes and can be told to fail.

Rule 1. Standard library only, and no import of ours outside this folder: the truth a test compares with must not be
worked out by the code under test.

```python
from counterfoil.testing import Counts, chat_reply, running

with running() as provider:
    provider.queue(chat_reply(text="Good morning", usage=Counts(input=7, output=2), shape="finish_chunk"))
    ask(base_url=provider.base_url)
    assert provider.served[0].reported == Counts(input=7, output=2)
```

`playbook.py` is what can be told. `chat.py`, `messages.py`, `responses.py`, `gemini.py`, `converse.py`,
`embeddings.py`, `counting.py` and `answers.py` build whole answers; `by_path.py` makes one in the dialect that is asked
for. `playback.py` serves them, `served.py` is the list of what was served, `provider.py` the same as a process of its
own.
"""

from counterfoil.testing.answers import (
    bad_json,
    chat_player,
    empty_answer,
    error_answer,
    error_player,
    html_answer,
    in_turn,
    messages_player,
    no_answer,
    obliging,
    redirect,
    refusing_stream_options,
    silent_answer,
    wrong_type,
)
from counterfoil.testing.by_path import PathDialect, dialect_of, path_player
from counterfoil.testing.catalogue import CATALOGUE
from counterfoil.testing.chat import CHAT_SHAPES, ChatReply, ChatShape, Tool, chat_reply
from counterfoil.testing.converse import ConverseReply, converse_player, converse_reply
from counterfoil.testing.counting import asks_count, count_player
from counterfoil.testing.embeddings import EmbeddingsReply, embeddings_player
from counterfoil.testing.eventstream import encode_message
from counterfoil.testing.gemini import GeminiReply, gemini_player, gemini_reply
from counterfoil.testing.messages import MessagesReply, messages_reply
from counterfoil.testing.playback import Playback, running
from counterfoil.testing.playbook import (
    Answer,
    Chooser,
    Counts,
    Cut,
    Head,
    Hold,
    Nothing,
    Pause,
    Request,
    Reset,
    Script,
    Send,
    Stall,
    Step,
)
from counterfoil.testing.responses import ResponsesReply, responses_player, responses_reply
from counterfoil.testing.served import Ended, Served

__all__ = [
    "CATALOGUE",
    "CHAT_SHAPES",
    "Answer",
    "ChatReply",
    "ChatShape",
    "Chooser",
    "ConverseReply",
    "Counts",
    "Cut",
    "EmbeddingsReply",
    "Ended",
    "GeminiReply",
    "Head",
    "Hold",
    "MessagesReply",
    "Nothing",
    "PathDialect",
    "Pause",
    "Playback",
    "Request",
    "Reset",
    "ResponsesReply",
    "Script",
    "Send",
    "Served",
    "Stall",
    "Step",
    "Tool",
    "asks_count",
    "bad_json",
    "chat_player",
    "chat_reply",
    "converse_player",
    "converse_reply",
    "count_player",
    "dialect_of",
    "embeddings_player",
    "empty_answer",
    "encode_message",
    "error_answer",
    "error_player",
    "gemini_player",
    "gemini_reply",
    "html_answer",
    "in_turn",
    "messages_player",
    "messages_reply",
    "no_answer",
    "obliging",
    "path_player",
    "redirect",
    "refusing_stream_options",
    "responses_player",
    "responses_reply",
    "running",
    "silent_answer",
    "wrong_type",
]
