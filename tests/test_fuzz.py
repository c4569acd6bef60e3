"""Every target of the fuzzer keeps to its rule for a moment, begins with files of its own, and finds what breaks it."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from counterfoil.dialects.registry import DIALECTS
from tests.tree import REPOSITORY

__all__: list[str] = []

FOLDER = REPOSITORY / "fuzz"
FUZZER, RUNNER = FOLDER / "decoders.py", FOLDER / "run.py"
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


@functools.cache
def _targets() -> tuple[str, ...]:
    done = _run(str(RUNNER), "--list", folder=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return tuple(done.stdout.split())


def test_every_dialect_and_every_framing_of_the_registry_is_a_target() -> None:
    decoders = {name.removeprefix("decoder.") for name in _targets() if name.startswith("decoder.")}
    assert decoders == set(DIALECTS)
    framings = [name for name in _targets() if name.startswith("framing.")]
    assert len(framings) == len({type(dialect.framing(1)) for dialect in DIALECTS.values()})


def test_every_target_begins_with_small_files_of_our_own_and_nothing_else_is_there() -> None:
    folders = {path.name: list(path.iterdir()) for path in (FOLDER / "corpus").iterdir()}
    assert folders.keys() == set(_targets())
    for files in folders.values():
        assert 0 < len(files) < 10
        assert all(0 < file.stat().st_size < 4000 for file in files)


def test_every_target_keeps_its_rule_over_its_files_and_their_damage(tmp_path: Path) -> None:
    done = _run(str(RUNNER), "--plain", "60", "--no-recordings", "--found", str(tmp_path), folder=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert f"{len(_targets())} of {len(_targets())} targets keep their rule" in done.stdout
    assert len(re.findall(r"inputs .* the rule holds", done.stdout)) == len(_targets())


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
@pytest.mark.parametrize("target", ["framing.ndjson", "decoder.voyage.rerank"])
def test_coverage_chooses_inputs_that_keep_the_rule_too(target: str, tmp_path: Path) -> None:
    words = ("--runs", "200", "--seed", "1", "--no-recordings", "--found", str(tmp_path))
    done = _run(str(RUNNER), *words, target, folder=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert re.search(r"\b2\d\d inputs .* the rule holds", done.stdout), done.stdout


PLANTED_FRAMING = """
import sys
sys.path.insert(0, {folder!r})
import run
from counterfoil.framing.ndjson import NdjsonFraming
feed = NdjsonFraming.feed
def broken(self, data):
    if b"done" in data:
        raise KeyError("planted")
    return feed(self, data)
NdjsonFraming.feed = broken
raise SystemExit(run.main(["--plain", "300", "--no-recordings", "--found", {found!r}, "framing.ndjson"]))
"""


def test_what_breaks_a_rule_is_kept_and_can_be_tried_again(tmp_path: Path) -> None:
    found = tmp_path / "found"
    code = PLANTED_FRAMING.format(folder=str(FOLDER), found=str(found))
    done = _run("-c", code, folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "planted" in done.stdout
    assert "BROKEN" in done.stdout
    (kept,) = (found / "framing.ndjson").glob("crash-*")
    again = _run(str(RUNNER), "--replay", str(kept), "framing.ndjson", folder=tmp_path)
    assert again.returncode == 0, "without the planted fault the rule holds"
    assert "framing.ndjson: the rule holds" in again.stdout


def test_a_target_nobody_knows_is_refused(tmp_path: Path) -> None:
    done = _run(str(RUNNER), "--plain", "1", "decoder.nothing", folder=tmp_path)
    assert (done.returncode, "--list names them" in done.stdout) == (2, True)
