"""A saved LoRA adapter on its base model."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, LoraConfig, PeftModel
from safetensors import safe_open
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from loralaw.errors import ModelError
from loralaw.models.heads import is_causal, is_of_pooler
from loralaw.models.hub import first_line
from loralaw.models.skeleton import config_of, tokenizer_of
from loralaw.models.source import HUB_NAME, ModelSource, find_model
from loralaw.models.weights import listed, names_of, no_warnings, read_weights
from loralaw.tuners import AlphaLoraConfig
from loralaw.tuners.peft_surface import quiet_peft

CONFIG_FILE, WEIGHTS_FILE, PICKLED_FILE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
_MODEL_CLASSES = {
    "CAUSAL_LM": AutoModelForCausalLM,
    "SEQ_CLS": AutoModelForSequenceClassification,
    "TOKEN_CLS": AutoModelForTokenClassification,
    "FEATURE_EXTRACTION": AutoModel,
}
_CONFIG_CLASSES = {"LORA": LoraConfig, "ALPHALORA": AlphaLoraConfig}
_CLASSIFIERS = ("SEQ_CLS", "TOKEN_CLS")
# The last layer of a classification head: its rows are the labels.
_LABEL_WEIGHTS = (".classifier.weight", ".score.weight", ".classifier.out_proj.weight", ".classifier.lora_B.weight",
                  ".score.lora_B.weight")  # fmt: skip


@dataclass(frozen=True)
class AdaptedModel:
    """A base model with a saved adapter on it, in evaluation mode, on the processor, each in the type it was stored in.

    `tokenizer` is the adapter's own where its folder has one, else the base's.
    """

    name: str
    """What was asked for: the adapter's folder or hub name."""
    base: ModelSource
    model: PeftModel
    tokenizer: Any


def load_adapted_model(adapter: str | Path, base: str | Path | None = None) -> AdaptedModel:
    """Load a LoRA or α-LoRA adapter that PEFT saved, and its base model.

    Safetensors only, and code that comes with a model is not run.

    The kind of model follows the adapter's task type: CAUSAL_LM, SEQ_CLS, TOKEN_CLS, FEATURE_EXTRACTION, or none (a
    causal language model if the base is one, else the bare encoder). A classifier gets as many labels as the adapter's
    own head has.

    Args:
        adapter: a folder as `PeftModel.save_pretrained` writes it, or a hub name.
        base: the base model as `find_model` takes it; None: the one that the adapter's configuration names.

    Returns:
        The model on the processor, in evaluation mode, with the adapter active and nothing of it to be trained.

    Raises:
        ModelError: adapter or base is missing, broken, neither LoRA nor α-LoRA, or the two do not belong together.

    **Cost.** Base and adapter are each read once, and a base that is a folder once more for its hash.
    **Source**: ours.
    """
    name = _name("adapter", adapter)
    folder = _adapter_folder(name)
    config = _adapter_config(folder)
    shapes = _shapes(folder)
    source = _base_source(config, None if base is None else _name("base model", base))
    model = _base_model(source, config, shapes)
    tokenizer = _tokenizer(folder, source)
    if model.config.pad_token_id is None:  # a classifier of causal make looks for the last token that is not padding
        model.config.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return AdaptedModel(name, source, _attach(model, config, folder), tokenizer)


def _name(what: str, given: object) -> str:
    if not isinstance(given, str | Path):
        raise ModelError(f"the {what} is of the type {type(given).__name__}: give a folder or a hub name, as text")
    if not str(given):
        raise ModelError(f"the {what} is an empty text: give a folder or a hub name")
    return str(given)


def _adapter_folder(adapter: str) -> Path:
    folder = Path(adapter)
    if not os.path.isdir(adapter):  # pathlib raises where a name is too long
        if not HUB_NAME.match(adapter):
            raise ModelError(f'"{adapter}" is not an adapter: give a folder that PEFT has saved, or a hub name')
        folder = _downloaded(adapter)
    if not (folder / CONFIG_FILE).is_file():
        raise ModelError(f'"{adapter}" has no {CONFIG_FILE}: give a folder as `PeftModel.save_pretrained` writes it')
    if not (folder / WEIGHTS_FILE).is_file():
        pickled = (folder / PICKLED_FILE).is_file()
        hint = f" ({PICKLED_FILE} is a pickle, which is not loaded; save it again as safetensors)" if pickled else ""
        raise ModelError(f'"{adapter}" has a configuration but no {WEIGHTS_FILE}{hint}')
    return folder


def _downloaded(name: str) -> Path:
    try:  # the weights by their one safe name, so that a pickle is never even fetched
        return Path(snapshot_download(name, allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, "token*", "special_tokens*"]))
    except Exception as error:  # the hub client raises its own kinds, those of its transport, and OSError
        raise ModelError(
            f'"{name}" is not a folder here and could not be read from the hub: {first_line(error)}'
        ) from None


def _adapter_config(folder: Path) -> LoraConfig:
    try:
        content = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ModelError(
                f'"{folder}": {CONFIG_FILE} is of the type {type(content).__name__}, not an object of settings: save '
                "the adapter again with PEFT"
            )
        if (kind := content.get("peft_type")) not in list(_CONFIG_CLASSES):
            accepted = ", ".join(_CONFIG_CLASSES)
            raise ModelError(f'"{folder}" is an adapter of the type {kind}: {accepted} can be loaded')
        for key in ("base_model_name_or_path", "revision", "task_type"):
            if not isinstance(content.get(key), str | None):
                raise ModelError(f'"{folder}": {key} in {CONFIG_FILE} is {content[key]}: a text or null is needed')
        if str(content.get("init_lora_weights")).startswith("pissa_niter"):
            raise ModelError(
                f'"{folder}": init_lora_weights is {content["init_lora_weights"]}, which draws the frozen weights anew '
                "at every load: save the adapter converted to LoRA (path_initial_model_for_weight_conversion)"
            )
        return _CONFIG_CLASSES[kind].from_pretrained(str(folder))
    except ModelError:
        raise
    except Exception as error:  # a file of another make can fail in any way
        raise ModelError(f'"{folder}": {CONFIG_FILE} cannot be read: {first_line(error)}') from error


def _shapes(folder: Path) -> dict[str, list[int]]:
    """The shape of every tensor of the adapter, by its name in the file."""
    try:
        with safe_open(folder / WEIGHTS_FILE, "pt") as file:
            return {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # safetensors raises its own kind
        raise ModelError(f'"{folder}": {WEIGHTS_FILE} cannot be read: {first_line(error)}') from error


def _base_source(config: LoraConfig, base: str | None) -> ModelSource:
    recorded = config.base_model_name_or_path
    if base is None and not recorded:
        raise ModelError(
            "the adapter's configuration names no base model: name it (base=..., --base on a command line)"
        )
    try:
        source = find_model(base or recorded)
    except ModelError as error:
        if base is not None:
            raise
        raise ModelError(
            f"the adapter's base model was not found: {error} If it is elsewhere now, name it (base=..., --base on a "
            "command line)"
        ) from None
    if base is None and source.revision and config.revision:  # PEFT records here which commit of the base it was
        return replace(source, hash=config.revision, revision=config.revision)
    return source


def _base_model(source: ModelSource, config: LoraConfig, shapes: dict[str, list[int]]) -> Any:
    base_config = config_of(source)
    kind, n_labels = _model_class(config.task_type, base_config), _n_labels(shapes)
    if config.task_type in _CLASSIFIERS and n_labels is not None:
        base_config.num_labels = n_labels
    with no_warnings():  # there would be one of a new head, which the adapter is about to fill
        model, found = read_weights(source, kind, base_config, "auto")
    _check_base_weights(source, found, shapes, has_head=config.task_type in _CLASSIFIERS)
    return model


def _model_class(task_type: str | None, base_config: Any) -> Any:
    if task_type is None:
        return AutoModelForCausalLM if is_causal(base_config) else AutoModel
    if task_type not in _MODEL_CLASSES:
        raise ModelError(f"the adapter's task type is {task_type}; {', '.join(_MODEL_CLASSES)} or none can be loaded")
    return _MODEL_CLASSES[task_type]


def _n_labels(shapes: dict[str, list[int]]) -> int | None:
    return next((shape[0] for name, shape in shapes.items() if name.endswith(_LABEL_WEIGHTS)), None)


def _check_base_weights(
    source: ModelSource, found: dict[str, Any], shapes: dict[str, list[int]], has_head: bool
) -> None:
    """Refuse weights that transformers filled with random numbers, unless the adapter brings them."""
    saved = {name.removeprefix("base_model.model.") for name in shapes}
    # A bare encoder's pooler comes after every other layer, and many encoders are saved without one.
    missing = names_of(found, "missing_keys")
    idle = set(filter(is_of_pooler, missing))
    if has_head or any(map(is_of_pooler, saved)):
        idle = set()
    wrong = sorted((missing - idle | names_of(found, "mismatched_keys")) - saved)
    if wrong:
        raise ModelError(
            f'"{source.name}" lacks {listed(wrong)}, and so does the adapter: is it the base of this adapter? A new '
            "head has to be saved with the adapter (modules_to_save)"
        )


def _tokenizer(folder: Path, source: ModelSource) -> Any:
    own = (folder / "tokenizer_config.json").is_file()
    return tokenizer_of(source, folder if own else None)


def _attach(model: Any, config: LoraConfig, folder: Path) -> PeftModel:
    """What `PeftModel.from_pretrained` does, but with the names that are missing or too many as its result."""
    config.inference_mode = True
    try:
        with quiet_peft():
            adapted = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)(model, config)
            loaded = adapted.load_adapter(str(folder), "default", torch_device="cpu")
    except KeyError as error:
        raise ModelError(f'"{folder}" does not fit the base model: {WEIGHTS_FILE} lacks {error}') from error
    except Exception as error:  # PEFT raises ValueError, torch RuntimeError
        raise ModelError(f'"{folder}" does not fit the base model: {_reasons(error)}') from error
    for what, names in (("lacks", loaded.missing_keys), ("holds what the model has not:", loaded.unexpected_keys)):
        if names:
            raise ModelError(f'"{folder}" does not fit the base model: {WEIGHTS_FILE} {what} {listed(names)}')
    for name, parameter in adapted.named_parameters():
        if "lora_" in name and not torch.isfinite(parameter).all():
            raise ModelError(f'"{folder}": {name} holds numbers that are not finite')
    return adapted.requires_grad_(False).eval()


def _reasons(error: Exception) -> str:
    """torch lists the sizes that differ, a line each, after the first line."""
    lines = [line.strip() for line in str(error).splitlines()]
    return listed([line for line in lines if line.startswith("size mismatch")]) or first_line(error)
