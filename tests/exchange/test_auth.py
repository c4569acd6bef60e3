"""How a request shows who pays: what is signed is what AWS's own signer signs, and what arrives is what was signed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlencode

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from counterfoil.driver.sending import sending_of
from counterfoil.exchange.command import Post
from counterfoil.exchange.route import Deployment
from counterfoil.providers.auth import AwsKeys, BearerToken, auth_headers, host_of, sign
from counterfoil.providers.provider import Auth
from counterfoil.testing import Counts, chat_reply, running
from counterfoil.transport.credential import Credentials
from counterfoil.transport.transport import Unreachable
from tests.exchange.ways import WAYS, Ledger
from tests.exchange.world import call, deployment

KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session/token+==")
AT = 1_700_000_000.0
ARN = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0"
AWS = Auth(style="aws", service="bedrock")


def signed_by_botocore(
    keys: AwsKeys, method: str, url: str, headers: Mapping[str, str], body: bytes, region: str, service: str, at: float
) -> dict[str, str]:
    auth = pytest.importorskip("botocore.auth", reason="botocore is not installed")
    awsrequest: Any = pytest.importorskip("botocore.awsrequest")
    credentials: Any = pytest.importorskip("botocore.credentials")
    request = awsrequest.AWSRequest(method=method, url=url, headers=dict(headers), data=body)
    signer = auth.SigV4Auth(credentials.Credentials(keys.access, keys.secret, keys.session), service, region)
    with patch("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(at, UTC)):
        signer.add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
MODELS = st.one_of(TEXT, st.just(ARN), st.sampled_from(["a%3Ab", "..", ".", "a/../b", "a b", "é:/@", "~x", "a//b"]))
SEGMENTS = st.builds(lambda text, safe: quote(text, safe=safe), MODELS, st.sampled_from(["", "@:", "~/@:!$&'()*+,;="]))
QUERIES = st.lists(st.tuples(TEXT, st.text(st.characters(exclude_categories=["Cs"]), max_size=8)), max_size=4)
HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "x-amz-target", "x-amzn-bedrock-trace", "user-agent", "accept"]),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
)


@settings(max_examples=150, deadline=None)
@given(
    hosts=st.sampled_from(
        ["https://bedrock-runtime.eu-west-1.amazonaws.com", "http://127.0.0.1:8099", "https://x.example:443"]
    ),
    segments=st.lists(SEGMENTS, max_size=4),
    query=QUERIES,
    headers=HEADERS,
    body=st.binary(max_size=60),
    session=st.none() | st.just("a/b+c=="),
    region=st.sampled_from(["us-east-1", "eu-west-1", "cn-north-1"]),
    service=st.sampled_from(["bedrock", "sts"]),
    at=st.integers(0, 4_000_000_000),
)
@example(
    hosts="https://bedrock-runtime.us-east-1.amazonaws.com",
    segments=["model", quote(ARN, safe=""), "converse"],
    query=[],
    headers={"content-type": "application/json"},
    body=b"{}",
    session="token",
    region="us-east-1",
    service="bedrock",
    at=1_700_000_000,
)
def test_a_signature_is_the_one_that_awss_own_signer_makes(
    hosts: str,
    segments: list[str],
    query: list[tuple[str, str]],
    headers: dict[str, str],
    body: bytes,
    session: str | None,
    region: str,
    service: str,
    at: int,
) -> None:
    url = f"{hosts}/{'/'.join(segments)}" + (f"?{urlencode(query, quote_via=quote, safe='')}" if query else "")
    keys = AwsKeys(KEYS.access, KEYS.secret, session)
    ours = sign(keys, method="POST", url=url, headers=headers, body=body, region=region, service=service, at=float(at))
    theirs = signed_by_botocore(keys, "POST", url, headers, body, region, service, float(at))
    assert ours["authorization"] == theirs["authorization"]
    assert ours["x-amz-date"] == theirs["x-amz-date"]
    assert ours.get("x-amz-security-token") == theirs.get("x-amz-security-token") == session


def test_a_header_is_covered_however_its_name_is_written_and_what_proxies_change_is_not() -> None:
    def signed(headers: dict[str, str]) -> dict[str, str]:
        url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
        return sign(KEYS, method="POST", url=url, headers=headers, body=b"{}", region="us-east-1", service="sts", at=AT)

    plain = signed({"x-amzn-trace": "a  b", "content-type": "application/json"})
    assert plain == signed(
        {"X-Amzn-Trace": "a b", "Content-Type": " application/json", "Authorization": "Bearer x", "User-Agent": "y"}
    )
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amzn-trace," in plain["authorization"]


def test_no_credential_is_shown_by_its_representation() -> None:
    for credential in (KEYS, BearerToken("sesame-token")):
        said = f"{credential!r} {credential} {list(credential.__rich_repr__())}"
        assert "sesame" not in said
        assert KEYS.secret not in said
        assert "session/token" not in said


# ---- a secret --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "shown"),
    [
        (Auth(), {"authorization": "Bearer s"}),
        (Auth(style="header", header="x-api-key"), {"x-api-key": "s"}),
        (Auth(style="none"), {}),
        (AWS, {"authorization": "Bearer s"}),
        (Auth(style="google", header="x-goog-api-key"), {"x-goog-api-key": "s"}),
        (Auth(style="entra", header="api-key"), {"api-key": "s"}),
    ],
)
def test_a_secret_is_shown_as_its_row_says_also_where_credentials_could_be_fetched(
    auth: Auth, shown: dict[str, str]
) -> None:
    assert auth_headers(auth, "s") == shown
    assert auth_headers(auth, None) == {}


# ---- the whole request -------------------------------------------------------------------------------------------


def posting(model: str, *, path: str | None = None, query: Mapping[str, str] | None = None, said: str = "/x") -> Post:
    made = deployment()
    provider = msgspec.structs.replace(made.provider, path=path, query=query or {}, auth=AWS)
    made = msgspec.structs.replace(made, provider=provider, model=model, region="eu-west-1")
    return Post(made, said, b"{}", False, 1.0, 0.0)


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-sonnet-4-5@20250929", "/m/claude-sonnet-4-5@20250929:raw"),
        (ARN, f"/m/{quote(ARN, safe='@:')}:raw"),
        ("../secrets", "/m/..%2Fsecrets:raw"),
        ("a?b#c d%e", "/m/a%3Fb%23c%20d%25e:raw"),
        ("é{model}", "/m/%C3%A9%7Bmodel%7D:raw"),
    ],
)
def test_a_models_name_is_one_segment_of_a_rows_path_whatever_it_is(model: str, sent: str) -> None:
    sending = sending_of(posting(model, path="/m/{model}:raw"), "https://h.example/v1/", None, AT)
    assert sending.url == f"https://h.example/v1{sent}"


def test_a_url_goes_out_in_ascii_and_is_encoded_once() -> None:
    post = posting("m", said="/model/a%3Ab/converse?alt=sse", query={"api-version": "2024 é"})
    sending = sending_of(post, "https://bücher.example:8443/ä/%41", None, AT)
    assert sending.url == (
        "https://xn--bcher-kva.example:8443/%C3%A4/%41/model/a%3Ab/converse?alt=sse&api-version=2024%20%C3%A9"
    )
    with pytest.raises(Unreachable, match="not a URL"):
        sending_of(posting("m"), f"https://{'ü' * 300}.example", None, AT)


def test_a_fetched_token_is_a_bearer_whatever_header_the_key_has() -> None:
    sending = sending_of(posting("m"), "https://h.example", BearerToken("t"), AT)
    assert sending.headers["authorization"] == "Bearer t"


def test_a_signature_covers_what_no_proxy_changes() -> None:
    sending = sending_of(posting("m"), "https://h.example", KEYS, AT)
    assert "SignedHeaders=content-type;host;x-amz-date;x-amz-security-token," in sending.headers["authorization"]
    assert sending.headers["host"] == "h.example"
    assert "eu-west-1/bedrock/aws4_request" in sending.headers["authorization"]


@pytest.mark.parametrize("url", ["https://h.example", "https://h.example:443", "http://h.example:80"])
def test_a_usual_port_is_no_part_of_the_host(url: str) -> None:
    assert host_of(url) == "h.example"


def aws_deployment(base_url: str, model: str, **query: str) -> Deployment:
    made = deployment()
    provider = msgspec.structs.replace(made.provider, auth=AWS, path="/model/{model}/converse", query=query)
    return msgspec.structs.replace(
        made, provider=provider, base_url=base_url, model=model, region="eu-west-1", fetched=True
    )


MODEL_NAMES = [ARN, "us.anthropic.claude-v1:0", "a%3Ab", "a/../b/./c", "..%2f", "é ü", "a//b", "~;,=&+$!*'()", "x@y"]


@pytest.mark.parametrize("way", WAYS)
def test_what_arrives_is_exactly_what_was_signed(way: str) -> None:
    credentials = Credentials(
        {"AWS_ACCESS_KEY_ID": KEYS.access, "AWS_SECRET_ACCESS_KEY": KEYS.secret, "AWS_SESSION_TOKEN": "token"}
    )
    with running() as provider:
        for model in MODEL_NAMES:
            provider.queue(chat_reply(text="Good morning", usage=Counts(input=7, output=2)))
            made = aws_deployment(f"{provider.origin}/pre%20fix/é", model, q="a b&=%2B/é", alt="")
            seen = WAYS[way](call(made), Ledger(), None, credentials)
            assert seen.status == 200
            served = provider.served[-1]
            asked = "?q=a%20b%26%3D%252B%2F%C3%A9&alt="
            assert served.path == f"/pre%20fix/%C3%A9/model/{quote(model, safe='@:')}/converse{asked}"
            again = signed_by_botocore(
                AwsKeys(KEYS.access, KEYS.secret, "token"),
                "POST",
                f"http://{served.headers['host']}{served.path}",
                {"content-type": served.headers["content-type"]},
                served.body,
                "eu-west-1",
                "bedrock",
                AT,
            )
            assert served.headers["authorization"] == again["authorization"]
            assert served.headers["x-amz-date"] == again["x-amz-date"]
    credentials.close()
