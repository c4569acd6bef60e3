"""What is listed can be asked for. What providers list is got in the background, bounded, and its failures shown."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
import pytest

from counterfoil.cli.command import main
from counterfoil.config import Config, DeploymentConfig
from counterfoil.driver.deployment import load_table
from counterfoil.driver.discover import Discovered, Found
from counterfoil.driver.listing import AGAIN, ANSWER_LIMIT, AT_ONCE, KEPT_SECONDS, Asked, Catalogue, Listed, log_change
from counterfoil.driver.resolve import Resolver
from counterfoil.providers.listing import MODELS_LIMIT, Shape, read_names
from counterfoil.testing import CATALOGUE, Playback, running
from counterfoil.transport.http import AiohttpTransport
from counterfoil.transport.secret import SecretStore
from counterfoil.transport.transport import Broken, Cut, Unreachable, Upstream
from tests.shells.gateway import SECONDS, RunningGateway, gateway

SECRET = "sk-made-up-for-a-test"
DISCOVERING = "discover: true\nlisten: {port: 0, drain: 5}\nretries: {attempts: 1}\n"


def found(*providers: str) -> Discovered:
    table = load_table()
    names = {name: table[name].secret_env[0] for name in providers}
    return Discovered(tuple(Found(name, name, "environment", key, (), key) for name, key in names.items()))


def environ(*providers: str, **more: str) -> dict[str, str]:
    return {load_table()[name].secret_env[0]: SECRET for name in providers} | more


def resolver(*providers: str, config: Config | None = None, **more: str) -> Resolver:
    return Resolver(config or Config(), SecretStore(), environ(*providers, **more), discovered=found(*providers))


def ids(*names: str) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()


class Body:
    """An answer without a socket."""

    def __init__(self, data: bytes, status: int = 200, *, fails: Exception | None = None) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}
        self.over = ""
        self._pieces = [data[place : place + 65536] for place in range(0, len(data), 65536)]
        self._fails = fails

    async def read(self) -> bytes:
        if not self._pieces and self._fails is not None:
            raise self._fails
        return self._pieces.pop(0) if self._pieces else b""

    def finish(self) -> None:
        self.over = "finished"

    def abort(self) -> None:
        self.over = "aborted"


class Said:
    """A transport that answers as told: by the host in the URL."""

    def __init__(self, **answers: Callable[[], Body]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.bodies: list[Body] = []
        self.gate: asyncio.Event | None = None
        self.most = self.open = 0

    async def get(self, url: str, headers: Mapping[str, str], *, connect: float) -> Upstream:
        self.asked.append((url, headers))
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            if self.gate is not None:
                await self.gate.wait()
            self.bodies.append(self.answers[url.split("/")[2].partition(".")[0]]())
        finally:
            self.open -= 1
        return self.bodies[-1]


def way(name: str, secret: str | None = "KEY") -> Asked:
    return Asked(name, f"https://{name}.example/v1/models", "ids", secret=secret)


def catalogue(said: Said, *names: str, clock: Callable[[], float] = lambda: 0.0, **more: Any) -> Catalogue:
    made = Catalogue(said, {"KEY": SECRET}.get, clock=clock, **more)
    made.follow([way(name) for name in names])
    return made


# ---- reading lists


@pytest.mark.parametrize(
    ("shape", "body", "names"),
    [
        ("ids", {"data": [{"id": "a", "owned_by": "x"}, {"id": "b"}]}, ("a", "b")),
        (
            "ids",
            {"data": [{"type": "model", "id": "claude-x"}], "has_more": False, "first_id": "claude-x"},
            ("claude-x",),
        ),
        ("array", [{"id": "meta/x", "type": "chat"}, {"id": "y"}], ("meta/x", "y")),
        ("gemini", {"models": [{"name": "models/gemini-x", "version": "1"}], "nextPageToken": "t"}, ("gemini-x",)),
        ("named", {"models": [{"name": "qwen3:8b", "model": "qwen3:8b", "size": 5}]}, ("qwen3:8b",)),
        ("named", {"models": [{"name": "command-x", "endpoints": ["chat"]}]}, ("command-x",)),
        ("ids", {"data": []}, ()),
        ("ids", {"data": [{"id": "a"}, {"id": "a"}, {"id": ""}, {"id": "b\n"}, {"id": "c" * 300}]}, ("a",)),
    ],
)
def test_each_shape_of_a_list_is_read(shape: Shape, body: object, names: tuple[str, ...]) -> None:
    assert read_names(shape, json.dumps(body).encode()).models == names


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"5",
        b'{"data":5}',
        b'{"data":[{}]}',
        b'{"models":[]}',
        b"\xff",
        b'{"data":[],"x":%b%b}' % (b"[" * 9999, b"]" * 9999),
    ],
)
def test_what_is_no_list_is_an_error_and_never_an_empty_list(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        read_names("ids", body)


def test_a_long_list_is_cut_and_says_by_how_much() -> None:
    read = read_names("ids", ids(*(f"m-{number}" for number in range(MODELS_LIMIT + 7))))
    assert (len(read.models), read.left_off) == (MODELS_LIMIT, 7)


# ---- whom to ask


def test_providers_that_were_found_are_asked_at_their_address_with_their_own_secret() -> None:
    ways = {one.provider: one for one in resolver("openai", "anthropic", "together", "perplexity").asked()}
    assert ways["openai"].url == "https://api.openai.com/v1/models"
    assert ways["anthropic"].url == "https://api.anthropic.com/v1/models?limit=1000"
    assert ways["anthropic"].headers == {"anthropic-version": "2023-06-01"}
    assert ways["together"].shape == "array"
    assert {one.secret for one in ways.values()} == {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TOGETHER_API_KEY"}
    assert "perplexity" not in ways  # its row knows of no list


def test_a_provider_that_was_moved_is_asked_where_it_is_now() -> None:
    (way,) = resolver("openai", OPENAI_BASE_URL="http://127.0.0.1:9999/v1").asked()
    assert way.url == "http://127.0.0.1:9999/v1/models"


def test_nobody_is_asked_where_only_what_is_configured_can_be_reached() -> None:
    config = Config(models={"m": (DeploymentConfig(provider="openai", model="gpt-4o-mini"),)})
    names = Resolver(config, SecretStore(), environ("openai"))
    assert names.asked() == ()
    assert [one.name for one in names.listed([Listed("openai", "listed", ("gpt-4o",))])] == ["m"]


# ---- what is listed can be asked for


def test_what_providers_list_follows_what_is_configured_and_each_name_can_be_asked_for() -> None:
    config = Config(
        models={
            "assistant": (DeploymentConfig(provider="openai", model="gpt-4o-mini"),),
            "openai/taken": (DeploymentConfig(provider="openai", model="gpt-4o"),),
        },
        discover=True,
    )
    names = resolver("openai", "openrouter", config=config)
    lists = [
        Listed("openai", "listed", ("gpt-4o-mini", "taken", "gpt-5", "x" * 250)),
        Listed("openrouter", "failed", ("openai/gpt-5",), problem="HTTP 500"),
        Listed("nobody", "listed", ("m",)),
    ]
    shown = [one.name for one in names.listed(lists)]
    assert shown == ["assistant", "openai/taken", "openai/gpt-4o-mini", "openai/gpt-5", "openrouter/openai/gpt-5"]
    for name in shown:
        assert names.resolve(name).deployments
    assert names.resolve("openrouter/openai/gpt-5").deployments[0].model == "openai/gpt-5"


def test_a_name_that_would_mean_two_places_is_not_listed() -> None:
    config = Config(
        models={
            "near": (DeploymentConfig(provider="openai", model="gpt-5"),),
            "far": (DeploymentConfig(provider="openai", model="gpt-5", base_url="https://eu.api.openai.com/v1"),),
        },
        discover=True,
    )
    names = resolver("openai", config=config)
    assert [one.name for one in names.listed([Listed("openai", "listed", ("gpt-5",))])] == ["near", "far"]


def test_what_a_server_on_this_machine_listed_at_the_start_is_not_shown_twice() -> None:
    ollama = Found("ollama", "Ollama", "answers", "http://127.0.0.1:11434/v1", ("qwen3:8b",))
    names = Resolver(Config(), SecretStore(), {}, discovered=Discovered((ollama,)))
    listed = names.listed([Listed("ollama", "listed", ("qwen3:8b", "pulled:later"))])
    assert [one.name for one in listed] == ["qwen3:8b", "ollama/pulled:later"]


# ---- asking


def test_a_list_is_asked_for_with_the_secret_and_kept() -> None:
    now = [0.0]
    said = Said(harbour=lambda: Body(ids("tide-1", "tide-2")))

    async def run() -> tuple[Listed, ...]:
        kept = catalogue(said, "harbour", clock=lambda: now[0])
        assert [one.state for one in kept.lists()] == ["asking"]
        await kept.refresh()
        now[0] = KEPT_SECONDS - 1
        await kept.refresh()
        assert len(said.asked) == 1
        now[0] = KEPT_SECONDS
        await kept.refresh()
        assert len(said.asked) == 2
        return kept.lists()

    assert asyncio.run(run()) == (Listed("harbour", "listed", ("tide-1", "tide-2")),)
    assert said.asked[0][1]["authorization"] == f"Bearer {SECRET}"
    assert [body.over for body in said.bodies] == ["finished", "finished"]


def broken(error: Exception) -> Callable[[], Body]:
    def answer() -> Body:
        raise error

    return answer


LEAKING = json.dumps({"error": {"message": f"Incorrect API key provided: {SECRET}"}}).encode()
FAILURES: dict[str, tuple[Callable[[], Body], str]] = {
    "a refused secret": (lambda: Body(LEAKING, 401), "HTTP 401: KEY was refused"),
    "an error": (lambda: Body(LEAKING, 503), "HTTP 503"),
    "a redirect": (lambda: Body(b"", 302), "HTTP 302"),
    "a page": (lambda: Body(b"<html>" + SECRET.encode()), "its answer is no list of models"),
    "too much": (lambda: Body(b" " * (ANSWER_LIMIT + 1)), "its list is longer than 8 MiB"),
    "a cut": (lambda: Body(b"{", fails=Cut("cut")), "the connection broke"),
    "a break": (broken(Broken("broke")), "the connection broke"),
    "nobody there": (broken(Unreachable("the connection was refused")), "the connection was refused"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_list_that_does_not_come_says_why_and_quotes_nothing(case: str, caplog: pytest.LogCaptureFixture) -> None:
    answer, problem = FAILURES[case]
    caplog.set_level(logging.INFO, "counterfoil.listing")
    said = Said(harbour=answer, haven=lambda: Body(ids("m")))

    async def run() -> tuple[Listed, ...]:
        kept = catalogue(said, "harbour", "haven", changed=log_change)
        await kept.refresh()
        return kept.lists()

    lists = asyncio.run(run())
    assert lists == (Listed("harbour", "failed", problem=problem), Listed("haven", "listed", ("m",)))
    assert f"harbour could not be asked for its models: {problem}" in caplog.messages
    assert "haven lists 1 models" in caplog.messages
    assert SECRET not in caplog.text + repr(lists)
    assert all(body.over for body in said.bodies), "a connection was neither given back nor dropped"


def test_one_list_that_cannot_be_read_for_a_reason_of_ours_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Body:
        raise RuntimeError("sk-quoted")

    said = Said(harbour=broken, quay=lambda: Body(ids("tide-1")))

    async def run() -> None:
        kept = catalogue(said, "harbour", "quay", changed=log_change)
        await kept.refresh()
        assert [one.state for one in kept.lists()] == ["failed", "listed"]

    asyncio.run(run())
    assert "sk-quoted" not in caplog.text
    assert "RuntimeError" in caplog.text


def test_a_reload_asks_those_again_that_failed_before_and_no_others() -> None:
    said = Said(harbour=lambda: Body(b"", 401), quay=lambda: Body(ids("tide-1")))

    async def run() -> None:
        kept = catalogue(said, "harbour", "quay")
        await kept.refresh()
        said.answers["harbour"] = lambda: Body(ids("tide-2"))
        kept.follow([way("harbour"), way("quay")])  # the secret of the same name is another one now
        await kept.refresh()
        assert [one.models for one in kept.lists()] == [("tide-2",), ("tide-1",)]
        assert len(said.asked) == 3

    asyncio.run(run())


def test_a_list_that_came_once_outlives_a_failure_and_is_asked_for_sooner(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    said = Said(harbour=lambda: Body(ids("tide-1")))
    waited = []

    async def run() -> None:
        kept = catalogue(said, "harbour", clock=lambda: now[0], changed=log_change)
        await kept.refresh()
        said.answers["harbour"] = lambda: Body(b"", 500)
        now[0] += KEPT_SECONDS
        for _ in range(len(AGAIN) + 1):
            await kept.refresh()
            assert kept.lists() == (Listed("harbour", "failed", ("tide-1",), problem="HTTP 500"),)
            asked, before = len(said.asked), now[0]
            while len(said.asked) == asked:
                now[0] += 1.0
                said.answers["harbour"] = lambda: Body(b"", 500)
                await kept.refresh()
            waited.append(now[0] - before)
        said.answers["harbour"] = lambda: Body(ids("tide-2"))
        now[0] += KEPT_SECONDS
        await kept.refresh()
        assert kept.lists() == (Listed("harbour", "listed", ("tide-2",)),)

    asyncio.run(run())
    assert waited == [AGAIN[0], AGAIN[1], AGAIN[2], AGAIN[2]]
    assert sum("could not be asked" in line for line in caplog.messages) == 1


def test_few_are_asked_at_once() -> None:
    names = [f"harbour{number}" for number in range(3 * AT_ONCE)]
    said = Said(**{name: lambda: Body(ids("m")) for name in names})

    async def run() -> int:
        said.gate = asyncio.Event()
        kept = catalogue(said, *names)
        asking = asyncio.create_task(kept.refresh())
        for _ in range(20):
            await asyncio.sleep(0)
        held = said.open
        said.gate.set()
        await asking
        return held

    assert asyncio.run(run()) == AT_ONCE == said.most
    assert len(said.asked) == len(names)


def test_a_provider_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("counterfoil.driver.listing.ASK_SECONDS", 0.02)
    said = Said()

    async def run() -> tuple[Listed, ...]:
        said.gate = asyncio.Event()
        kept = catalogue(said, "harbour")
        await kept.refresh()
        return kept.lists()

    assert asyncio.run(run()) == (Listed("harbour", "failed", problem="no list within 0.02 s"),)


def test_another_configuration_keeps_what_is_known_and_asks_for_the_rest_at_once() -> None:
    said = Said(harbour=lambda: Body(ids("a")), haven=lambda: Body(ids("b")))
    came: asyncio.Queue[str]

    async def run() -> tuple[Listed, ...]:
        nonlocal came
        came = asyncio.Queue()
        kept = catalogue(said, "harbour", changed=lambda before, now: came.put_nowait(now.provider))
        task = asyncio.create_task(kept.run())
        try:
            async with asyncio.timeout(SECONDS):
                assert await came.get() == "harbour"
                kept.follow([way("harbour"), way("haven")])
                assert await came.get() == "haven"
                kept.follow([way("haven")])
                return kept.lists()
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    assert asyncio.run(run()) == (Listed("haven", "listed", ("b",)),)
    assert len(said.asked) == 2


# ---- over real sockets


def listing(served: RunningGateway, ready: Callable[[Any], bool]) -> Any:
    """`GET /v1/models` once it is as wanted."""
    for _ in range(int(SECONDS / 0.02)):
        answer = served.get("/v1/models").json
        if ready(answer):
            return answer
        served.thread.join(0.02)
    raise AssertionError(answer)


def settled(answer: Any) -> bool:
    return all(one["state"] != "asking" for one in answer["counterfoil"]["listings"])


def test_a_gateway_lists_what_its_providers_do_and_a_listed_name_is_answered(tmp_path: Path) -> None:
    with running(Playback(models=CATALOGUE)) as provider:
        env = environ("openai", "anthropic", OPENAI_BASE_URL=provider.base_url, ANTHROPIC_BASE_URL="http://127.0.0.1:9")
        with gateway(tmp_path, text=DISCOVERING, environ=env) as served:
            answer = listing(served, settled)
            names = [one["id"] for one in answer["data"]]
            assert set(names) >= {f"openai/{name}" for name in CATALOGUE}
            lists = {one["provider"]: one for one in answer["counterfoil"]["listings"]}
            assert (lists["openai"]["state"], lists["openai"]["models"]) == ("listed", len(CATALOGUE))
            assert (lists["openai"]["left_off"], lists["openai"]["problem"]) == (0, None)
            assert (lists["anthropic"]["state"], lists["anthropic"]["models"]) == ("failed", 0)
            assert lists["anthropic"]["problem"] == "the connection was refused"
            assert SECRET not in json.dumps(answer)
            name = f"openai/{next(iter(CATALOGUE))}"
            assert served.get(f"/v1/models/{name}").json["id"] == name
            assert served.chat(name).status == 200
            assert (served.entry().opening.route, served.entry().opening.provider) == (name, "openai")
            with openai.OpenAI(base_url=served.base_url, api_key="sk-any", max_retries=0, timeout=SECONDS) as client:
                page = client.models.list()
                assert [one.id for one in page] == names
                assert client.models.retrieve(name).owned_by == "openai"


def test_a_request_waits_for_no_list(tmp_path: Path) -> None:
    """A provider that accepts the question and never answers it."""

    async def stand() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        env = environ("openai", OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
        async with server:
            await asyncio.to_thread(ask, env)

    def ask(env: Mapping[str, str]) -> None:
        with gateway(tmp_path, text=DISCOVERING, environ=env) as served:
            answer = served.get("/v1/models").json
            assert [one["state"] for one in answer["counterfoil"]["listings"]] == ["asking"]
            assert served.stop() == 0

    asyncio.run(stand())


def test_a_configured_gateway_shows_its_routes_and_asks_nobody(tmp_path: Path) -> None:
    with running() as provider:
        env = environ("openai", OPENAI_BASE_URL=provider.base_url)
        with gateway(tmp_path, {"m": provider.base_url}, environ=env) as served:
            answer = served.get("/v1/models").json
    assert [one["id"] for one in answer["data"]] == ["m"]
    assert "counterfoil" not in answer


def test_a_reload_follows_what_is_found_then(tmp_path: Path) -> None:
    with running(Playback(models=CATALOGUE)) as provider:
        env = environ("openai", OPENAI_BASE_URL=provider.base_url)
        with gateway(tmp_path, {"m": provider.base_url}, environ=env) as served:
            assert "counterfoil" not in served.get("/v1/models").json
            served.config_path.write_text(DISCOVERING)
            assert served.post({}, "/admin/reload").status == 200
            answer = listing(served, lambda one: "counterfoil" in one and settled(one))
    assert f"openai/{next(iter(CATALOGUE))}" in [one["id"] for one in answer["data"]]


def test_a_list_is_got_over_http_with_its_query() -> None:
    async def run(origin: str) -> tuple[Listed, ...]:
        transport = AiohttpTransport()
        kept = Catalogue(transport, {"KEY": SECRET}.get)
        kept.follow([Asked("harbour", f"{origin}/v1/models?limit=1000", "ids", secret="KEY")])
        try:
            await kept.refresh()
        finally:
            await transport.close()
        return kept.lists()

    with running(Playback(models=CATALOGUE)) as provider:
        (listed,) = asyncio.run(run(provider.origin))
    assert listed.models == tuple(CATALOGUE)


# ---- the command


def said_by(capsys: pytest.CaptureFixture[str], arguments: Sequence[str]) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def found_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for row in load_table().values():
        for name in (*row.secret_env, *row.base_url_env):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COUNTERFOIL_DATA_DIR", str(tmp_path))
    with running(Playback(models=CATALOGUE)) as provider:
        for name, value in environ(
            "openai", "anthropic", OPENAI_BASE_URL=provider.base_url, ANTHROPIC_BASE_URL="http://127.0.0.1:9"
        ).items():
            monkeypatch.setenv(name, value)
        yield provider


def test_the_command_says_how_many_each_provider_lists_and_who_could_not_be_asked(
    found_here: Playback, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = said_by(capsys, ["models"])
    assert code == 0
    assert f"OpenAI (OPENAI_API_KEY): any of its models, as openai/NAME; it lists {len(CATALOGUE)}" in out
    assert "Anthropic (ANTHROPIC_API_KEY): any of its models, as anthropic/NAME\n" in out
    assert "anthropic could not be asked for its models: the connection was refused" in err
    assert SECRET not in out + err


def test_the_command_shows_the_names_that_hold_a_word(found_here: Playback, capsys: pytest.CaptureFixture[str]) -> None:
    first = next(iter(CATALOGUE))
    code, out, _ = said_by(capsys, ["models", f"OpenAI/{first}"])
    assert code == 0
    assert out.split()[:2] == ["model", "served"]
    assert set(out.splitlines()[1].split()) == {f"openai/{first}"}
    assert said_by(capsys, ["models", "no-such-name"])[0] == 1
    code, out, _ = said_by(capsys, ["models", "--json"])
    assert {f"openai/{name}" for name in CATALOGUE} <= {json.loads(line)["name"] for line in out.splitlines()}


def test_the_command_asks_nobody_when_it_is_told_so(found_here: Playback, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = said_by(capsys, ["models", "--offline"])
    assert code == 0
    assert "it lists" not in out
    assert "could not be asked" not in err
    assert found_here.visits == []
