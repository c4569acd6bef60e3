"""`counterfoil meter` equals the oracle, however the bytes are cut, and reads nothing into what it was not told."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli import main
from counterfoil.cli.meter import RECORDED_DIALECTS, Recorded, read_record
from counterfoil.dialects.registry import DIALECTS
from counterfoil.exchange.recorded import read_reply
from counterfoil.ledger.entry import Exit, figures
from counterfoil.providers.table import read_table
from counterfoil.testing import CHAT_SHAPES, ChatReply, Counts, MessagesReply, Script
from counterfoil.testing.playbook import Send
from tests import wire

__all__: list[str] = []

KEYS = (
    "id",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "total_tokens",
    "provider_total",
    "search_units",
    "images",
    "billed",
    "provenance",
    "exit",
    "discrepancies",
    "text_sha256",
)
JUDGED = KEYS[1:6]
FIGURES = KEYS[1:8]
PREFIXES = tuple(f"{name}/" for name in RECORDED_DIALECTS)


def _metered(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]], str]:
    code = main(["meter", *words])
    said = capsys.readouterr()
    return code, [json.loads(line) for line in said.out.splitlines()], said.err


def _record(name: str) -> Recorded:
    directory = wire.shared()
    assert directory is not None
    return read_record(name, (directory / "wire" / f"{name}.json").read_bytes(), _table())


def _table() -> Any:
    text = (Path(__file__).parents[2] / "src/counterfoil/providers/providers.toml").read_text()
    return read_table(text, DIALECTS)


# ---- the oracle


@pytest.fixture(scope="module")
def lines() -> dict[str, dict[str, Any]]:
    directory = wire.shared()
    if directory is None:
        pytest.skip(wire.ABSENT)
    held, sys.stdout = sys.stdout, io.StringIO()
    try:
        code = main(["meter", str(directory / "wire")])
        said = sys.stdout.getvalue()
    finally:
        sys.stdout = held
    assert code == 5  # two recordings are of dialects that are not read
    return {line["id"]: line for line in map(json.loads, said.splitlines())}


def test_every_recording_has_its_line_or_is_answered_by_the_name_of_its_dialect(
    lines: dict[str, dict[str, Any]],
) -> None:
    assert sorted(lines) == sorted(wire.ids())
    read = set(wire.ids(*PREFIXES))
    assert len(read) == 401
    for name, line in lines.items():
        if name in read:
            assert tuple(key for key in line if key != "counted_tokens") == KEYS
        else:
            assert line == {"id": name, "unsupported": name.partition("/")[0]}


def test_the_oracle_judges_nothing_that_is_not_read(lines: dict[str, dict[str, Any]]) -> None:
    judged = [name for name, row in wire.expected().items() if any(getattr(row, cell) is not None for cell in JUDGED)]
    assert len(judged) > 300
    assert not [name for name in judged if "unsupported" in lines[name]]


@pytest.mark.parametrize("name", wire.params(*PREFIXES))
def test_a_recording_amounts_to_what_the_oracle_says(name: str, lines: dict[str, dict[str, Any]]) -> None:
    line, oracle = lines[name], wire.expected().get(name)
    if oracle is None:
        pytest.skip("the oracle does not judge this recording")
    judged = {cell: getattr(oracle, cell) for cell in JUDGED if getattr(oracle, cell) is not None}
    assert {cell: line[cell] for cell in judged} == judged
    if oracle.note is not None and oracle.note.startswith(("http", "no report")):
        assert [line[figure] for figure in FIGURES] == [None] * len(FIGURES)
        assert set(line["provenance"].values()) == {"unknown"}
    if oracle.note is not None and oracle.note.startswith("http"):
        assert (line["exit"], line["text_sha256"]) == ("rejected", None)


@pytest.mark.parametrize("name", wire.params(*PREFIXES))
def test_however_the_bytes_are_cut_the_reading_is_the_same(name: str) -> None:
    record = _record(name)
    whole, data = record.read(), record.data
    assert record.read([data[place : place + 1] for place in range(len(data))]) == whole
    assert record.read([data[place : place + 1461] for place in range(0, len(data), 1461)]) == whole
    assert record.read([b"", data, b""]) == whole


@pytest.mark.parametrize("name", wire.params(*PREFIXES))
def test_any_prefix_of_a_recording_is_read_and_none_is_taken_for_more(name: str) -> None:
    record = _record(name)
    whole = record.read()
    for part in range(1, 12):
        prefix = record.read([record.data[: len(record.data) * part // 12]], estimate=part % 2 == 0)
        assert prefix.reading.reports <= whole.reading.reports
        assert len(prefix.events) <= len(whole.events)


# ---- prefixes, byte by byte, of streams whose truth is known


def _chat_streams() -> Iterator[Any]:
    usage = Counts(input=31, output=4, cache_read=12, reasoning=2)
    for shape in CHAT_SHAPES:
        if shape not in ("per_choice",):
            script = ChatReply(text=("One ", "two ", "three ", "four."), usage=usage, shape=shape).script()
            yield pytest.param("openai_chat", script, id=shape)
    messages = MessagesReply(text=("One ", "two."), usage=Counts(input=120, output=9, cache_read=100, cache_write=8))
    yield pytest.param("anthropic_messages", messages.script(), id="messages")


def _reported(script: Script, sent: int) -> Counts | None:
    """What the frames within the first `sent` bytes have reported, by the plan of the stream."""
    reported, end = None, 0
    for frame in script.frames:
        end += len(frame.data)
        if end - (len(frame.data) - len(frame.data.rstrip(b"\n"))) > sent:
            break
        reported = frame.reported or reported
    return reported


@pytest.mark.parametrize(("dialect", "script"), list(_chat_streams()))
def test_any_prefix_gives_that_prefixs_reading(dialect: str, script: Script) -> None:
    assert all(isinstance(step, Send) for step in script.steps)
    exits = []
    for sent in range(len(script.body) + 1):
        reply = read_reply([script.body[:sent]], DIALECTS[dialect], streamed=True)
        exits.append(reply.exit)
        told = _reported(script, sent)
        shown = figures(reply.settlement.usage)
        if told is None:
            assert shown.output_tokens is None
        else:
            # A provisional count is shown where nothing better came: it is what the provider said.
            assert (shown.input_tokens, shown.cache_read_tokens) == (told.input, told.cache_read)
            assert shown.output_tokens == told.output
    assert exits == sorted(exits, key=(Exit.TRUNCATED, Exit.COMPLETED).index)
    assert exits[-1] is Exit.COMPLETED


# ---- what it is told, and what it is not


def _recording(directory: Path, **more: Any) -> str:
    script = ChatReply(text="Hello there.", usage=Counts(input=9, output=3)).script()
    record = {
        "id": "one",
        "dialect": "openai.chat",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "stream": True,
        "request": {"body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Say hello."}]}},
        "response": {"status": 200, "headers": {"Content-Type": "text/event-stream"}, "body": script.body.decode()},
    }
    for key, value in more.items():
        old = record.get(key)
        record[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    path = directory / f"{len(list(directory.iterdir()))}.json"
    path.write_text(json.dumps(record))
    return str(path)


def test_a_recording_with_usage_is_reported_and_complete(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, [line], err = _metered(_recording(tmp_path), capsys=capsys)
    assert (code, err) == (0, "")
    assert (line["input_tokens"], line["output_tokens"], line["total_tokens"], line["provider_total"]) == (9, 3, 12, 12)
    assert line["provenance"]["output_tokens"] == "reported"
    assert line["exit"] == "completed"
    assert line["text_sha256"] == hashlib.sha256(b"Hello there.").hexdigest()


def test_nothing_is_estimated_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = ChatReply(text="Hello there.", shape="absent").script().body.decode()
    path = _recording(tmp_path, response={"body": silent})
    _, [line], _ = _metered(path, capsys=capsys)
    assert [line[figure] for figure in FIGURES] == [None] * len(FIGURES)
    _, [line], _ = _metered(path, "--estimate", capsys=capsys)
    assert line["input_tokens"] > 0
    assert line["output_tokens"] > 0
    assert line["provenance"]["input_tokens"] == line["provenance"]["output_tokens"] == "estimated"
    assert line["provider_total"] is None


def test_a_provider_that_counts_otherwise_is_read_by_its_own_convention(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35}
    body = json.dumps(
        {
            "id": "r",
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"content": "Yes."}, "finish_reason": "stop"}],
            "usage": {**usage, "completion_tokens_details": {"reasoning_tokens": 20}},
        }
    )
    whole = {"headers": {"content-type": "application/json"}, "body": body}
    for provider, output, kinds in (("xai", 25, []), ("openai", 5, ["total_mismatch", "part_exceeds_whole"])):
        path = _recording(tmp_path, provider=provider, stream=False, response=whole)
        _, [line], _ = _metered(path, capsys=capsys)
        assert line["output_tokens"] == output
        assert sorted(found["kind"] for found in line["discrepancies"]) == sorted(kinds)


def test_text_of_several_choices_is_put_together_in_their_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ChatReply(text="Hello there.", n=2).script()
    path = _recording(tmp_path, response={"body": script.body.decode()}, request={"body": {"n": 2}})
    _, [line], _ = _metered(path, capsys=capsys)
    assert line["exit"] == "completed"
    assert line["text_sha256"] == hashlib.sha256(b"Hello there.Hello there. #1").hexdigest()


def test_the_prompts_of_a_recorded_completion_are_known_from_its_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = []
    for index, prompt in ((1, 17), (0, 6)):
        choice = {"text": "x", "index": index, "logprobs": None, "finish_reason": "length"}
        usage = {"prompt_tokens": prompt, "completion_tokens": 4, "total_tokens": prompt + 4}
        frames.append(f"data: {json.dumps({'id': 'c', 'choices': [choice], 'usage': usage})}\n\n")
    body = {"model": "play-1", "prompt": ["low", "and much higher"], "stream": True}
    path = _recording(
        tmp_path,
        dialect="openai.completions",
        provider="llama.cpp",
        request={"body": body},
        response={"headers": {"content-type": "text/event-stream"}, "body": "".join(frames)},
    )
    _, [line], _ = _metered(path, capsys=capsys)
    assert (line["exit"], line["input_tokens"], line["output_tokens"]) == ("completed", 23, 8)


def test_a_choice_that_never_finished_is_a_truncated_reply() -> None:
    frames = [frame.data for frame in ChatReply(text="Hello there.", n=2, done=False).script().frames]
    begun = [data for data in frames if b'"finish_reason":"' not in data or b'"index":0' in data]
    assert len(begun) == len(frames) - 1
    assert read_reply(frames, DIALECTS["openai_chat"], streamed=True, choices=2).exit is Exit.COMPLETED
    assert read_reply(begun, DIALECTS["openai_chat"], streamed=True, choices=2).exit is Exit.TRUNCATED


def test_an_error_status_is_a_rejection_with_no_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = '{"error":{"message":"no such model","code":"model_not_found"}}'
    path = _recording(tmp_path, response={"status": 404, "body": body})
    code, [line], _ = _metered(path, "--estimate", capsys=capsys)
    assert code == 0
    assert (line["exit"], line["text_sha256"]) == ("rejected", None)
    assert [line[figure] for figure in FIGURES] == [None] * len(FIGURES)


def test_base64_bodies_are_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = ChatReply(text="Hello there.", usage=Counts(input=9, output=3)).script()
    coded = {"body": None, "body_base64": base64.b64encode(script.body).decode()}
    _, [line], _ = _metered(_recording(tmp_path, response=coded), capsys=capsys)
    assert line["total_tokens"] == 12


def test_raw_bytes_are_found_to_be_a_stream_or_a_whole_reply(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = Counts(input=9, output=3)
    for stream in (True, False):
        path = tmp_path / f"reply-{stream}"
        path.write_bytes(ChatReply(text="Hello there.", usage=usage, stream=stream).script().body)
        code, [line], _ = _metered("--dialect", "openai_chat", str(path), capsys=capsys)
        assert (code, line["id"], line["total_tokens"], line["exit"]) == (0, str(path), 12, "completed")


def test_raw_bytes_come_from_standard_input_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = MessagesReply(text="Hello there.", usage=Counts(input=9, output=3)).script().body
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(body)))
    code, [line], _ = _metered("--dialect", "anthropic_messages", "--provider", "anthropic", "-", capsys=capsys)
    assert (code, line["id"], line["total_tokens"]) == (0, "-", 12)


def test_what_is_not_spoken_or_not_a_recording_is_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _recording(tmp_path)
    _recording(tmp_path, dialect="smoke.signals")
    (tmp_path / "notes.json").write_text('["nothing"]')
    (tmp_path / "notes.txt").write_text("not looked at")
    code, found, err = _metered(str(tmp_path), capsys=capsys)
    assert code == 5
    assert found[1:] == [{"id": "one", "unsupported": "smoke.signals"}]
    assert "unsupported: smoke.signals (1)" in err.splitlines()[-1]
    assert "notes.json" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["no-such-file.json"], 1),
        ([], 2),
        (["--provider", "openai", "x"], 2),
        (["--dialect", "openai_chat", "--provider", "nobody", "x"], 2),
        (["--dialect", "klingon", "x"], 2),
    ],
)
def test_mistakes_have_a_code_and_a_sentence(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["meter", *words]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert said.err.strip()


def test_an_empty_directory_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["meter", str(tmp_path)]) == 1
    assert "no recording" in capsys.readouterr().err
