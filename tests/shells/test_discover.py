"""Without any configuration, what is there is found, quickly, and nothing else is taken for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec
import pytest

from counterfoil.config import Config
from counterfoil.driver.deployment import load_table
from counterfoil.driver.discover import Discovered, Found, discover
from counterfoil.driver.resolve import Resolver
from counterfoil.providers.provider import Provider
from counterfoil.transport.secret import SecretStore

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def table(**probes: str) -> Mapping[str, Provider]:
    """The shipped table, with probes where the test listens and nowhere else."""
    moved = {name: probes.get(name) for name, row in load_table().items() if row.probe}
    return {
        name: msgspec.structs.replace(row, probe=moved[name]) if name in moved else row
        for name, row in load_table().items()
    }


def answering(answer: bytes, *, hold: bool = False) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if hold:
            await reader.read()  # until the other side gives up
        writer.close()

    return handle


def reply(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode() + body


async def looking(handler: Handler, environ: Mapping[str, str], within: float = 5.0) -> Discovered:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        return await discover(table(ollama=f"http://127.0.0.1:{port}/v1/models"), environ, within=within)


def test_a_provider_is_found_by_its_secret() -> None:
    async def run() -> Discovered:
        return await discover(table(), {"OPENAI_API_KEY": "sk-1", "GROQ_API_KEY": "  ", "HOME": "/"})

    (found,) = asyncio.run(run()).found
    assert (found.provider, found.how, found.detail, found.variable) == (
        "openai",
        "environment",
        "OPENAI_API_KEY",
        "OPENAI_API_KEY",
    )
    assert "sk-1" not in repr(found)


def test_a_secret_without_an_address_is_not_enough() -> None:
    async def run(environ: dict[str, str]) -> set[str]:
        return {found.provider for found in (await discover(table(), environ)).found}

    key = {"AZURE_OPENAI_API_KEY": "k"}
    assert asyncio.run(run(key)) == set()
    placed = {**key, "AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com"}
    assert "azure-openai" in asyncio.run(run(placed))


def test_the_embedded_model_is_found_when_it_is_installed() -> None:
    async def run() -> Discovered:
        return await discover(table(), {}, embedded_model=lambda: "tiny-model")

    assert asyncio.run(run()).found == (
        Found("local", "The embedded model", "embedded", "tiny-model", ("tiny-model",)),
    )


def test_a_server_on_this_machine_is_found_with_its_models() -> None:
    body = b'{"object":"list","data":[{"id":"qwen3:8b"},{"id":"gemma3:1b","owned_by":"x"},{"id":"qwen3:8b"}]}'
    (found,) = asyncio.run(looking(answering(reply(body)), {})).found
    assert (found.provider, found.how, found.models) == ("ollama", "answers", ("qwen3:8b", "gemma3:1b"))
    resolver = Resolver(Config(), SecretStore(), {}, discovered=Discovered((found,)))
    assert resolver.resolve("qwen3:8b").deployments[0].base_url == "http://127.0.0.1:11434"


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"<html>hello</html>"),
        reply(b'{"data": 5}'),
        reply(b"\xff\xfe"),
        reply(b'{"data":[{"id":"x"}]}', "404 Not Found"),
        reply(b"", "302 Found", "location: http://127.0.0.1:9/\r\n"),
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{",
        reply(b'{"data":["' + b"x" * (1 << 20) + b'"]}'),
    ],
)
def test_whatever_else_listens_there_is_nothing_to_us(answer: bytes) -> None:
    assert asyncio.run(looking(answering(answer), {})).found == ()


def test_a_server_that_does_not_answer_is_not_waited_for() -> None:
    assert asyncio.run(looking(answering(b"HTTP/1.1 200 OK\r\n", hold=True), {}, within=0.05)).found == ()


def test_a_port_where_nobody_listens_is_no_error() -> None:
    async def run() -> Discovered:
        server = await asyncio.start_server(answering(b""), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        return await discover(table(lmstudio=f"http://127.0.0.1:{port}/v1/models"), {})

    assert asyncio.run(run()).found == ()


def test_a_secret_without_a_region_is_not_enough_where_regions_are_addresses() -> None:
    async def run(environ: dict[str, str]) -> set[str]:
        return {found.provider for found in (await discover(table(), environ)).found}

    key = {"AWS_BEARER_TOKEN_BEDROCK": "k"}
    assert "bedrock" not in asyncio.run(run(key))
    assert "bedrock" in asyncio.run(run({**key, "AWS_REGION": "eu-west-1"}))
