"""Which class of model a base becomes: a causal language model, or a classifier with a head of its own."""

from collections.abc import Iterable
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from loralaw.errors import ModelError

_CAUSAL_NAMES = ("ForCausalLM", "LMHeadModel")
HEAD_SEED = 0
"""Of weights that a model was saved without, so that every process begins with the same ones. Of a new head each cell
draws its own over them; a new pooler keeps them."""
HEADS = ("classifier", "score")
"""What transformers calls the heads of its classifiers."""
POOLER = "pooler"


def is_causal(config: PretrainedConfig) -> bool:
    """Whether a model was saved as a causal language model."""
    return any(name.endswith(_CAUSAL_NAMES) for name in config.architectures or ())


def is_encoder(config: PretrainedConfig) -> bool:
    """Whether its tokens see later ones, as BERT's do."""
    is_decoder = getattr(config, "is_decoder", False) or config.is_encoder_decoder
    return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_decoder and not is_causal(config)


def model_class(name: str, config: PretrainedConfig, n_labels: int | None) -> Any:
    """What transformers builds it with.

    Args:
        name: of the model, for messages.
        config: its configuration.
        n_labels: of a classifier, 1 for regression; None: a causal language model.

    Raises:
        ModelError: a causal language model is asked of an encoder.
    """
    if n_labels is not None:
        return AutoModelForSequenceClassification
    if is_encoder(config):
        made_as = (config.architectures or [config.model_type])[0]
        raise ModelError(
            f'"{name}" is an encoder ({made_as}): it can be trained on labelled tasks (mnli, …), not on text; name a '
            "causal language model, or another task"
        )
    return AutoModelForCausalLM


def give_labels(config: PretrainedConfig, n_labels: int) -> None:
    """Write into a configuration that its model is a classifier, or of one label a regression."""
    config.num_labels = n_labels
    config.problem_type = "regression" if n_labels == 1 else "single_label_classification"


def give_padding(name: str, model: PreTrainedModel, tokenizer: Any) -> None:
    """Tell a classifier what padding is: one of causal make looks for the last token that is something else.

    Raises:
        ModelError: nothing can serve as padding.
    """
    let_pad(name, tokenizer)
    model.config.pad_token_id = model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def let_pad(name: str, tokenizer: Any) -> None:
    """Let a tokenizer that has no padding token pad with its end token.

    Raises:
        ModelError: nothing can serve as padding.
    """
    check_padding(name, tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def check_padding(name: str, tokenizer: Any) -> None:
    """Raise `ModelError` where nothing can serve as padding."""
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise ModelError(
            f'the tokenizer of "{name}" has neither a padding nor an end token, and rows of a batch have to be '
            "made equally long: save it with a pad_token"
        )


def check_head(name: str, model: PreTrainedModel) -> None:
    """Raise `ModelError` unless all of a classifier's head is in the part that PEFT trains beside an adapter."""
    own = [child for child, module in model.named_children() if any(True for _ in module.parameters())]
    parts = [child for child in own if child != model.base_model_prefix]
    if len(parts) != 1 or parts[0] not in HEADS:
        raise ModelError(
            f'"{name}" gets a head of the parts {", ".join(parts) or "none"} ({type(model).__name__}), of which an '
            f"adapter would train those called {' or '.join(HEADS)} only: choose another model, such as RoBERTa or BERT"
        )


def head_modules(model: PreTrainedModel) -> set[str]:
    """Names of the modules that are the head's: what is outside the base model, the output head, and poolers.

    A pooler is between an encoder and its head; an encoder saved without one gets one as new as the head.
    """
    inside = f"{model.base_model_prefix}."
    has_body = model.base_model is not model
    output = model.get_output_embeddings()
    return {
        name
        for name, module in model.named_modules()
        if name and ((has_body and not f"{name}.".startswith(inside)) or module is output or is_of_pooler(name))
    }


def is_of_pooler(name: str) -> bool:
    """Whether a module or a weight with this name is a pooler's."""
    return POOLER in name.split(".")


def new_weights(model: PreTrainedModel, names: Iterable[str]) -> set[str]:
    """Which of these weights a classifier may begin with at random."""
    heads = head_modules(model)
    return {name for name in names if name.rpartition(".")[0] in heads}
