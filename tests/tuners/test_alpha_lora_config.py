"""Settings that cannot be are refused when the configuration is made, with what is accepted."""

import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import PeftType

from loralaw.errors import InputError
from loralaw.tuners import AlphaLoraConfig, alpha_lora_config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, ["use_dora=True", "DoRA", "Leave one"]),
        ({"alora_invocation_tokens": [1], "task_type": "CAUSAL_LM"}, ["alora_invocation_tokens", "leave it out"]),
        ({"use_qalora": True}, ["use_qalora", "leave it out"]),
        ({"target_parameters": ["experts.weight"]}, ["target_parameters=['experts.weight']", "target_modules"]),
        ({"init_lora_weights": "pissa"}, ["init_lora_weights='pissa'", "True, False, 'gaussian'", "'authors'"]),
        ({"init_lora_weights": "olora"}, ["'olora'", "changes the frozen weights"]),
        ({"init_row_scale": math.nan}, ["init_row_scale=nan", "finite"]),
        ({"init_row_scale": -math.inf}, ["init_row_scale=-inf", "finite"]),
        ({"init_row_scale": 1e39}, ["init_row_scale=1e+39", "finite number that float32 can hold, up to 3.4e+38"]),
        ({"init_row_scale": 10**400}, ["init_row_scale=inf", "finite"]),
        ({"init_row_scale": {"q_proj": -1e39}}, ['init_row_scale["q_proj"]=-1e+39', "float32"]),
        ({"init_row_scale": "one"}, ["init_row_scale='one'", "number"]),
        ({"init_row_scale": True}, ["init_row_scale=True", "number"]),
        ({"init_row_scale": [1.0]}, ["init_row_scale=[1.0]", "numbers by the name of a layer", "suggest_row_scale"]),
        ({"init_row_scale": {3: 1.0}}, ["init_row_scale names a layer 3", "as text"]),
        ({"init_row_scale": {"q_proj": "2"}}, ["init_row_scale[\"q_proj\"]='2'", "give a number"]),
        ({"init_row_scale": {"q_proj": math.inf}}, ['init_row_scale["q_proj"]=inf', "finite"]),
        ({"train_row_scale": "no"}, ["train_row_scale='no'", "True or False"]),
        ({"row_scale_memory": "recomputed"}, ["'recomputed'", "save, recompute", 'Did you mean "recompute"?']),
        ({"row_scale_tasks": []}, ["row_scale_tasks=[]", "at least one name"]),
        ({"row_scale_tasks": "rte"}, ["row_scale_tasks='rte'", "list"]),
        ({"row_scale_tasks": ["a.b"]}, ["'a.b' is not a name", "letters"]),
        ({"row_scale_tasks": ["lora_x"]}, ["'lora_x' is not a name", "without 'lora_'"]),
        ({"row_scale_tasks": [3]}, ["3 is not a name"]),
        ({"row_scale_tasks": ["rte", "rte"]}, ['"rte" stands twice']),
    ],
)
def test_refusals(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        AlphaLoraConfig(target_modules=["q_proj"], **settings)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_numbers_become_what_a_file_can_hold(tmp_path: Path) -> None:
    for given, kept in ((np.float32(0.5), 0.5), (2, 2.0), (MappingProxyType({"0": np.float32(0.5)}), {"0": 0.5})):
        config = AlphaLoraConfig(target_modules=["0"], init_row_scale=given)
        config.save_pretrained(tmp_path)
        assert config.init_row_scale == AlphaLoraConfig.from_pretrained(tmp_path).init_row_scale == kept


def test_biases_that_an_old_peft_would_not_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alpha_lora_config, "saves_biases", lambda: False)
    with pytest.raises(InputError, match=r'bias="all".*not save them.*PEFT 0\.21'):
        AlphaLoraConfig(target_modules=["q_proj"], bias="all")


def test_the_new_type_is_a_member_like_the_others() -> None:
    """What PEFT and transformers ask of it: by name, by value, in loops, as text, as a key."""
    kind = AlphaLoraConfig().peft_type
    assert kind is PeftType.ALPHALORA is PeftType["ALPHALORA"] is PeftType("ALPHALORA")
    assert kind in list(PeftType)
    assert (kind.value, kind.name, kind == "ALPHALORA", isinstance(kind, str)) == ("ALPHALORA", "ALPHALORA", True, True)
    assert PEFT_TYPE_TO_CONFIG_MAPPING[kind] is AlphaLoraConfig
    assert issubclass(AlphaLoraConfig, PeftConfig)
    assert PeftType.LORA in list(PeftType)
    assert len({member.value for member in PeftType}) == len(list(PeftType))
