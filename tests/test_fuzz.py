"""The fuzzer keeps to its rule for a few hundred cases, and finds what breaks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.tree import REPOSITORY

__all__: list[str] = []

FUZZER = REPOSITORY / "fuzz" / "decoders.py"
PLANTED = """
import sys
sys.path.insert(0, {folder!r})
import decoders
from counterfoil.dialects.openai_chat.relay import ChatRelay
carry = ChatRelay.carry
def broken(self, frame, events):
    if b"delta" not in frame.data:
        raise KeyError("planted")
    return carry(self, frame, events)
ChatRelay.carry = broken
raise SystemExit(decoders.main(["--cases", "200", "--no-recordings", "--seed", "5"]))
"""


def _run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"TMPDIR": str(folder), "PYTHONPATH": str(REPOSITORY / "src")}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=100, env=environment, check=False
    )


def test_damaged_replies_keep_the_rule(tmp_path: Path) -> None:
    done = _run(str(FUZZER), "--cases", "150", "--no-recordings", "--seed", "11", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "150 cases, the rule holds" in done.stdout


def test_a_broken_rule_is_found_and_its_bytes_are_kept(tmp_path: Path) -> None:
    done = _run("-c", PLANTED.format(folder=str(FUZZER.parent)), folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "planted" in done.stdout
    assert "--seed 5 --case " in done.stdout
    (kept,) = tmp_path.glob("counterfoil-fuzz-*.reply")
    assert str(kept) in done.stdout
