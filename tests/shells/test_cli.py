"""What holds for every command: help with examples, exit codes that mean something, and no traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli import main
from counterfoil.cli.command import COMMANDS, parser_of
from counterfoil.cli.failure import ExitCode
from counterfoil.testing import ChatReply, Counts

__all__: list[str] = []

NAMES = [name for group in COMMANDS.values() for name in group]
CLI = [sys.executable, "-m", "counterfoil"]
SECONDS = 60


def _shell(*words: str, environ: dict[str, str] | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(environ or {})}
    return subprocess.run(
        [*CLI, *words], capture_output=True, text=True, timeout=SECONDS, check=False, env=environment, **more
    )


def _without(*modules: str) -> str:
    """Code that runs a command line in an installation that lacks `modules`."""
    missing = "; ".join(f"sys.modules[{name!r}] = None" for name in modules)
    find = f"find = util.find_spec; util.find_spec = lambda name: None if name in {modules!r} else find(name)"
    run = "from counterfoil.cli import main; sys.exit(main(sys.argv[1:]))"
    return f"import sys; from importlib import util; {missing}; {find}; {run}"


# ---- help


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {name} " in out for name in NAMES)
        assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_with_an_example_of_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    _, _, examples = out.partition("examples:\n")
    assert f"counterfoil {name}" in examples
    assert main(["help", name]) == 0
    assert capsys.readouterr().out == out


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_command_lines_that_are_understood(name: str) -> None:
    _, _, examples = parser_of(name).format_help().partition("examples:\n")
    lines = [line.strip() for line in examples.splitlines() if line.strip().startswith("counterfoil ")]
    assert lines
    for line in lines:
        words = line.partition("  ")[0].partition(" | ")[0].split()
        assert words[1] == name
        parser_of(name).parse_args(words[2:])


def test_help_and_version_load_nothing_heavy() -> None:
    code = (
        "import sys; from counterfoil.cli import main; main(['--help']); main(['--version']);"
        "heavy = {'msgspec', 'aiohttp', 'uvicorn', 'yaml', 'asyncio', 'openai'} & set(sys.modules);"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert "counterfoil 0" in done.stdout


# ---- exit codes


def test_an_unknown_command_is_a_usage_error_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["entires"]) == ExitCode.USAGE
    said = capsys.readouterr()
    assert said.out == ""
    assert "Did you mean entries" in said.err


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_a_usage_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--no-such-option"]) == ExitCode.USAGE
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("serve --prot 4000", "serve: there is no --prot. Did you mean --port? `counterfoil serve --help` has"),
        ("serve --config=x --chekc=y", "serve: there is no --chekc. Did you mean --check?"),
        ("prices show gpt-4o --provder openai", "prices show: there is no --provder. Did you mean --provider?"),
        ("models --zzzzzz", "models: there is no --zzzzzz. `counterfoil models --help` has"),
        ("explain 019f 019e", "explain: '019e' is one word too many. `counterfoil explain --help` has"),
        ("explain", "explain: the following arguments are required: ID. `counterfoil explain --help` has"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_nearest_option(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert err.startswith(f"counterfoil: {said}")
    assert err.count("\n") == 1


def test_the_module_and_the_script_return_the_exit_code(tmp_path: Path) -> None:
    done = _shell("entries", "--data-dir", str(tmp_path))
    assert done.returncode == ExitCode.WRONG
    assert done.stdout == ""
    assert done.stderr.startswith("counterfoil: There are no books at ")
    assert "Traceback" not in done.stderr


def _recording(directory: Path) -> Path:
    script = ChatReply(text="Hello there.", usage=Counts(input=9, output=3), stream=False).script()
    path = directory / "reply.json"
    path.write_bytes(script.body)
    return path


def test_a_reader_that_stops_reading_is_not_an_error_to_shout_about(tmp_path: Path) -> None:
    reply = str(_recording(tmp_path))
    command = [*CLI, "meter", "--dialect", "openai_chat", *([reply] * 2000)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["total_tokens"] == 12
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(SECONDS) == ExitCode.BROKEN_PIPE


def test_ctrl_c_ends_a_command_without_a_traceback() -> None:
    command = [*CLI, "meter", "--dialect", "openai_chat", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        _until_it_reads(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == ExitCode.INTERRUPTED
        assert process.stderr.read().strip() == ""


def _until_it_reads(pid: int) -> None:
    """Wait until the process has opened nothing more and stands in a read of its input."""
    status = Path(f"/proc/{pid}/wchan")
    if not status.exists():
        pytest.skip("what a process waits for is only told by Linux")
    deadline = time.monotonic() + SECONDS
    while "pipe_read" not in status.read_text() and "pipe_wait" not in status.read_text():
        if time.monotonic() > deadline:
            pytest.skip("this kernel does not tell what a process waits for")
        time.sleep(0.05)


# ---- the core install


def test_the_core_install_reads_and_explains_and_says_what_serving_needs(tmp_path: Path) -> None:
    core = [sys.executable, "-c", _without("aiohttp", "uvicorn", "httptools", "xllamacpp", "openai")]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*core, *words], capture_output=True, text=True, timeout=SECONDS, check=False)

    metered = run("meter", "--dialect", "openai_chat", str(_recording(tmp_path)))
    assert (metered.returncode, json.loads(metered.stdout)["total_tokens"]) == (0, 12)
    assert run("prices", "show", "gpt-4o-mini", "--data-dir", str(tmp_path)).returncode == 0
    assert run("providers").returncode == 0
    for words in (("serve", "--data-dir", str(tmp_path)), ("models",)):
        served = run(*words)
        assert served.returncode == ExitCode.UNREACHABLE
        assert "pip install 'counterfoil[server]'" in served.stderr
        assert "Traceback" not in served.stderr
    demo = run("demo")
    assert demo.returncode == ExitCode.UNREACHABLE
    assert "pip install openai" in demo.stderr
