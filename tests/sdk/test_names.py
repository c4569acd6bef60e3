"""A model is found by address, by route, by provider or by its own name; what could mean two things is an error."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import counterfoil
from counterfoil.config import Config, DeploymentConfig
from counterfoil.driver.deployment import load_table
from counterfoil.driver.resolve import ModelAmbiguous, ModelNotFound, Resolver
from counterfoil.ledger.entry import Exit
from counterfoil.local import MODEL_NAME, Weights
from counterfoil.sdk.names import Names, Wanted
from counterfoil.testing import ChatReply, Counts, Playback, chat_player, error_answer
from counterfoil.transport.secret import SecretStore
from tests.sdk.support import HELLO, WAYS, Way, ask, provider_in_environment
from tests.shells.gateway import gateway

__all__: list[str] = []

each_way = pytest.mark.parametrize("way", WAYS, ids=str)


@each_way
@pytest.mark.parametrize(
    ("model", "call"),
    [
        ("openai/gpt-4o-mini", {}),
        ("gpt-4o-mini", {}),
        ("gpt-4o-mini", {"custom_llm_provider": "openai"}),
        ("openai/gpt-4o-mini", {"custom_llm_provider": "openai"}),
    ],
    ids=["provider and model", "a bare name", "a provider apart", "both"],
)
def test_a_provider_of_the_table_is_reached_with_its_own_secret_and_priced(
    way: Way, model: str, call: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with provider_in_environment(monkeypatch) as provider:
        asked = ask(way, {}, model=model, **call)
        assert asked.error is None
        assert provider.served[0].model == "gpt-4o-mini"
        assert provider.served[0].headers["authorization"] == "Bearer sk-play-000001"
    entry = asked.entry
    assert entry is not None
    assert (entry.opening.provider, entry.opening.model, entry.opening.route) == ("openai", "gpt-4o-mini", model)
    assert asked.cost is not None
    assert asked.cost > 0
    assert asked.reply is not None
    assert asked.reply.model == model


@each_way
def test_an_address_takes_the_name_as_it_is(way: Way, provider: Playback) -> None:
    asked = ask(way, {}, base_url=provider.base_url, model="some/thing/of-theirs")
    assert provider.served[0].model == "some/thing/of-theirs"
    assert asked.entry is not None
    assert asked.entry.opening.provider == "gateway"


@pytest.mark.parametrize("name", ["base_url", "api_base"])
def test_an_address_with_a_provider_is_that_provider_elsewhere(name: str, provider: Playback) -> None:
    call = {name: provider.origin, "custom_llm_provider": "anthropic", "max_tokens": 5}
    asked = ask(WAYS[0], {"api_key": "sk-own-00001"}, model="anthropic/claude-haiku-4-5", **call)
    assert asked.error is None
    assert provider.served[0].path == "/v1/messages"
    assert provider.served[0].headers["x-api-key"] == "sk-own-00001"
    assert provider.served[0].model == "claude-haiku-4-5"


@each_way
def test_the_environment_names_a_gateway_and_its_key(
    way: Way, provider: Playback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERFOIL_BASE_URL", provider.base_url)
    monkeypatch.setenv("COUNTERFOIL_API_KEY", "cf-key-0001")
    asked = ask(way, {}, model="openai/gpt-4o-mini")
    assert asked.error is None
    assert provider.served[0].model == "openai/gpt-4o-mini"
    assert provider.served[0].headers["authorization"] == "Bearer cf-key-0001"


def test_the_gateways_key_goes_nowhere_else(provider: Playback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUNTERFOIL_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("COUNTERFOIL_API_KEY", "cf-key-0001")
    ask(WAYS[0], {"base_url": provider.base_url})
    assert "authorization" not in provider.served[0].headers


@each_way
def test_a_gateway_counts_the_same_call_in_its_own_books(way: Way, provider: Playback, tmp_path: Path) -> None:
    provider.default = chat_player(ChatReply(usage=Counts(input=40, output=12, cache_read=16)))
    with gateway(tmp_path, models={"m": provider.base_url}) as running:
        asked = ask(way, {"base_url": running.base_url}, model="m")
        (theirs,) = running.entries()
    assert asked.entry is not None
    assert asked.entry.usage == theirs.usage
    assert asked.entry.exit is theirs.exit is Exit.COMPLETED
    assert asked.entry.opening.attempt != theirs.opening.attempt


def configured(tmp_path: Path, provider: Playback, more: str = "") -> Path:
    path = tmp_path / "counterfoil.yaml"
    text = f"""
models:
  house:
    - {{provider: mine, model: play-1, base_url: "{provider.base_url}", api_key: key-of-mine-1}}
  twice:
    - {{provider: mine, model: play-2, base_url: "{provider.base_url}"}}
    - {{provider: other, model: play-2, base_url: "{provider.base_url}"}}
{more}"""
    path.write_text(text)
    return path


@each_way
def test_a_route_of_a_configuration_is_asked_for_by_its_name(way: Way, provider: Playback, tmp_path: Path) -> None:
    asked = ask(way, {"config": configured(tmp_path, provider)}, model="house")
    assert asked.error is None
    assert provider.served[0].model == "play-1"
    assert provider.served[0].headers["authorization"] == "Bearer key-of-mine-1"
    assert asked.entry is not None
    assert (asked.entry.opening.route, asked.entry.opening.provider) == ("house", "mine")


def test_a_configuration_goes_before_the_environments_gateway(
    provider: Playback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERFOIL_BASE_URL", "http://127.0.0.1:9/v1")
    assert ask(WAYS[0], {"config": configured(tmp_path, provider)}, model="house").error is None


def test_the_environment_names_the_configuration_of_clients_that_name_none(
    provider: Playback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERFOIL_CONFIG", str(configured(tmp_path, provider)))
    assert ask(WAYS[0], {}, model="house").error is None


def test_a_key_is_not_given_to_several_places(provider: Playback, tmp_path: Path) -> None:
    settings = {"config": configured(tmp_path, provider), "api_key": "one-key-0001"}
    assert isinstance(ask(WAYS[0], settings, model="twice").error, counterfoil.BadRequestError)
    assert ask(WAYS[0], settings, model="house").error is None
    assert [served.headers["authorization"] for served in provider.served] == ["Bearer one-key-0001"]


def test_what_a_configured_name_could_mean_is_listed(provider: Playback, tmp_path: Path) -> None:
    more = f"""  again:
    - {{provider: mine, model: play-1, base_url: "{provider.base_url}", api_key: another-key-1}}
"""
    error = ask(WAYS[0], {"config": configured(tmp_path, provider, more)}, model="mine/play-1").error
    assert isinstance(error, counterfoil.BadRequestError)
    assert error.code == "model_ambiguous"
    assert "'house'" in error.message
    assert "'again'" in error.message


def test_the_retries_of_a_configured_route_hold_unless_the_call_says_otherwise(
    provider: Playback, tmp_path: Path
) -> None:
    provider.default = error_answer(503)
    path = configured(tmp_path, provider, "retries: {attempts: 1, backoff: 0.01}\n")
    assert isinstance(ask(WAYS[0], {"config": path}, model="house").error, counterfoil.ServiceUnavailableError)
    assert len(provider.served) == 1
    ask(WAYS[0], {"config": path}, model="house", max_retries=2)
    assert len(provider.served) == 4


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("opnai/gpt-4o", "did you mean 'openai'"),
        ("azure/gpt-4o", "did you mean 'azure-openai' or "),
        ("no-such-model", "provider/model"),
        ("n" * 300, "256 printable characters"),
    ],
)
def test_a_name_nobody_knows_is_an_error_with_what_to_do_next(model: str, hint: str) -> None:
    error = ask(WAYS[0], {}, model=model).error
    assert isinstance(error, counterfoil.NotFoundError)
    assert hint in error.message


def test_a_bare_name_that_two_providers_mean_is_an_error_that_lists_them(monkeypatch: pytest.MonkeyPatch) -> None:
    table = dict(load_table())
    table["openrouter"] = msgspec.structs.replace(table["openrouter"], models=("gpt-*",))
    environ: dict[str, str] = {}
    names = Names(Config(), None, environ, lambda _: None, table=table)
    with pytest.raises(ModelAmbiguous) as caught:
        names.route(Wanted(model="gpt-4o"))
    assert caught.value.candidates == ("openai/gpt-4o", "openrouter/gpt-4o")
    environ["OPENROUTER_API_KEY"] = "sk-or-00001"
    (deployment,) = names.route(Wanted(model="gpt-4o")).deployments
    assert deployment.provider.name == "openrouter", "the only one that can be called"


def test_a_model_must_be_text() -> None:
    with counterfoil.Client() as client, pytest.raises(counterfoil.BadRequestError):
        client.chat.completions.create(model=None, messages=HELLO)  # type: ignore[call-overload]  # as callers do


def test_a_provider_that_needs_an_address_says_so() -> None:
    error = ask(WAYS[0], {"api_key": "sk-own-00001"}, model="azure-openai/gpt-4o").error
    assert isinstance(error, counterfoil.BadRequestError)
    assert "base_url" in error.message


def test_a_call_says_its_region_and_its_project_and_a_configured_route_its_own(
    tmp_path: Path, provider: Playback
) -> None:
    environ = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKPLAY", "AWS_SECRET_ACCESS_KEY": "hush"}
    names = Names(Config(), None, environ, lambda _: None)
    (there,) = names.route(Wanted("bedrock/amazon.nova-micro-v1:0", region="eu-west-1")).deployments
    assert (there.region, there.base_url) == ("eu-west-1", "https://bedrock-runtime.eu-west-1.amazonaws.com")
    claude = Wanted("vertex/claude-x", region="us-east5", project="reef", api_key="given")
    (there,) = names.route(claude).deployments
    assert "/projects/reef/locations/us-east5/" in (there.provider.path or "")
    asked = ask(WAYS[0], {"config": configured(tmp_path, provider)}, model="house", region="eu-west-1")
    assert isinstance(asked.error, counterfoil.BadRequestError)
    assert asked.error.param == "region"
    assert not provider.served


def test_a_region_that_nobody_says_is_asked_for_in_words_that_a_call_can_follow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    error = ask(WAYS[0], {"api_key": "sk-own-00001"}, model="vertex/claude-x", region=7).error
    assert isinstance(error, counterfoil.BadRequestError)
    assert error.message == "`region` is text."
    error = ask(WAYS[0], {"api_key": "sk-own-00001"}, model="vertex/claude-x", region="EU/../").error
    assert isinstance(error, counterfoil.BadRequestError)
    assert error.param == "region"
    error = ask(WAYS[0], {}, model="bedrock/amazon.nova-micro-v1:0").error
    assert isinstance(error, counterfoil.BadRequestError)
    assert "needs a region: give its `region`, or set AWS_REGION" in error.message


def test_the_embedded_models_bare_name_leads_to_its_full_one() -> None:
    assert load_table()["local"].try_first == MODEL_NAME
    with pytest.raises(ModelNotFound, match=f"did you mean 'local/{MODEL_NAME}'"):
        Names(Config(), None, {}, lambda _: None).route(Wanted(MODEL_NAME))


def test_another_name_for_the_embedded_model_is_refused_and_never_booked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = Weights(tmp_path / "tiny.gguf", "tiny", 9, "registered")
    monkeypatch.setattr("counterfoil.local.installed", lambda: weights)
    names = Names(Config(), None, {}, lambda _: None)
    assert names.route(Wanted("local/tiny")).deployments[0].model == "tiny"
    config = Config(models={"house": (DeploymentConfig(provider="local", model="llama3"),)})
    configured = Names(config, Resolver(config, SecretStore(), {}), {}, lambda _: None)
    for wanted, found in (("local/llama3", names), ("house", configured)):
        with pytest.raises(ModelNotFound, match="the embedded model is 'tiny', not 'llama3'"):
            found.route(Wanted(wanted))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gpt5", "is not known by its name alone: write `provider/model` (`counterfoil providers` has all), or pass"),
        ("openai/", "is not known: the provider's model stands after the slash, as in 'openai/gpt-4o-mini'"),
        ("antropic/x", "is not known: there is no provider 'antropic'; did you mean 'anthropic'"),
        (
            "q9/x",
            "is not known: there is no provider 'q9'; `counterfoil providers` has all; a base_url is another server",
        ),
    ],
)
def test_an_unknown_name_is_told_what_to_write(model: str, said: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        Names(Config(), None, {}, lambda _: None).route(Wanted(model))
    assert str(caught.value).startswith(f"The model {model!r} {said}")
