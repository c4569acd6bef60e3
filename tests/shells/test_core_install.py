"""Promise: the core installs small, and everything of the SDK and of the command line that needs no server works in it.

A wheel is built and put into an environment that holds what the core needs and nothing else, from the lock file.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from counterfoil.testing import ChatReply, Counts
from tests.tree import REPOSITORY

__all__: list[str] = []

_SECONDS: Final = 110
_MOST_OF_THE_CORE: Final = 10
_MOST_BESIDE_LANGCHAIN: Final = 6
_LOCK: Final = REPOSITORY / "requirements" / "dev.txt"
_NO_INDEX: Final = re.compile(
    r"Failed to establish a new connection|NewConnectionError|ConnectTimeoutError|ReadTimeoutError|ProxyError"
    r"|Name or service not known|Temporary failure in name resolution|Network is unreachable|Connection refused"
)
"""How pip says that it could not reach the index."""

pytestmark = pytest.mark.timeout(300)


# ---- what needs what


def _needs(requirement: Requirement, roots: Mapping[str, list[str]], seen: set[tuple[str, str]]) -> Iterator[str]:
    """The distribution that is required and all that it needs here, by the metadata of what is installed."""
    name = canonicalize_name(requirement.name)
    for extra in ("", *sorted(requirement.extras)):
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        yield name
        for line in roots[name] if name in roots else requires(name) or []:
            inner = Requirement(line)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                yield from _needs(inner, roots, seen)


def _closure(*wanted: str, roots: Mapping[str, list[str]]) -> set[str]:
    """Every distribution that these need on this system, they among them; `roots` are known from elsewhere."""
    seen: set[tuple[str, str]] = set()
    return {name for one in wanted for name in _needs(Requirement(one), roots, seen)}


def _locked(names: set[str]) -> str:
    """The lines of the lock file that pin these, with their hashes."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", _LOCK.read_text(encoding="utf-8"))
    pins = {str(canonicalize_name(re.split(r"[=\[ ]", block)[0])): block for block in blocks if "==" in block}
    return "\n".join(pins[name] for name in sorted(names)) + "\n"


# ---- the environment


@dataclass(frozen=True)
class Core:
    """An environment that holds the core."""

    directory: Path
    wheel: Path
    needs: list[str]
    """The wheel's own requirements, extras among them."""

    def python(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run its interpreter, away from the repository and with an empty environment."""
        scripts = self.directory / ("Scripts" if sys.platform == "win32" else "bin")
        kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ}
        home = self.directory.parent / "home"
        home.mkdir(exist_ok=True)
        return subprocess.run(
            [scripts / "python", "-W", "error", *words],
            env={**kept, "HOME": str(home), "COUNTERFOIL_DATA_DIR": str(home / "data"), **environ},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )

    def works(self, *words: str, **environ: str) -> str:
        """What it prints, where it must succeed and complain of nothing."""
        done = self.python(*words, **environ)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
        return done.stdout

    def tells(self, code: str, **environ: str) -> Any:
        """The JSON that a program prints."""
        return json.loads(self.works("-c", code, **environ))


def _run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=_SECONDS, check=False, cwd=REPOSITORY)
    if done.returncode:
        said = done.stdout + done.stderr
        if _NO_INDEX.search(said):
            pytest.skip("the package index cannot be reached")
        pytest.fail(said)
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", directory)
    (built,) = directory.glob("counterfoil-*.whl")
    return built


@pytest.fixture(scope="module")
def needs(wheel: Path) -> list[str]:
    """The wheel's requirements."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return HeaderParser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, wheel: Path, needs: list[str]) -> Core:
    directory = tmp_path_factory.mktemp("core")
    made = Core(directory / "venv", wheel, needs)
    _run(sys.executable, "-m", "venv", "--without-pip", made.directory)
    pins = directory / "core.txt"
    pins.write_text(_locked(_closure("counterfoil", roots={"counterfoil": needs}) - {"counterfoil"}))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(made.directory)]
    install = ["install", "--quiet", "--no-deps", "--retries", "2", "--timeout", "20"]
    _run(*pip, *install, "--require-hashes", "-r", pins)
    _run(*pip, *install, "--no-index", wheel)
    _run(*pip, "check")
    return made


# ---- how small


def test_the_core_is_at_most_ten_distributions(core: Core) -> None:
    listed = core.tells(
        "import json; from importlib.metadata import distributions as all;"
        "print(json.dumps(sorted(one.metadata['Name'] for one in all())))"
    )
    assert "counterfoil" in listed
    assert len(listed) <= _MOST_OF_THE_CORE, listed


@pytest.mark.parametrize(
    "name",
    ["langchain_core", "langchain", "pydantic", "openai", "aiohttp", "uvicorn", "httptools", "uvloop", "xllamacpp"],
)
def test_what_an_extra_brings_is_not_in_the_core(core: Core, name: str) -> None:
    code = f"import json; from importlib.util import find_spec; print(json.dumps(find_spec({name!r}) is None))"
    assert core.tells(code) is True


def test_the_langchain_extra_adds_at_most_six_distributions_to_langchain_cores_own(needs: list[str]) -> None:
    roots = {"counterfoil": needs}
    langchains = _closure("langchain-core", roots=roots)
    ours = _closure("counterfoil[langchain]", roots=roots)
    assert langchains <= ours
    assert len(ours - langchains) <= _MOST_BESIDE_LANGCHAIN, sorted(ours - langchains)


def test_what_the_extra_needs_is_told_by_what_is_installed() -> None:
    try:
        assert version("langchain-core")
    except PackageNotFoundError:
        pytest.fail("langchain-core belongs to the development dependencies")
    assert {"langchain-core", "pydantic"} <= _closure("langchain-core", roots={})
    assert _closure("a[b]", roots={"a": ["c", "d; extra == 'b'", "e; extra == 'f'"], "c": [], "d": ["a"]}) == {
        "a",
        "c",
        "d",
    }


# ---- what works


def test_importing_it_brings_nothing_of_an_extra_and_little_of_its_own(core: Core) -> None:
    code = (
        "import json, sys; before = set(sys.modules); import counterfoil;"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    loaded = core.tells(code)
    assert "counterfoil" in loaded
    assert [name for name in loaded if name.startswith(("httpcore", "anyio", "asyncio", "yaml", "sqlite3"))] == []


def test_every_name_it_offers_is_there(core: Core) -> None:
    code = "import json, counterfoil as c; print(json.dumps([n for n in c.__all__ if getattr(c, n, None) is None]))"
    assert core.tells(code) == []


def test_the_command_line_works(core: Core) -> None:
    assert "counterfoil meter" in core.works("-m", "counterfoil", "--help") + core.works(
        "-m", "counterfoil", "help", "meter"
    )
    assert "0.15" in core.works("-m", "counterfoil", "prices", "show", "gpt-4o-mini")
    script = core.directory / ("Scripts/counterfoil.exe" if sys.platform == "win32" else "bin/counterfoil")
    assert script.is_file()
    assert core.works("-c", f"import subprocess; subprocess.run([{str(script)!r}, '--version'], check=True)")


def test_a_recorded_reply_is_metered(core: Core, tmp_path: Path) -> None:
    script = ChatReply(text="High.", usage=Counts(input=40, output=17)).script()
    recording = tmp_path / "one.json"
    record = {
        "id": "one",
        "dialect": "openai.chat",
        "provider": "openai",
        "model": "gpt-4o-mini",
        "stream": True,
        "response": {"status": 200, "headers": {"content-type": "text/event-stream"}, "body": script.body.decode()},
    }
    recording.write_text(json.dumps(record))
    told = json.loads(core.works("-m", "counterfoil", "meter", str(recording)))
    assert (told["input_tokens"], told["output_tokens"], told["exit"]) == (40, 17, "completed")


_CALLS: Final = """
import asyncio, json
import counterfoil
from counterfoil.ledger.entry import figures
from counterfoil.testing import ChatReply, Counts, chat_player, running

USAGE = Counts(input=1000, output=100, cache_read=400, reasoning=30)
HELLO = [{"role": "user", "content": "Good morning"}]
said = []


def note(how, reply, text):
    usage, entry = reply.usage, reply.entry
    shown = figures(entry.usage)
    said.append({
        "how": how, "text": text, "exit": entry.exit.value, "provider": entry.opening.provider,
        "usage": [usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens,
                  usage.completion_tokens_details.reasoning_tokens],
        "entry": [shown.input_tokens, shown.output_tokens, shown.cache_read_tokens, shown.reasoning_tokens],
        "cost": [str(reply.cost), str(counterfoil.completion_cost(reply)), str(counterfoil.completion_cost(entry))],
    })


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


async def asynchronous(more):
    async with counterfoil.AsyncClient() as client:
        reply = await client.chat.completions.create(**more)
        note("async", reply, reply.choices[0].message.content)
        stream = await client.chat.completions.create(stream=True, **more)
        note("async stream", stream, text_of([chunk async for chunk in stream]))
    reply = await counterfoil.acompletion(**more)
    note("acompletion", reply, reply.choices[0].message.content)


with running() as provider:
    provider.default = chat_player(ChatReply(text="At noon.", usage=USAGE))
    more = {"model": "gpt-4o-mini", "custom_llm_provider": "openai", "messages": HELLO, "api_key": "sk-play",
            "base_url": provider.base_url}
    with counterfoil.meter() as meter:
        with counterfoil.Client() as client:
            reply = client.chat.completions.create(**more)
            note("sync", reply, reply.choices[0].message.content)
            stream = client.chat.completions.create(stream=True, **more)
            note("sync stream", stream, text_of(list(stream)))
        reply = counterfoil.completion(**more)
        note("completion", reply, reply.choices[0].message.content)
        asyncio.run(asynchronous(more))
    print(json.dumps({"said": said, "entries": len(meter.entries), "input": meter.usage.input_tokens,
                      "cost": str(meter.cost), "served": len(provider.served)}))
"""


def test_calls_are_made_counted_and_priced(core: Core) -> None:
    told = core.tells(_CALLS)
    ways = ["sync", "sync stream", "completion", "async", "async stream", "acompletion"]
    assert [one["how"] for one in told["said"]] == ways
    assert {one["text"] for one in told["said"]} == {"At noon."}
    assert {one["exit"] for one in told["said"]} == {"completed"}
    assert {one["provider"] for one in told["said"]} == {"openai"}
    assert [one["usage"] for one in told["said"]] == [[1000, 100, 400, 30]] * len(ways)
    assert [one["entry"] for one in told["said"]] == [[1000, 100, 400, 30]] * len(ways)
    # 600 at 0.15, 400 from the cache at 0.075, 100 at 0.60 USD a million.
    assert {float(cost) for one in told["said"] for cost in one["cost"]} == {0.00018}
    assert float(told["cost"]) == pytest.approx(6 * 0.00018, abs=1e-15)
    assert (told["entries"], told["served"], told["input"]) == (6, 6, 6000)


def test_what_an_extra_brings_is_asked_for_by_its_name(core: Core) -> None:
    done = core.python("-m", "counterfoil", "serve")
    assert done.returncode != 0
    assert "counterfoil[server]" in done.stderr
    assert "Traceback" not in done.stderr
    done = core.python("-c", "import counterfoil.langchain")
    assert "counterfoil[langchain]" in done.stderr
