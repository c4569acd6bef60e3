"""Headers that belong to a dialect go to a provider that speaks it and to nobody else, and none is a credential."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from counterfoil.core.error import RequestError
from counterfoil.dialects.dialect import ClientDialect, Quirks
from counterfoil.dialects.registry import CLIENT_DIALECTS, DIALECTS
from counterfoil.driver.sending import sending_of
from counterfoil.exchange.call import HEADER_LIMIT, Call, carried_headers
from counterfoil.exchange.command import Post, Start
from counterfoil.exchange.route import Deployment
from counterfoil.testing import chat_reply, messages_reply
from tests.exchange.world import CHAT, MESSAGES, World, call, deployment, played

CLIENT = {
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "claude-code-20250219,something-nobody-knows-2031-01-01",
    "authorization": "Bearer of-the-gateway",
    "x-api-key": "of-the-gateway",
    "cookie": "a=b",
    "openai-organization": "org-of-somebody",
    "openai-project": "proj-of-somebody",
    "x-goog-user-project": "somebody",
    "user-agent": "claude-cli/2",
}
SECRETS = {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"}
WHO_PAYS = {"openai-organization", "openai-project", "x-goog-user-project"}


def said(name: str) -> str:
    return CLIENT.get(name, "")


def asked(*deployments: Deployment, **headers: str) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return msgspec.structs.replace(call(*deployments, dialect=MESSAGES), headers=named)


def posted(client_call: Call) -> World:
    plan = messages_reply if client_call.route.deployments[0].dialect is MESSAGES else chat_reply
    world = World(played(plan(text="Owl.")))
    world.run(client_call)
    return world


def sent(post: Post) -> dict[str, str]:
    return dict(sending_of(post, "http://play.test", "sesame", 0.0).headers)


def with_headers(row: dict[str, str], own: dict[str, str]) -> Deployment:
    made = deployment(MESSAGES)
    return msgspec.structs.replace(made, provider=msgspec.structs.replace(made.provider, headers=row), headers=own)


@pytest.mark.parametrize("dialect", CLIENT_DIALECTS.values(), ids=lambda dialect: dialect.name)
def test_no_dialect_carries_a_credential_or_what_says_who_pays(dialect: ClientDialect[Any]) -> None:
    assert not {*dialect.carried_headers} & (SECRETS | WHO_PAYS)
    assert all(name == name.lower() for name in dialect.carried_headers)
    assert dialect.listed_headers <= {*dialect.carried_headers}


def test_only_the_dialects_own_headers_are_taken_from_a_request() -> None:
    assert carried_headers(MESSAGES, said) == {name: CLIENT[name] for name in ("anthropic-version", "anthropic-beta")}
    assert carried_headers(DIALECTS["anthropic_messages.count"], said) == carried_headers(MESSAGES, said)  # type: ignore[arg-type]  # a client dialect
    assert carried_headers(CHAT, said) == {}
    assert carried_headers(CLIENT_DIALECTS["gemini"], said) == {}


@pytest.mark.parametrize("value", ["x" * (HEADER_LIMIT + 1), "tab\tinside", "naïve"])
def test_a_value_no_header_should_have_is_the_clients_mistake(value: str) -> None:
    with pytest.raises(RequestError) as error:
        carried_headers(MESSAGES, lambda name: value)
    assert error.value.failure.param == "anthropic-version"


def test_unknown_betas_go_out_to_a_provider_of_the_dialect() -> None:
    world = posted(
        asked(deployment(MESSAGES), anthropic_beta="nobody-knows-2031-01-01", anthropic_version="2024-01-01")
    )
    (post,) = [command for command in world.log if isinstance(command, Post)]
    headers = sent(post)
    assert headers["anthropic-beta"] == "nobody-knows-2031-01-01"
    assert headers["anthropic-version"] == "2024-01-01"
    (start,) = [command for command in world.log if isinstance(command, Start)]
    assert "x-counterfoil-dropped" not in start.headers


def test_the_clients_version_goes_before_the_rows_and_the_operators_before_both() -> None:
    row = {"anthropic-version": "2023-06-01"}
    for own, expected in (({}, "2024-01-01"), ({"anthropic-version": "2025-01-01"}, "2025-01-01")):
        post = Post(with_headers(row, own), "/x", b"{}", False, 1.0, 0.0, {"anthropic-version": "2024-01-01"})
        assert sent(post)["anthropic-version"] == expected
    plain = Post(with_headers(row, {}), "/x", b"{}", False, 1.0, 0.0)
    assert sent(plain)["anthropic-version"] == "2023-06-01"


def test_of_a_list_the_rows_the_operators_and_the_clients_entries_go_out_once_each() -> None:
    made = with_headers({"anthropic-beta": "row-1"}, {"anthropic-beta": "own-1, both-1"})
    post = Post(made, "/x", b"{}", False, 1.0, 0.0, {"anthropic-beta": "both-1,client-1, ,client-1"})
    assert sent(post)["anthropic-beta"] == "row-1,own-1,both-1,client-1"


def test_a_clients_header_never_takes_the_place_of_the_secret() -> None:
    post = Post(deployment(MESSAGES), "/x", b"{}", False, 1.0, 0.0, {"anthropic-beta": "a"})
    assert sent(post)["authorization"] == "Bearer sesame"


def test_where_the_dialect_is_crossed_a_header_that_asks_for_something_is_named() -> None:
    world = posted(asked(deployment(), anthropic_beta="context-1m-2025-08-07", anthropic_version="2023-06-01"))
    (post,) = [command for command in world.log if isinstance(command, Post)]
    assert post.headers == {}
    (start,) = [command for command in world.log if isinstance(command, Start)]
    assert start.headers["x-counterfoil-dropped"] == "anthropic-beta"


def test_a_header_the_provider_refuses_is_left_out_and_named() -> None:
    quirks = Quirks(unsupported=frozenset({"anthropic-beta"}))
    world = posted(asked(deployment(MESSAGES, quirks=quirks), anthropic_beta="a-1", anthropic_version="2023-06-01"))
    (post,) = [command for command in world.log if isinstance(command, Post)]
    assert post.headers == {"anthropic-version": "2023-06-01"}
    (start,) = [command for command in world.log if isinstance(command, Start)]
    assert start.headers["x-counterfoil-dropped"] == "anthropic-beta"
