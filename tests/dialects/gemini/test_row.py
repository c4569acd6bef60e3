"""What the row of the Gemini API makes of a deployment."""

from __future__ import annotations

import pytest

from counterfoil.config import Config, DeploymentConfig
from counterfoil.driver.deployment import DeploymentError, build_deployment, load_table

__all__: list[str] = []


def test_a_name_with_its_collection_is_the_same_model() -> None:
    """Google's documentation and older clients write `models/` before it: its rules and its price go by the name."""
    plain, long = (
        build_deployment(
            DeploymentConfig(provider="google", model=name, api_key="KEY"), Config(), load_table(), {}
        ).deployment
        for name in ("gemini-2.5-pro", "models/gemini-2.5-pro")
    )
    assert long == plain
    assert long.model == "gemini-2.5-pro"
    assert long.dialect.path(long.model, False) == "/models/gemini-2.5-pro:generateContent"
    assert "thinkingConfig.thinkingLevel" in long.quirks.unsupported


def test_a_collection_alone_names_no_model() -> None:
    with pytest.raises(DeploymentError):
        build_deployment(DeploymentConfig(provider="google", model="models/"), Config(), load_table(), {})


def test_a_tuned_model_keeps_its_own_collection() -> None:
    config = DeploymentConfig(provider="google", model="tunedModels/tides-1", api_key="KEY")
    made = build_deployment(config, Config(), load_table(), {}).deployment
    assert made.dialect.path(made.model, False) == "/tunedModels/tides-1:generateContent"


@pytest.mark.parametrize("model", ["gemini-pro-latest", "gemini-3.1-pro-preview"])
def test_a_pro_model_thinks_no_less_than_low(model: str) -> None:
    made = build_deployment(
        DeploymentConfig(provider="google", model=model, api_key="KEY"), Config(), load_table(), {}
    ).deployment
    assert {"thinkingLevel.minimal", "thinkingConfig.off"} <= made.quirks.unsupported
