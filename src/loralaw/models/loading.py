"""How a base model is loaded: in how many bits, and what of it is trusted."""

import importlib.util
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig

from loralaw.errors import ModelError

Quantisation = Literal["4bit", "8bit"]
QUANTISATIONS = ("4bit", "8bit")


@dataclass(frozen=True)
class Loading:
    """What the section `loading` of a study says. By default weights stay as they are and nothing of a model is run.

    Raises:
        ModelError: an unknown quantisation.
    """

    quantisation: Quantisation | None = None
    """Quantise the weights while they are loaded, with bitsandbytes: in 4 bits (NF4, as QLoRA does) or in 8."""
    trust_remote_code: bool = False
    """Run the Python code that comes with a model, on this machine, with the rights of whoever runs it."""
    pickled_weights: bool = False
    """Read weights from *.bin files where there are no *.safetensors: torch's own unpickler, for numbers only."""

    def __post_init__(self) -> None:
        if self.quantisation is not None and self.quantisation not in QUANTISATIONS:
            raise ModelError(f"quantisation is {self.quantisation!r}: accepted are {', '.join(QUANTISATIONS)}, or none")

    @property
    def hash_suffix(self) -> str:
        """What a model's hash gets of it: quantised weights give other results, and code of its own may."""
        return (f"-{self.quantisation}" if self.quantisation else "") + ("-own-code" if self.trust_remote_code else "")


NOTHING_SPECIAL = Loading()


def check_library(loading: Loading) -> None:
    """Whether what quantises is installed.

    Raises:
        ModelError: it is not.
    """
    if loading.quantisation is not None and importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            f"loading.quantisation is {loading.quantisation}, and bitsandbytes, which quantises, is not installed: "
            "pip install bitsandbytes"
        )


def bitsandbytes_settings(
    config: PretrainedConfig, loading: Loading, kept: list[str] | None = None
) -> BitsAndBytesConfig | None:
    """How bitsandbytes is to quantise the weights while they are loaded; None: not at all.

    Args:
        config: of the model as it was published.
        loading: with or without a quantisation.
        kept: names of modules to leave as they are, as patterns; None: the output head.

    Raises:
        ModelError: the published model is quantised already.
    """
    if loading.quantisation is None:
        return None
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"loading.quantisation is {loading.quantisation}, but this model was quantised when it was saved: leave "
            "loading.quantisation out, or name the model unquantised"
        )
    if loading.quantisation == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=kept,
    )
