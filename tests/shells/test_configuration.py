"""A configuration file that is wrong stops with everything that is wrong, where it stands, and no secret in sight."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counterfoil.config import Config, RouteConfig
from counterfoil.driver.configuration import ConfigurationError, Loaded, load, load_text
from counterfoil.driver.written import SIZE_LIMIT
from counterfoil.transport.secret import HIDDEN, Secret, SecretStore, same_secret

SECRET = "hunter2-hunter2-hunter2"
AT = Path("/somewhere/counterfoil.yaml")

RATE = "a rate is dollars per million tokens, at most twelve decimals, such as 0.15"

ISSUE = """
models:
  my-model:
    - {provider: openai, model: gpt-4o-mini, base_url: "http://127.0.0.1:18400/v1", api_key: "${OPENAI_API_KEY}"}
keys: {required: false}
ledger: {path: ./data/ledger.db}
"""


def read(text: str, **environ: str) -> Loaded:
    return load_text(text, environ, path=AT)


def wrong(text: str, **environ: str) -> list[str]:
    """What is said of a wrong file, one line a problem, without the file's name."""
    with pytest.raises(ConfigurationError) as caught:
        read(text, **environ)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    return [str(problem).removeprefix(f"{AT}") for problem in caught.value.problems]


def deployment(rest: str) -> str:
    """A file with one deployment, whose keys after the model are on line 2 from column 29."""
    return f"models:\n  m: [{{provider: openai, model: x, {rest}}}]\n"


def test_the_example_is_read() -> None:
    loaded = read(ISSUE, OPENAI_API_KEY=SECRET)
    deployments = loaded.config.models["my-model"]
    assert isinstance(deployments, tuple)
    assert deployments[0].provider == "openai"
    assert deployments[0].base_url == "http://127.0.0.1:18400/v1"
    assert loaded.config.keys is not None
    assert not loaded.config.keys.required
    assert loaded.warnings == ()


def test_a_file_without_anything_is_all_defaults() -> None:
    assert read("").config == Config()
    assert read("# nothing yet\n").config == Config()


def test_the_configuration_holds_the_names_of_secrets_and_the_store_their_values() -> None:
    text = ISSUE.replace("required: false", f"required: true, static: [{{name: ci, secret: {SECRET}-b}}]")
    loaded = read(text, OPENAI_API_KEY=SECRET)
    assert SECRET not in repr(loaded)
    assert isinstance(loaded.config.models["my-model"], tuple)
    assert loaded.config.models["my-model"][0].api_key == "OPENAI_API_KEY"
    assert loaded.secrets.reveal("OPENAI_API_KEY") == SECRET
    assert loaded.config.keys is not None
    assert loaded.secrets.reveal(loaded.config.keys.static[0].secret) == f"{SECRET}-b"


def test_a_secret_written_out_is_kept_under_the_place_where_it_stands() -> None:
    loaded = read(deployment(f"api_key: {SECRET}"))
    assert isinstance(loaded.config.models["m"], tuple)
    assert loaded.config.models["m"][0].api_key == "models.m[0].api_key"
    assert loaded.secrets.reveal("models.m[0].api_key") == SECRET


def test_paths_are_relative_to_the_file() -> None:
    assert read(ISSUE, OPENAI_API_KEY=SECRET).config.ledger.path == "/somewhere/data/ledger.db"
    assert read("ledger: {path: /var/books.db}").config.ledger.path == "/var/books.db"
    assert read("prices: own.yaml").config.prices == "/somewhere/own.yaml"


def test_a_variable_fills_in_and_a_default_stands_for_one_that_is_missing_or_empty() -> None:
    text = "listen:\n  host: ${HOST:-127.0.0.1}\n  port: ${PORT:-4001}\n"
    assert read(text).config.listen.port == 4001
    loaded = read(text, HOST="", PORT="0").config.listen
    assert (loaded.host, loaded.port) == ("127.0.0.1", 0)


def test_a_dollar_can_be_written_for_itself() -> None:
    assert read("ledger: {path: '/a/$${b}/$c'}").config.ledger.path == "/a/${b}/$c"


def test_a_file_on_disk_is_read(tmp_path: Path) -> None:
    file = tmp_path / "counterfoil.yaml"
    file.write_bytes(b"\xef\xbb\xbfledger: {path: books.db}\n")
    loaded = load(file, {})
    assert loaded.path == file
    assert loaded.config.ledger.path == str(tmp_path / "books.db")


def test_a_route_can_be_written_out_and_inherits_field_by_field() -> None:
    loaded = read(
        """
        timeouts: {connect: 3, first_byte: 20}
        retries: {attempts: 4}
        models:
          m:
            retries: {backoff: 1}
            deployments:
              - {provider: openai, model: x, api_key: k-12345678, timeouts: {first_byte: 5}}
        """
    )
    route = loaded.config.models["m"]
    assert isinstance(route, RouteConfig)
    assert route.retries is not None
    assert (route.retries.attempts, route.retries.backoff) == (4, 1.0)
    timeouts = route.deployments[0].timeouts
    assert timeouts is not None
    assert (timeouts.connect, timeouts.first_byte, timeouts.total) == (3.0, 5.0, 3600.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modles: {}", ":1:1: modles: no such key; did you mean 'models'?"),
        ("limits: {bodyy: 5000}", ":1:10: limits.bodyy: no such key; did you mean 'body'?"),
        ("limits:\n  body: 1\n", ":2:9: limits.body: out of range: at least 1024 is allowed"),
        ("listen: {port: 70000}", ":1:16: listen.port: out of range: at most 65535 is allowed"),
        ("timeouts: {connect: 0}", ":1:21: timeouts.connect: out of range: more than 0 is allowed"),
        ("listen: {port: many}", ":1:16: listen.port: a whole number is expected"),
        ("listen: {port: 1.5}", ":1:16: listen.port: a whole number is expected"),
        ("timeouts: {connect: .inf}", ":1:21: timeouts.connect: a number is expected"),
        ("listen: 4000", ":1:9: listen: a mapping of host, port, drain is expected, not a single value"),
        ("keys: [{name: a}]", ":1:7: keys: a mapping of required, static is expected, not a list"),
        (
            "timeouts: {total: 10s}",
            ":1:19: timeouts.total: a number is expected; times are in seconds and sizes in bytes, without a unit",
        ),
        (
            "limits: {body: 10 MB}",
            ":1:16: limits.body: a whole number is expected; times are in seconds and sizes in bytes, without a unit",
        ),
        ("stream_usage: true", ":1:15: stream_usage: 'true' is not one of always, when_asked"),
        ("keys: {required: perhaps}", ":1:18: keys.required: true or false is expected"),
        ("keys: {}", ":1:7: keys: `required` is missing"),
        ("models: [a]", ":1:9: models: a mapping is expected, not a list"),
        ("models: {m: 5}", ":1:13: models.m: a list or a mapping is expected, not a single value"),
        ("models: {m: []}", ":1:10: models.m: a route needs at least one deployment"),
        ("ledger: {path: 5}", ":1:16: ledger.path: a text is expected, not a number; put it in quotes"),
        (
            "ledger: {fsync: alway}",
            ":1:17: ledger.fsync: 'alway' is not one of always, interval, never; did you mean 'always'?",
        ),
        ("listen: {port: 1, port: 2}", ":1:19: listen.port: this key is there twice; the first is on line 1"),
        (
            "keys: {required: true}",
            ":1:8: keys.required: keys are required, but none is written under `static`: nobody could call",
        ),
        ('ledger: {path: "${NOWHERE}"}', ":1:16: ledger.path: the environment variable NOWHERE is not set"),
        (
            'ledger: {path: "${1}"}',
            ":1:16: ledger.path: `${` begins no reference; write ${NAME}, ${NAME:-default}, or $${ for the text itself",
        ),
        ("- a", ":1:1: a mapping is expected, not a list"),
        ("ledger: {path: !!python/object:os.system x}", ":1:16: ledger.path: tags are not read"),
        ("ledger: {path: ~nobody-here/x}", ":1:10: ledger.path: this is no path"),
        ('prices: ""', ":1:1: prices: this is no path"),
        ("ledger: {path: !mine x}", ":1:16: ledger.path: tags are not read"),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_the_nearest_name(text: str, said: str) -> None:
    assert wrong(text) == [said]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("api_keys: x", ":2:36: models.m[0].api_keys: no such key; did you mean 'api_key'?"),
        ('api_key: "${OPENAI_KEY}"', ":2:45: models.m[0].api_key: the environment variable OPENAI_KEY is not set"),
        ('api_key: ""', ":2:36: models.m[0].api_key: this secret is empty"),
        ("api_key: [a]", ":2:45: models.m[0].api_key: a single value is expected, not a list"),
        ("base_url: localhost:8000/v1", ":2:36: models.m[0].base_url: a base_url begins with http:// or https://"),
        (
            'base_url: "http://x?y=1"',
            ":2:36: models.m[0].base_url: an http or https URL is expected, without user, query or fragment",
        ),
        ("dialect: openai", ":2:36: models.m[0].dialect: no such dialect; did you mean 'openai_chat'?"),
        (
            "api_key: k, prices: {inptu: 1}",
            ":2:57: models.m[0].prices.inptu: no such kind of token; did you mean 'input'?",
        ),
        (
            "api_key: k, prices: {input: cheap}",
            f":2:57: models.m[0].prices.input: {RATE}",
        ),
        (
            f"api_key: k, headers: {{Authorization: {SECRET}}}",
            ":2:58: models.m[0].headers.Authorization: a secret is written as api_key",
        ),
    ],
)
def test_what_is_wrong_with_a_deployment_is_said_at_its_key(rest: str, said: str) -> None:
    assert wrong(deployment(rest)) == [said]


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("retries: {attempts: 1}", "retries: no such key here; it is one of models.NAME and of the top of the file"),
        ("missing_usage: null", "missing_usage: no such key here; it is one of models.NAME and of the top of the file"),
        ("deployments: []", "deployments: no such key here; it is one of models.NAME"),
        ("static: []", "static: no such key here; it is one of keys"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_where_it_belongs(rest: str, said: str) -> None:
    assert wrong(deployment(f"api_key: k-12345678, {rest}")) == [f":2:57: models.m[0].{said}"]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("models:\n\tm: 1\n", "2:1"),
        ("\tmodels: {}\n", "1:1"),
        ("models:\n  m:\n    -\tprovider: x\n", "3:6"),
        ("models:\n  m:\n    - provider: a\n\t  model: b\n", "4:1"),
        ("models:\n  a: |\n\tb\n", "3:1"),
    ],
)
def test_a_tab_is_called_a_tab(text: str, place: str) -> None:
    assert wrong(text) == [f":{place}: this is not YAML: there is a tab here, where it allows spaces only"]


def test_a_provider_without_a_secret_or_an_address_stops_the_start() -> None:
    assert wrong("models:\n  m:\n    - {provider: openai, model: x}\n") == [
        ":3:7: models.m[0]: OpenAI needs a secret: write api_key, or set OPENAI_API_KEY"
    ]
    assert wrong("models:\n  m:\n    - {provider: azure-openai, model: x, api_key: k}\n") == [
        ":3:7: models.m[0].base_url: Azure OpenAI needs a base_url, such as https://RESOURCE.openai.azure.com"
    ]
    assert wrong("models:\n  m:\n    - {provider: opnai, model: x}\n") == [
        ":3:8: models.m[0].provider: no such provider; did you mean 'openai'? For any other server write its base_url"
    ]
    assert wrong("models:\n  m:\n    - {provider: vertex, model: x, project: p}\n") == [
        ":3:7: models.m[0]: Anthropic on Google Vertex AI needs a region: give its `region`, or set CLOUD_ML_REGION"
    ]
    assert wrong("models:\n  m:\n    - {provider: vertex, model: x, project: p, region: 'x.example/'}\n") == [
        ":3:48: models.m[0].region: this is no region"
    ]


def test_a_deployment_in_the_place_of_a_list_is_called_by_its_name() -> None:
    assert wrong("models:\n  m: {provider: openai, model: x, retries: {attemps: 1}}\n") == [
        ":2:3: models.m: a list of deployments is expected: begin its line with a dash",
        ":2:45: models.m.retries.attemps: no such key; did you mean 'attempts'?",
    ]


def test_everything_that_is_wrong_is_said_at_once_in_the_files_order() -> None:
    text = (
        "listen: {port: x}\n"
        "colour: red\n"
        "models:\n"
        "  a: [{provider: nobody, model: x}]\n"
        '  b: [{provider: openai, model: x, api_key: "${NOPE}"}]\n'
        "  c: [{provider: openai, api_key: y}]\n"
    )
    lines = [said.split(":")[1] for said in wrong(text)]
    assert lines == ["1", "2", "4", "5", "6"]


def test_an_unknown_provider_is_said_beside_what_else_is_wrong_with_its_deployment() -> None:
    text = (
        "models:\n  a:\n    - {provider: opnai, modle: x}\n"
        "  b: {deployments: [{provider: groc, model: x}], colour: red}\n"
    )
    said = [line for line in wrong(text) if "no such provider" in line]
    assert said == [
        ":3:8: models.a[0].provider: no such provider; did you mean 'openai'?",
        ":4:22: models.b.deployments[0].provider: no such provider; did you mean 'groq'?",
    ]


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("[{name: a, secret: one-secret-1}, {name: a, secret: two-secret-2}]", "keys.static[1].name"),
        ("[{name: a, secret: one-secret-1}, {name: b, secret: one-secret-1}]", "keys.static[1].secret"),
    ],
)
def test_two_keys_have_neither_a_name_nor_a_secret_in_common(keys: str, said: str) -> None:
    (problem,) = wrong(f"keys: {{required: true, static: {keys}}}")
    assert said in problem
    assert "one-secret" not in problem


def test_a_short_key_is_a_warning() -> None:
    (warning,) = read("keys: {required: true, static: [{name: a, secret: short}]}").warnings
    assert warning.key == "keys.static[0].secret"
    assert warning.mark is not None
    assert "short" not in warning.message


@pytest.mark.parametrize(
    "text",
    [
        f"models: {{m: [{{provider: openai, model: x, api_key: {SECRET}",
        f"a: b: {SECRET}",
        f"api_key: {SECRET}",
        f"keys: {SECRET}",
        f"keys: {{required: {SECRET}}}",
        f"listen: {{port: {SECRET}}}",
        f"models: {{m: [{{provider: openai, model: x, api_key: {SECRET}, base_url: 'http://u:{SECRET}@h/'}}]}}",
        f"models: {{m: [{{provider: openai, model: x, api_key: ['{SECRET}']}}]}}",
        f"keys: {{required: true, static: [{{name: a, secrt: {SECRET}}}]}}",
        f"keys: {{required: true, static: [{{name: a, {SECRET}}}]}}",
        f"keys: {{required: true, static: [{{name: a, secret: *{SECRET}}}]}}",
        f"keys: {{required: true, static: [{{name: a, secret: !{SECRET}!x y}}]}}",
        f"models: {{m: [{{provider: {SECRET}, model: x}}]}}",
        f"models: {{m: [{{provider: openai, model: {SECRET}}}]}}",
        'ledger: {fsync: "${K}"}',
        'listen: {port: "${K}"}',
    ],
)
def test_no_message_holds_a_secret(text: str) -> None:
    assert wrong(text, K=SECRET)


FULL = f"""
listen: {{host: 127.0.0.1, port: 4000}}
timeouts: &t {{connect: 3, total: "${{TOTAL:-60}}"}}
models:
  a: [{{provider: openai, model: x, api_key: {SECRET}, timeouts: *t, prices: {{input: 0.15}}}}]
  b:
    stream_usage: always
    deployments:
      - {{provider: box, model: y, base_url: "http://127.0.0.1:1/v1", headers: {{x-a: b}}}}
keys: {{required: true, static: [{{name: ci, secret: "{SECRET}"}}]}}
ledger: {{path: ./books.db, fsync: never}}
"""


def test_a_full_file_is_read() -> None:
    assert read(FULL).config.models.keys() == {"a", "b"}


@settings(max_examples=300, deadline=None)
@given(
    start=st.integers(0, len(FULL)),
    length=st.integers(0, 30),
    instead=st.one_of(
        st.text(max_size=8), st.sampled_from(["[", "]", "{", "*t", "&t ", "${", "null", "~", "<<: *t", "\n"])
    ),
)
def test_a_file_with_any_slip_of_the_pen_is_read_or_refused_with_a_place(start: int, length: int, instead: str) -> None:
    text = FULL[:start] + instead + FULL[start + length :]
    try:
        said = repr(read(text))
    except ConfigurationError as error:
        said = str(error)
    assert SECRET not in said
    assert said


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    for name, data in (("large", b"#" * (SIZE_LIMIT + 1)), ("binary", b"\xff\xfe\x00"), ("nul", b"a: \x00")):
        file = tmp_path / name
        file.write_bytes(data)
        with pytest.raises(ConfigurationError, match=name):
            load(file, {})
    with pytest.raises(ConfigurationError, match="No such file"):
        load(tmp_path / "absent.yaml", {})
    with pytest.raises(ConfigurationError):
        load(tmp_path, {})


def test_a_file_that_means_more_than_it_says_is_refused() -> None:
    layers = [f"l{n}: &l{n} [{', '.join(f'*l{n - 1}' for _ in range(9))}]" for n in range(1, 9)]
    assert wrong("\n".join(["l0: &l0 [x]", *layers])) == [":9:15: more than 64 aliases"]
    assert wrong("a: " + "[" * 40 + "]" * 40)[0].endswith("nested deeper than 32")


def test_aliases_share_what_is_written_once() -> None:
    loaded = read("models:\n  a: &a [{provider: openai, model: x, api_key: k-12345678}]\n  b: *a\n")
    assert loaded.config.models.keys() == {"a", "b"}
    first, second = loaded.config.models["a"], loaded.config.models["b"]
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert (
        loaded.secrets.reveal(first[0].api_key or "") == loaded.secrets.reveal(second[0].api_key or "") == "k-12345678"
    )


def test_an_alias_of_itself_is_no_endless_loop() -> None:
    assert wrong("models: &a {m: *a}")


def test_a_secret_does_not_show() -> None:
    secret = Secret(SECRET)
    assert {repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s" % secret, f"{secret!r}"} == {HIDDEN}  # noqa: UP031 - the old way is one of the ways
    assert repr([secret]) == f"[{HIDDEN}]"
    for way in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            way(secret)
    with pytest.raises(TypeError):
        pickle.dumps(SecretStore({"a": secret}))
    assert SECRET not in repr(SecretStore({"a": secret}))
    assert SECRET not in repr(getattr(secret, "__dict__", ""))
    assert secret.reveal() == SECRET


def test_a_secret_is_compared_as_a_whole() -> None:
    secret = Secret("schlüssel")
    assert secret.matches("schlüssel")
    assert secret.matches("schlüssel".encode())
    assert not secret.matches("schlüsse")
    assert not secret.matches("schl\udcff")
    assert same_secret("a", b"a")
    assert secret != Secret("schlüssel")


def test_a_store_of_secrets_is_extended_and_not_changed() -> None:
    store = SecretStore({"a": Secret("1")})
    more = store.merged({"b": Secret("2")})
    assert (list(store), sorted(more)) == (["a"], ["a", "b"])
    assert (more.reveal("b"), more.reveal("c")) == ("2", None)
