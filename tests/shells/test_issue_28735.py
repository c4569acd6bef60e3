"""Promise: `examples/issue-28735` does what it says: the curl of BerriAI/litellm#28735, against Bedrock, answered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.shells.test_curl_lines import PAGE, blocks

__all__: list[str] = []

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "issue-28735"
SECONDS = 100.0


@pytest.fixture(scope="module")
def said() -> str:
    """What the example prints, once it has ended well."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py"), "--port", "0"],
        capture_output=True,
        timeout=SECONDS,
        # A person's own keys and proxies are none of the example's business.
        env={
            **os.environ,
            "AWS_BEARER_TOKEN_BEDROCK": "not-for-this",
            "AWS_PROFILE": "nobody",
            "NO_PROXY": "127.0.0.1",
        },
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


def frames(said: str) -> list[str]:
    return [line.removeprefix("data: ") for line in said.splitlines() if line.startswith("data: ")]


def test_the_usage_comes_once_with_no_choices_and_then_the_end(said: str) -> None:
    *chunks, last, done = frames(said)
    usage_chunk: dict[str, Any] = json.loads(last)
    assert done == "[DONE]"
    assert usage_chunk["choices"] == []
    assert usage_chunk["usage"] == {"prompt_tokens": 13, "completion_tokens": 20, "total_tokens": 33}
    others = [json.loads(chunk) for chunk in chunks]
    assert all(chunk["usage"] is None and len(chunk["choices"]) == 1 for chunk in others)
    assert (
        "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in others) == "Hello, and a good tide to you."
    )
    assert [chunk["choices"][0]["finish_reason"] for chunk in others][-1] == "stop"
    assert {chunk["model"] for chunk in [*others, usage_chunk]} == {"bedrock-claude-sonnet-4-6"}


def test_bedrock_was_asked_with_a_signature(said: str) -> None:
    assert "POST /model/eu.anthropic.claude-sonnet-4-6/converse-stream\n" in said
    assert "authorization: AWS4-HMAC-SHA256 Credential=AKIA" in said


def test_the_ledger_has_the_numbers_the_client_saw(said: str) -> None:
    (entry,) = [json.loads(line) for line in said.splitlines() if line.startswith('{"attempt"')]
    assert (entry["provider"], entry["provider_dialect"], entry["exit"]) == ("bedrock", "bedrock_converse", "completed")
    assert (entry["usage"]["input_tokens"], entry["usage"]["output_tokens"]) == (13, 20)
    assert entry["provenance"]["output_tokens"] == "reported"
    assert entry["cost"] is not None


def test_the_request_is_the_one_the_docs_show() -> None:
    (shown,) = [block for block in blocks(PAGE, "bash") if block.startswith("curl ")]
    body = shown.partition("-d '")[2].rpartition("'")[0]
    assert json.loads(body) == json.loads((EXAMPLE / "ask.sh").read_text().partition("-d '")[2].rpartition("'")[0])
