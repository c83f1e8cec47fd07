"""The shapes of published models, against the number of parameters that their weights have."""

import pytest

from loralaw.models import KNOWN_SHAPES, find_model, skeleton

N_PARAMS = {
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "google/gemma-3-1b-it": 999_885_952,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "openai-community/gpt2": 124_439_808,
}
"""Of the published safetensors; tied weights count once."""
ENCODERS = {"FacebookAI/roberta-base": (124_645_632, 768), "FacebookAI/roberta-large": (355_359_744, 1024)}
"""RobertaModel with its pooler, and the width. A classifier has a dense layer in the pooler's place, and its labels."""


def test_the_table_is_covered() -> None:
    assert KNOWN_SHAPES.keys() == N_PARAMS.keys() | ENCODERS.keys()


@pytest.mark.parametrize("name", N_PARAMS)
def test_a_known_model_has_its_published_parameters(name: str) -> None:
    source = find_model(name, dry=True)
    assert source.is_dry
    assert source.hash == f"not-looked-up:{name}"
    model = skeleton(source)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert model.num_parameters() == N_PARAMS[name]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_known_encoder_as_a_classifier(name: str) -> None:
    n_params, width = ENCODERS[name]
    assert skeleton(find_model(name, dry=True), n_labels=3).num_parameters() == n_params + 3 * width + 3
