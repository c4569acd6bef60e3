"""A client's model name leads to one place, or to an error that says what to do next."""

from __future__ import annotations

import pytest

from counterfoil.config import Config, DeploymentConfig, ListenConfig, RouteConfig, Timeouts
from counterfoil.core.error import FailureKind, RequestError
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import Built, DeploymentError, build_deployment, load_table
from counterfoil.driver.discover import NOTHING_FOUND, Discovered, Found
from counterfoil.driver.resolve import ModelAmbiguous, ModelNotFound, PublicName, Resolver, discovery_wanted
from counterfoil.providers.provider import EMBEDDED
from counterfoil.transport.secret import Secret, SecretStore
from counterfoil.usage.reading import Counter

TABLE = load_table()
KEY = {"OPENAI_API_KEY": "sk-openai-1"}


def built(environ: dict[str, str] | None = None, settings: Config | None = None, **written: object) -> Built:
    config = DeploymentConfig(**{"provider": "openai", "model": "gpt-4o-mini", **written})  # type: ignore[arg-type]
    return build_deployment(config, settings or Config(), TABLE, environ or {})


def found(provider: str, *models: str, variable: str | None = None) -> Found:
    return Found(provider, TABLE[provider].title, "environment" if variable else "answers", "", models, variable)


def discovering(*all_found: Found, environ: dict[str, str] | None = None, config: Config | None = None) -> Resolver:
    return Resolver(config or Config(), SecretStore(), environ or {}, discovered=Discovered(all_found))


def configured(**models: tuple[DeploymentConfig, ...] | RouteConfig) -> Resolver:
    return Resolver(Config(models=models), SecretStore({"k": Secret("v")}), {})


def openai(model: str = "gpt-4o-mini", **more: object) -> DeploymentConfig:
    return DeploymentConfig("openai", model, api_key="k", **more)  # type: ignore[arg-type]


def refusal(resolver: Resolver, name: str) -> RequestError:
    with pytest.raises(RequestError) as caught:
        resolver.resolve(name)
    return caught.value


# ---- a deployment is built -----------------------------------------------------------------------------------------


def test_a_known_provider_needs_its_secret_and_nothing_else() -> None:
    deployment = built(KEY).deployment
    assert deployment.base_url == "https://api.openai.com/v1"
    assert deployment.secret == "OPENAI_API_KEY"
    assert deployment.dialect is DIALECTS["openai_chat"]
    assert deployment.known
    with pytest.raises(DeploymentError, match="set OPENAI_API_KEY"):
        built()


def test_a_written_address_goes_before_the_environments_and_that_before_the_rows() -> None:
    moved = {**KEY, "OPENAI_BASE_URL": "https://proxy.example/v1"}
    assert built(moved).deployment.base_url == "https://proxy.example/v1"
    assert built(moved, base_url="http://127.0.0.1:1/v1", api_key="k").deployment.base_url == "http://127.0.0.1:1/v1"


def test_a_secret_of_the_environment_never_travels_to_another_host() -> None:
    elsewhere = built(KEY, base_url="https://elsewhere.example/v1")
    assert elsewhere.deployment.secret is None
    assert not elsewhere.secrets
    assert "OPENAI_API_KEY is not sent" in elsewhere.warnings[0]
    for url in ("https://api.openai.com.evil.example/v1", "https://evilapi.openai.com/v1", "http://api.openai.com/v1"):
        assert built(KEY, base_url=url).deployment.secret is None
    assert built(KEY, base_url="https://eu.api.openai.com/v1").deployment.secret == "OPENAI_API_KEY"
    assert built(KEY, base_url="https://elsewhere.example/v1", api_key="mine").deployment.secret == "mine"


def test_a_gateway_does_not_follow_the_environment_to_itself() -> None:
    itself = built({**KEY, "OPENAI_BASE_URL": "http://localhost:4000/v1"})
    assert itself.deployment.base_url == "https://api.openai.com/v1"
    assert "this gateway itself" in itself.warnings[0]
    other = built({**KEY, "OPENAI_BASE_URL": "http://localhost:4000/v1"}, Config(listen=ListenConfig(port=4001)))
    assert other.deployment.base_url == "http://localhost:4000/v1"


@pytest.mark.parametrize(
    ("provider", "written", "wanted"),
    [
        ("openai", "https://h.example/v1/", "https://h.example/v1"),
        ("openai", "https://h.example/v1/chat/completions", "https://h.example/v1"),
        ("anthropic", "https://h.example", "https://h.example"),
        ("anthropic", "https://h.example/v1", "https://h.example"),
        ("anthropic", "https://h.example/v1/messages", "https://h.example"),
        ("azure-openai", "https://r.openai.azure.com/openai/v1/", "https://r.openai.azure.com"),
        ("azure-openai", "https://r.openai.azure.com", "https://r.openai.azure.com"),
        ("azure-openai-dated", "https://r.openai.azure.com/openai", "https://r.openai.azure.com"),
        ("azure-ai", "https://r.services.ai.azure.com/models", "https://r.services.ai.azure.com"),
        ("writer", "https://api.writer.com/v1", "https://api.writer.com/v1"),
    ],
)
def test_a_base_url_may_be_written_with_or_without_the_beginning_of_the_path(
    provider: str, written: str, wanted: str
) -> None:
    assert built(provider=provider, model="m", base_url=written, api_key="k").deployment.base_url == wanted


def test_any_compatible_server_is_called_by_its_label() -> None:
    deployment = built(provider="my-box", base_url="http://10.0.0.7:9000/v1").deployment
    assert (deployment.provider.name, deployment.dialect.name) == ("my-box", "openai_chat")
    assert deployment.convention == DIALECTS["openai_chat"].convention
    assert not deployment.known
    assert deployment.secret is None


def test_an_unknown_server_of_the_other_dialect_is_asked_in_that_dialects_way() -> None:
    deployment = built(provider="box", base_url="http://10.0.0.7/v1", dialect="anthropic_messages").deployment
    assert deployment.provider.auth.header == "x-api-key"
    assert deployment.provider.headers == {"anthropic-version": "2023-06-01"}
    assert deployment.quirks.default_max_tokens == 4096
    assert deployment.base_url + str(deployment.provider.path) == "http://10.0.0.7/v1/messages"


def test_a_provider_in_another_dialect_does_not_keep_the_rows_path_or_convention() -> None:
    deployment = built(
        provider="xai", base_url="https://api.x.ai/v1", dialect="anthropic_messages", api_key="k"
    ).deployment
    assert deployment.provider.name == "xai"
    assert deployment.convention == DIALECTS["anthropic_messages"].convention
    with pytest.raises(DeploymentError, match="write its base_url"):
        built(provider="xai", dialect="anthropic_messages", api_key="k")


def test_a_models_rule_reaches_the_deployment() -> None:
    gemini = built(provider="vercel-gateway", model="google/gemini-2.5-flash", api_key="k").deployment
    gpt = built(provider="vercel-gateway", model="openai/gpt-5", api_key="k").deployment
    assert Counter.REASONING not in gemini.convention.output_includes
    assert Counter.REASONING in gpt.convention.output_includes


def test_prices_are_kept_as_written_once_they_can_be_read() -> None:
    assert built(KEY, prices={"input": "0.15", "output": 0.6}).deployment.prices == {"input": "0.15", "output": "0.6"}
    for prices in ({"inptu": "1"}, {"input": "-1"}, {"input": "1e3"}, {"input": float("nan")}):
        with pytest.raises(DeploymentError, match=r"did you mean|rate"):
            built(KEY, prices=prices)


@pytest.mark.parametrize(
    "headers",
    [{"X-Api-Key": "s"}, {"Host": "h"}, {"a b": "c"}, {"x": "a\r\nb: c"}, {"x": "ü"}],
)
def test_a_header_that_is_a_secret_or_no_header_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(DeploymentError) as caught:
        built(KEY, headers=headers)
    assert caught.value.field.startswith("headers.")


@pytest.mark.parametrize("model", ["..", ".", "", "a\nb"])
def test_a_model_name_cannot_change_the_url_it_is_put_into(model: str) -> None:
    with pytest.raises(DeploymentError):
        built(provider="azure-openai-dated", base_url="https://r.example", model=model, api_key="k")


def test_time_limits_are_the_deployments_or_everyones() -> None:
    settings = Config(timeouts=Timeouts(connect=3))
    assert built(KEY, settings).deployment.timeouts.connect == 3
    assert built(KEY, settings, timeouts=Timeouts(connect=1)).deployment.timeouts.connect == 1


# ---- a name is resolved --------------------------------------------------------------------------------------------


def test_a_configured_name_goes_first() -> None:
    resolver = configured(**{"gpt-4o": (openai("gpt-4o-mini"),), "other": (openai("gpt-4o"),)})
    assert resolver.resolve("gpt-4o").deployments[0].model == "gpt-4o-mini"
    assert resolver.names() == (PublicName("gpt-4o", "openai"), PublicName("other", "openai"))


def test_a_route_has_its_own_policy_or_everyones() -> None:
    config = Config(
        models={"a": (openai(),), "b": RouteConfig((openai(),), stream_usage="always", missing_usage="null")},
        missing_usage="error",
    )
    resolver = Resolver(config, SecretStore(), {})
    assert (resolver.resolve("a").stream_usage, resolver.resolve("a").missing_usage) == ("when_asked", "error")
    assert (resolver.resolve("b").stream_usage, resolver.resolve("b").missing_usage) == ("always", "null")


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("perplexity/sonar", "perplexity/sonar"),
        ("perplexity/perplexity/sonar", "perplexity/sonar"),
        ("perplexity/openai/gpt-5.5", "openai/gpt-5.5"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
    ],
)
def test_a_provider_that_calls_its_models_after_itself_is_asked_for_them_as_any_other(asked: str, sent: str) -> None:
    provider, _, model = asked.partition("/")
    environ = {"PERPLEXITY_API_KEY": "p", "OPENAI_API_KEY": "o"}
    assert built(environ, provider=provider, model=model).deployment.model == sent
    everyone = [found(name.partition("_")[0].lower(), variable=name) for name in environ]
    assert discovering(*everyone, environ=environ).resolve(asked).deployments[0].model == sent


def test_the_providers_model_name_works_too_when_only_one_place_serves_it() -> None:
    resolver = configured(fast=(openai(),), safe=(openai(), openai("gpt-4o", timeouts=Timeouts(connect=1))))
    route = resolver.resolve("gpt-4o-mini")
    assert (route.name, route.deployments[0].model) == ("gpt-4o-mini", "gpt-4o-mini")
    assert resolver.resolve("openai/gpt-4o").deployments[0].model == "gpt-4o"


def test_a_name_that_could_mean_two_places_is_an_error_that_lists_them() -> None:
    box = DeploymentConfig("box", "gpt-4o-mini", base_url="http://127.0.0.1:9/v1")
    resolver = configured(fast=(openai(),), mine=(box,))
    error = refusal(resolver, "gpt-4o-mini")
    assert isinstance(error, ModelAmbiguous)
    assert error.failure.status == 400
    assert error.candidates == ("fast", "mine")
    assert resolver.resolve("box/gpt-4o-mini").deployments[0].base_url == "http://127.0.0.1:9/v1"


def test_an_unknown_name_is_not_found_and_the_nearest_is_named() -> None:
    resolver = configured(**{"my-model": (openai(),)})
    error = refusal(resolver, "my-modle")
    assert isinstance(error, ModelNotFound)
    assert (error.failure.status, error.failure.kind) == (404, FailureKind.NOT_FOUND)
    assert error.failure.param == "model"
    assert "did you mean 'my-model'?" in error.failure.message
    assert "GET /v1/models" in refusal(resolver, "zzzzzz").failure.message


@pytest.mark.parametrize("name", ["", "x" * 300, "a\nb", "a\x00b"])
def test_a_name_nobody_could_have_is_not_found(name: str) -> None:
    assert refusal(configured(m=(openai(),)), name).failure.status == 404


def test_what_is_not_configured_is_not_served_beside_what_is() -> None:
    resolver = Resolver(Config(models={"m": (openai(),)}), SecretStore(), KEY)
    assert refusal(resolver, "openai/gpt-5").failure.status == 404
    assert refusal(resolver, "gpt-5").failure.status == 404


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (Config(), True),
        (Config(discover=False), False),
        (Config(models={"m": (openai(),)}), False),
        (Config(models={"m": (openai(),)}, discover=True), True),
    ],
)
def test_discovery_is_for_those_who_configured_nothing_or_asked_for_it(config: Config, wanted: bool) -> None:
    assert discovery_wanted(config) is wanted


def test_a_found_provider_serves_its_own_models_and_any_by_its_name() -> None:
    resolver = discovering(found("openai", variable="OPENAI_API_KEY"), environ=KEY)
    assert resolver.resolve("gpt-4o-mini").deployments[0].provider.name == "openai"
    assert resolver.resolve("openai/whatever").deployments[0].model == "whatever"
    assert resolver.secrets.reveal("OPENAI_API_KEY") == "sk-openai-1"
    assert refusal(resolver, "claude-sonnet-4-6").failure.message.endswith(
        "set ANTHROPIC_API_KEY for Anthropic in the environment of the gateway"
    )


def test_what_a_server_lists_goes_before_what_a_pattern_means() -> None:
    resolver = discovering(
        found("deepseek", variable="DEEPSEEK_API_KEY"),
        found("ollama", "deepseek-r1:7b"),
        environ={"DEEPSEEK_API_KEY": "k-12345678"},
    )
    assert resolver.resolve("deepseek-r1:7b").deployments[0].provider.name == "ollama"
    assert resolver.resolve("deepseek-chat").deployments[0].provider.name == "deepseek"
    assert resolver.resolve("deepseek/deepseek-r1:7b").deployments[0].provider.name == "deepseek"


def test_a_model_that_two_servers_list_is_asked_for_by_its_server() -> None:
    resolver = discovering(found("ollama", "qwen3:8b", "gemma3:1b"), found("lmstudio", "qwen3:8b"))
    assert [name.name for name in resolver.names()] == ["ollama/qwen3:8b", "gemma3:1b", "lmstudio/qwen3:8b"]
    assert refusal(resolver, "qwen3:8b").failure.code == "model_ambiguous"
    for public in resolver.names():
        assert resolver.resolve(public.name).deployments[0].provider.name == public.owner


def test_the_embedded_model_is_called_where_its_engine_says() -> None:
    resolver = discovering(found("local", "tiny"))
    deployment = resolver.resolve("tiny").deployments[0]
    assert deployment.base_url == EMBEDDED
    assert deployment.quirks.usage_per_choice
    assert deployment.provider.free


def test_names_that_clients_make_up_are_remembered_within_a_bound() -> None:
    resolver = discovering(found("openai", variable="OPENAI_API_KEY"), environ=KEY)
    first = resolver.resolve("openai/0")
    assert resolver.resolve("openai/0") is first
    for number in range(1, 1100):
        resolver.resolve(f"openai/{number}")
    assert resolver.resolve("openai/0") is not first


def test_a_route_that_cannot_be_called_names_itself() -> None:
    with pytest.raises(DeploymentError, match=r"models\.m\[0\]: OpenAI needs a secret"):
        Resolver(Config(models={"m": (DeploymentConfig("openai", "x"),)}), SecretStore(), {})


def test_every_secret_a_deployment_names_can_be_revealed() -> None:
    config = Config(models={"a": (DeploymentConfig("openai", "x"),), "b": (openai(),)})
    resolver = Resolver(config, SecretStore({"k": Secret("v")}), KEY, discovered=NOTHING_FOUND)
    for route in resolver.routes.values():
        for deployment in route.deployments:
            assert resolver.secrets.reveal(deployment.secret or "")


def test_another_name_for_the_embedded_model_is_refused() -> None:
    found = Discovered((Found("local", "The embedded model", "embedded", "tiny", ("tiny",)),))
    resolver = Resolver(Config(), SecretStore(), {}, discovered=found)
    assert resolver.resolve("local/tiny").deployments[0].model == "tiny"
    with pytest.raises(ModelNotFound, match="the embedded model is 'tiny', not 'llama3'"):
        resolver.resolve("local/llama3")
