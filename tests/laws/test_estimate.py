"""An estimate is cheap, bounded and deterministic, and bytes of pictures are not text."""

from __future__ import annotations

import base64
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counterfoil.core import estimate
from counterfoil.core.estimate import (
    AUDIO_BYTES_PER_TOKEN,
    DOCUMENT_TOKENS,
    IMAGE_TOKENS,
    TOOL_CALL_TOKENS,
    Tally,
    estimate_body,
    estimate_request,
)
from counterfoil.core.message import (
    Audio,
    File,
    Image,
    Message,
    Opaque,
    Part,
    RedactedReasoning,
    Text,
    ToolCall,
    ToolResult,
)
from counterfoil.core.operation import ChatRequest, Tool
from counterfoil.driver.vocabulary import VOCABULARIES
from tests.tree import REPOSITORY

__all__: list[str] = []

PROSE = (
    "The quick report explains why invoices sometimes disagree with what a customer was shown, and how careful "
    "counting can prevent surprises at the end of every month. We measured three systems over several weeks."
)
PICTURE = base64.b64encode(random.Random(7).randbytes(40_000)).decode()


def _tokens(*pieces: str) -> int:
    tally = Tally()
    for piece in pieces:
        tally.add(piece)
    return tally.tokens


def _request(*parts: Part, tools: tuple[Tool, ...] = ()) -> int:
    return estimate_request(ChatRequest("m", (Message("user", parts),), tools=tools))


@given(st.lists(st.text(max_size=12), max_size=8))
def test_the_same_text_in_other_pieces_is_the_same_number(pieces: list[str]) -> None:
    assert _tokens(*pieces) == _tokens("".join(pieces))


@given(st.text(max_size=50), st.text(max_size=10))
def test_more_text_is_never_fewer_tokens(text: str, more: str) -> None:
    assert _tokens(text) <= _tokens(text, more)


@given(st.text(min_size=1, max_size=40))
def test_any_text_is_at_least_one_token_and_at_most_two_a_character(text: str) -> None:
    assert 1 <= _tokens(text) <= 2 * len(text)
    assert _tokens("") == 0


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        # From a third less than the fewest to 40 % more than the most that six open vocabularies make of the text.
        pytest.param(PROSE, 24, 53, id="english"),
        pytest.param(
            "Мы измерили три системы и объяснили, почему счета расходятся там, где видел клиент.",
            12,
            53,
            id="russian",
        ),
        pytest.param("我们在几周内测量了三个系统并解释了为什么账单有时与客户看到的内容不一致。", 12, 52, id="chinese"),
        pytest.param("🎉🚀😀🔥🦊🍕🧠📦", 5, 45, id="emoji"),
    ],
)
def test_each_script_has_its_own_figure(text: str, low: int, high: int) -> None:
    assert low <= _tokens(text) <= high


def test_text_that_is_no_valid_unicode_is_counted_all_the_same() -> None:
    assert _tokens("\ud83d") >= 1


def test_whole_tokens_are_added_beside_the_text() -> None:
    tally = Tally()
    tally.add("abcd")
    tally.add_tokens(TOOL_CALL_TOKENS)
    assert tally.tokens == TOOL_CALL_TOKENS + _tokens("abcd")


def test_a_request_is_its_text_and_a_few_tokens_a_message() -> None:
    assert _tokens(PROSE) < _request(Text(PROSE)) <= _tokens(PROSE) + 10


def test_a_picture_is_a_flat_figure_however_large_its_base64_is() -> None:
    small, large = _request(Image(data="QUJD", media_type="image/png")), _request(Image(data=PICTURE))
    assert small == large
    assert small == _request() + IMAGE_TOKENS


def test_a_document_is_its_text_or_a_flat_figure() -> None:
    assert _request(File(text=PROSE)) == _request(Text(PROSE))
    assert _request(File(data=PICTURE, media_type="application/pdf")) == _request() + DOCUMENT_TOKENS


def test_sound_counts_by_its_length_and_not_as_text() -> None:
    assert _request() < _request(Audio(PICTURE, "mp3")) < _request() + len(PICTURE) // 100


def test_every_part_of_a_request_counts() -> None:
    parts: list[Part] = [
        ToolCall("call_1", "look_up", '{"city": "Lisbon"}'),
        ToolResult("call_1", (Text(PROSE), Image(data=PICTURE))),
        RedactedReasoning("A" * 400),
        Opaque("openai_chat", "other", msgspec.Raw(b'{"text": "something else entirely"}')),
    ]
    for part in parts:
        assert _request(part) > _request()
    assert _request(ToolResult("call_1", (Image(data=PICTURE),))) > _request() + IMAGE_TOKENS
    tool = Tool("look_up", PROSE, msgspec.Raw(b'{"type": "object"}'))
    assert _request(tools=(tool,)) > _request() + _tokens(PROSE)


def _body(content: object) -> bytes:
    return msgspec.json.encode({"model": "some-model", "messages": [{"role": "user", "content": content}]})


@given(st.text(alphabet="abcdefghij klmnop. ", min_size=300, max_size=3000))
def test_a_body_is_about_its_text(text: str) -> None:
    assert 0.7 * _tokens(text) <= estimate_body(_body(text)) <= 1.5 * _tokens(text) + 30


def test_base64_in_a_body_is_a_picture_and_not_text() -> None:
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
    text = {"type": "text", "text": PROSE}
    with_one, without = estimate_body(_body([text, url])), estimate_body(_body([text]))
    assert IMAGE_TOKENS <= with_one - without <= IMAGE_TOKENS + 200
    assert 2 * IMAGE_TOKENS <= estimate_body(_body([url, text, url])) - without <= 2 * IMAGE_TOKENS + 400


@pytest.mark.parametrize("key", ["thoughtSignature", "signature", "encrypted_content"])
@pytest.mark.parametrize("offset", [0, 1, 100, 255])
def test_base64_that_proves_reasoning_is_no_picture(key: str, offset: int) -> None:
    proof = {"type": "thinking", "thinking": "x" * offset, key: PICTURE}
    with_one, without = estimate_body(_body([proof])), estimate_body(_body([{**proof, key: ""}]))
    assert with_one - without < IMAGE_TOKENS // 4
    picture = {"type": "image_url", "image_url": {"url": PICTURE}}
    assert estimate_body(_body([proof, picture])) - with_one > IMAGE_TOKENS // 2


@pytest.mark.parametrize("text", ["Hi", PROSE * 40], ids=["short", "long"])
@pytest.mark.parametrize("indent", [0, 1], ids=["compact", "spaced"])
def test_the_same_call_has_the_same_input_streamed_and_whole(text: str, indent: int) -> None:
    whole = {"model": "some-model", "messages": [{"role": "user", "content": text}]}
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    bodies = [whole, {**whole, "stream": False}, {**whole, **asked}, {**asked, **whole}]
    written = [msgspec.json.format(msgspec.json.encode(body), indent=indent) for body in bodies]
    plain, *others = map(estimate_body, written)
    assert all(abs(other - plain) <= 3 * (indent + 1) for other in others)


def test_a_picture_by_address_counts_as_one_too() -> None:
    url = {"type": "image_url", "image_url": {"url": "https://pictures.example/one.png"}}
    assert IMAGE_TOKENS <= estimate_body(_body([url])) <= IMAGE_TOKENS + 60


@pytest.mark.parametrize("text", ["我们测量了三个系统" * 40, "мы измерили системы" * 40])
def test_escaped_text_counts_about_as_much_as_the_same_text_plain(text: str) -> None:
    plain = _body(text)
    escaped = plain.decode().encode("ascii", "backslashreplace")
    assert len(escaped) > len(plain)
    assert 0.5 <= estimate_body(escaped) / estimate_body(plain) <= 1.5


def test_of_a_huge_body_a_bounded_part_is_looked_at_and_the_number_grows_with_it() -> None:
    million = _body(PROSE * 6000)
    eight = _body(PROSE * 48000)
    assert 7.5 <= estimate_body(eight) / estimate_body(million) <= 8.5


@given(st.binary(max_size=600))
def test_anything_can_be_estimated(body: bytes) -> None:
    assert estimate_body(body) > 0


def test_the_page_on_estimates_shows_the_figures_that_are_used() -> None:
    page = (REPOSITORY / "docs" / "estimates.md").read_text(encoding="utf-8")
    widths = (estimate._WIDE_1, estimate._WIDE_2, estimate._WIDE_3, estimate._WIDE_4)
    for width, figure in enumerate(widths, 1):
        assert f"| {width} | {figure / estimate._UNIT:.2f} |" in page
    assert f"| a tool call, beside its arguments | {TOOL_CALL_TOKENS} |" in page
    around = (estimate._MESSAGE_TOKENS, estimate._REQUEST_TOKENS, estimate._TOOLS_TOKENS)
    assert f"a request with tools | {'; '.join(map(str, around))} |" in page
    flat = f"{IMAGE_TOKENS}; {DOCUMENT_TOKENS:,}; its bytes / {AUDIO_BYTES_PER_TOKEN:,}"
    assert f"sound | {flat} |" in page
    missing = {name for _, name in VOCABULARIES if name is not None and f"`{name}`" not in page}
    assert not missing
