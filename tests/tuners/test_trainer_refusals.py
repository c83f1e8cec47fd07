"""What cannot be trained on two time scales is refused at construction, with the way out."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, PeftModel, get_peft_model
from trainer_models import Endless, Recorder, arguments, classifier, rows, trainer

from loralaw.errors import InputError, ModelError
from loralaw.tuners import row_scale_parameters

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"row_scale_protocol": "heldout"}, ["'heldout'", "held-out, joint, authors", 'Did you mean "held-out"?']),
        ({"row_scale_every": 0}, ["row_scale_every=0", "whole number from 1"]),
        ({"row_scale_every": 1.5}, ["row_scale_every=1.5", "whole number"]),
        ({"row_scale_every": True}, ["row_scale_every=True", "whole number"]),
        ({"row_scale_learning_rate": 0.0}, ["row_scale_learning_rate=0.0", "above 0"]),
        ({"row_scale_learning_rate": math.nan}, ["row_scale_learning_rate=nan", "above 0"]),
        ({"row_scale_learning_rate": "fast"}, ["row_scale_learning_rate='fast'", "number"]),
        ({"row_scale_share": 1.0}, ["row_scale_share=1.0", "(0, 1)"]),
        ({"row_scale_share": 0}, ["row_scale_share=0", "(0, 1)"]),
        ({"row_scale_batch_size": 0}, ["row_scale_batch_size=0", "whole number"]),
        ({"row_scale_protocol": "joint", "row_scale_every": 2}, ["row_scale_every=2", "joint"]),
        ({"row_scale_protocol": "joint", "row_scale_batch_size": 4}, ["row_scale_batch_size=4", "joint"]),
        ({"row_scale_protocol": "authors", "row_scale_dataset": rows(4)}, ["row_scale_dataset", "authors", "held-out"]),
        ({"row_scale_dataset": []}, ["row_scale_dataset has no rows"]),
        ({"row_scale_dataset": Endless()}, ["row_scale_dataset is of type Endless", "__len__"]),
        ({"train_dataset": rows(2)}, ["2 rows", "row_scale_share=0.2", "at least 1 each"]),
        ({"train_dataset": Endless()}, ["train_dataset is of type Endless", "__len__"]),
        ({"optim": "lomo"}, ["lomo", "adamw_torch"]),
        ({"optim": "galore_adamw_layerwise"}, ["layerwise", "adamw_torch"]),
        ({"auto_find_batch_size": True}, ["auto_find_batch_size", "per_device_train_batch_size"]),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path: Path, settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        trainer(tmp_path, **settings)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_models_without_a_row_scale_to_train_are_refused(tmp_path: Path) -> None:
    lora = get_peft_model(classifier().unload(), LoraConfig(target_modules=["query"], task_type="SEQ_CLS"))
    classifier().save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(classifier().unload(), tmp_path / "adapter")
    for model in (lora, lora.unload(), classifier(train_row_scale=False), loaded):
        with pytest.raises(ModelError, match=r"no row scale that can be trained.*AlphaLoraConfig.*is_trainable=True"):
            trainer(tmp_path, model=model)


def test_a_row_scale_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    model = classifier()
    name, row_scale = next(iter(row_scale_parameters(model).items()))
    with torch.no_grad():
        row_scale[3] = math.inf
    with pytest.raises(ModelError, match=rf"{name} has 1 of {row_scale.numel()} entries that are not finite"):
        trainer(tmp_path, model=model)


def test_optimizers_of_the_caller_are_refused(tmp_path: Path) -> None:
    model = classifier()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="optimizer_cls_and_kwargs"):
        Recorder(model=model, args=arguments(tmp_path), train_dataset=rows(64), optimizers=(optimizer, None))


@pytest.mark.parametrize(("attribute", "name"), [("is_fsdp_enabled", "FSDP"), ("is_deepspeed_enabled", "DeepSpeed")])
def test_sharded_training_is_refused(tmp_path: Path, attribute: str, name: str) -> None:
    class Sharded(Recorder):
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            setattr(self, attribute, True)

    with pytest.raises(InputError, match=rf"does not support {name}: .* Instead, use DDP: torchrun"):
        Sharded(model=classifier(), args=arguments(tmp_path), train_dataset=rows(64))


def test_models_that_were_split_when_loaded_are_refused(tmp_path: Path) -> None:
    model = classifier()
    model.is_distributed_loading_by_transformers = True
    with pytest.raises(InputError, match=r"split between processes.*whole model in every process"):
        trainer(tmp_path, model=model)


def test_half_precision_with_a_scaler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch --mixed_precision fp16` sets it; a processor has no fp16 to do it in earnest."""
    monkeypatch.setattr(Accelerator, "mixed_precision", property(lambda self: "fp16"))
    with pytest.raises(InputError, match=r"does not support fp16: .* Instead, use bf16=True, or float32"):
        trainer(tmp_path)


def test_several_gpus_in_one_process_are_refused(tmp_path: Path) -> None:
    given = arguments(tmp_path)
    given._n_gpu = 2
    with pytest.raises(InputError, match=r"one process with 2 GPUs.*torchrun"):
        Recorder(model=classifier(), args=given, train_dataset=rows(64))
