"""Where an Ollama server is spoken to in each of its languages, however its address was written."""

from __future__ import annotations

import pytest

from counterfoil.config import Config, DeploymentConfig
from counterfoil.dialects.registry import DIALECTS
from counterfoil.driver.deployment import build_deployment, load_table
from counterfoil.driver.sending import sending_of
from counterfoil.exchange.command import Post
from counterfoil.exchange.route import Deployment

__all__: list[str] = []

PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_completions": "/v1/completions",
    "openai_embeddings": "/v1/embeddings",
    "ollama": "/api/chat",
    "ollama.generate": "/api/generate",
    "ollama.embed": "/api/embed",
}


def _url(face: Deployment) -> str:
    path = face.dialect.path(face.model, True)
    return sending_of(Post(face, path, b"", True, 1.0, 1.0), face.base_url, None, 0.0).url


@pytest.mark.parametrize("written", [None, "http://127.0.0.1:11434", "http://box:11434/v1", "http://box:11434/v1/"])
def test_every_language_of_the_server_has_its_own_path(written: str | None) -> None:
    config = DeploymentConfig(provider="ollama", model="small:1b", base_url=written)
    built = build_deployment(config, Config(), load_table(), {}).deployment
    host = (written or "http://127.0.0.1:11434").removesuffix("/").removesuffix("/v1")
    assert {face.dialect.name: _url(face) for face in (built, *built.faces)} == {
        name: host + path for name, path in PATHS.items()
    }


@pytest.mark.parametrize("name", ["ollama", "ollama.embed"])
def test_a_language_that_was_written_down_is_the_one_that_is_spoken(name: str) -> None:
    config = DeploymentConfig(provider="ollama", model="small:1b", dialect=name)
    built = build_deployment(config, Config(), load_table(), {}).deployment
    assert built.facing(DIALECTS[name]) is not None
    operation = built.dialect.operation
    assert [face.dialect.name for face in (built, *built.faces) if face.dialect.operation is operation] == [name]
