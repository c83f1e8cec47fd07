"""What a base model is before its weights are loaded: configuration, shapes, and files that can be read."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoTokenizer, BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from loralaw.errors import ModelError
from loralaw.models.heads import HEADS, POOLER, check_padding, give_labels, model_class
from loralaw.models.hub import first_line, has_weights
from loralaw.models.known_shapes import known_config
from loralaw.models.loading import bitsandbytes_settings
from loralaw.models.source import ModelSource


def skeleton(source: ModelSource, n_labels: int | None = None) -> PreTrainedModel:
    """The architecture without weights (on the meta device): shapes cost no memory.

    Args:
        source: the model.
        n_labels: of a classifier, 1 for regression; None: a causal language model.

    Raises:
        ModelError: the configuration is not one of such a model that transformers knows.
    """
    kind = "causal language model" if n_labels is None else "classifier"
    config = config_of(source, n_labels)
    if settings := quantisation_of(source, config, n_labels):
        config.quantization_config = settings.to_dict()  # as of a model that was saved quantised
    try:
        with torch.device("meta"):
            return model_class(source.name, config, n_labels).from_config(
                config, trust_remote_code=source.loading.trust_remote_code
            )
    except ModelError:
        raise
    except Exception as error:  # a configuration of another make can fail in any way
        raise ModelError(f'"{source.name}" is not a {kind} that can be built: {first_line(error)}') from None


_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer")


def context_length(config: PretrainedConfig) -> int | None:
    """Tokens that a model with this configuration reads at most; None where it has no such bound.

    The positions of RoBERTa and its kin begin after that of padding.
    """
    text = config.get_text_config()
    known = (getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx"))
    n_positions = next((int(n) for n in known if n), None)
    if n_positions and text.model_type in _POSITIONS_AFTER_PADDING:
        return n_positions - int(text.pad_token_id or 0) - 1
    return n_positions


def config_of(source: ModelSource, n_labels: int | None = None) -> PretrainedConfig:
    """The configuration as it was published, with the labels of a classifier.

    Raises:
        ModelError: it cannot be read, or needs code of its own.
    """
    config = known_config(source.name) if source.is_known_shape else _read_config(source)
    if n_labels is not None:
        give_labels(config, n_labels)
    return config


def quantisation_of(source: ModelSource, config: PretrainedConfig, n_labels: int | None) -> BitsAndBytesConfig | None:
    """How its weights are quantised while they are loaded; a classifier's head, which is trained, is not.

    Raises:
        ModelError: they are quantised already.
    """
    return bitsandbytes_settings(config, source.loading, None if n_labels is None else [*HEADS, f".*{POOLER}"])


def tokenizer_of(source: ModelSource, place: Path | None = None) -> Any:
    """The model's tokenizer, or one that lies elsewhere.

    Raises:
        ModelError: it cannot be loaded.
    """
    where, revision = (source.location, source.revision) if place is None else (str(place), None)
    trusted = source.loading.trust_remote_code and place is None
    try:
        return AutoTokenizer.from_pretrained(where, revision=revision, trust_remote_code=trusted)
    except Exception as error:  # transformers and tokenizers each raise their own kinds
        raise cannot_load(source, error, f'the tokenizer in "{where}"') from error


def check_files(source: ModelSource, vocabulary: int, *, has_labels: bool = False, is_chat: bool = False) -> None:
    """Read the tokenizer and the headers of a local folder's weights, so that what is wrong is found before training.

    Args:
        source: the model; of one that is dry nothing is read.
        vocabulary: tokens that its embedding has.
        has_labels: whether it is to get a classification head, which needs padding.
        is_chat: whether prompts are to be put into the turns of a chat.

    Raises:
        ModelError: the tokenizer or a file of weights is missing or cannot be read, or the tokenizer is another
            model's, or has no padding or no chat template where one is needed.
    """
    if source.is_dry:
        return
    if source.revision and not has_weights(source.location, source.revision, source.loading.pickled_weights):
        raise ModelError(
            f'"{source.name}" has no *.safetensors on the hub or, offline, in its cache; *.bin files are pickles, and '
            "only read with loading.pickled_weights: true"
        )
    tokenizer = tokenizer_of(source)
    try:
        for path in sorted(Path(source.location).glob("*.safetensors")):
            with safe_open(path, "pt"):
                pass
    except Exception as error:  # safetensors raises its own kind
        raise cannot_load(source, error) from error
    if n_tokens := _n_tokens_too_many(tokenizer, vocabulary):
        raise ModelError(
            f'"{source.name}": its tokenizer has {n_tokens:,} tokens, its embedding {vocabulary:,}: they '
            "are not of one model"
        )
    if has_labels:
        check_padding(source.name, tokenizer)
    if is_chat:
        _check_chat(source, tokenizer)


def cannot_load(source: ModelSource, error: Exception, what: str | None = None) -> ModelError:
    """What an error of transformers means, where it says that the model needs code of its own also how to allow that.

    Args:
        source: the model.
        error: of any kind.
        what: cannot be loaded, in words; the model if None.
    """
    if "trust_remote_code" in str(error) and not source.loading.trust_remote_code:
        return ModelError(
            f'"{source.name}" comes with Python code of its own and cannot be loaded without running it: with '
            "loading.trust_remote_code: true it runs here with your rights; read it first, or choose another model"
        )
    what = what or f'"{source.name}"'
    return ModelError(f"{what} cannot be loaded: {first_line(error)}")


def _read_config(source: ModelSource) -> PretrainedConfig:
    try:
        return AutoConfig.from_pretrained(
            source.location, revision=source.revision, trust_remote_code=source.loading.trust_remote_code
        )
    except Exception as error:  # a configuration of another make can fail in any way
        raise cannot_load(source, error) from None


def _n_tokens_too_many(tokenizer: Any, vocabulary: int) -> int:
    """How many tokens a tokenizer has, if some of them that text can give have no row in the embedding; else 0.

    Special tokens beyond it may be there for other models of a family, as Gemma 3's for images: text has none of them.
    But padding, begin and end are ours to use.
    """
    used = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id} - {None}
    beyond = set(range(vocabulary, len(tokenizer)))
    idle = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special} - used
    return len(tokenizer) if beyond - idle else 0


def _check_chat(source: ModelSource, tokenizer: Any) -> None:
    if not tokenizer.chat_template:
        raise ModelError(
            f'the tokenizer of "{source.name}" has no chat template, and a template of the study has chat: true: leave '
            "that out, or name a model that was trained to chat"
        )
    try:
        tokenizer.apply_chat_template([{"role": "user", "content": "?"}], add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template is a program, and can fail in any way
        raise ModelError(f'the chat template of "{source.name}" cannot be used: {first_line(error)}') from error
