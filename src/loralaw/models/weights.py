"""Reading the weights of a model, and what is wrong with them."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from loralaw.errors import ModelError
from loralaw.models.heads import HEAD_SEED
from loralaw.models.sharding import whole
from loralaw.models.skeleton import cannot_load
from loralaw.models.source import ModelSource


def read_weights(
    source: ModelSource, kind: Any, config: PretrainedConfig, dtype: torch.dtype | str, **more: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Load a model as its source says: safetensors only and none of its code, unless that was allowed.

    Weights that are not in the files, such as a new head's, are drawn from one fixed seed; torch's own random state is
    left as it was.

    Args:
        source: where it is.
        kind: what transformers builds it with.
        config: its configuration.
        dtype: of the weights; "auto": as they are stored.
        more: for `from_pretrained`.

    Returns:
        The model, and what transformers says of keys that are missing or do not fit.

    Raises:
        ModelError: it cannot be loaded.
    """
    try:
        with no_progress_bars(), torch.random.fork_rng(_device_in_use()):
            torch.manual_seed(HEAD_SEED)
            model, found = kind.from_pretrained(
                source.location,
                config=config,
                revision=source.revision,
                dtype=dtype,
                use_safetensors=None if source.loading.pickled_weights else True,
                trust_remote_code=source.loading.trust_remote_code,
                output_loading_info=True,
                **more,
            )
    except Exception as error:  # transformers, safetensors and tokenizers each raise their own kinds
        raise cannot_load(source, error) from error
    return model, found


def _device_in_use() -> list[int]:
    """The GPU whose random state is to be kept too, if there is one in use."""
    return [torch.cuda.current_device()] if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]


def check_finite(source: ModelSource, model: PreTrainedModel) -> None:
    """Refuse numbers that are none.

    Raises:
        ModelError: with the first weight that holds such a number.
    """
    for name, parameter in model.named_parameters():
        # A byte or less of a quantised weight holds no such number, or has no test for it.
        if parameter.element_size() > 1 and not whole(torch.isfinite(parameter).all()):
            raise ModelError(f'"{source.name}": {name} holds numbers that are not finite')


def names_of(found: dict[str, Any], what: str) -> set[str]:
    """The weights of one sort ("missing_keys", "mismatched_keys"), of which some come with their shapes."""
    return {key if isinstance(key, str) else str(key[0]) for key in found.get(what) or ()}


def listed(names: Collection[str]) -> str:
    """The first three, and how many more."""
    first = list(names)[:3]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Without the bars of transformers, which would break ours; afterwards with them, if they were shown before."""
    were_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if were_shown:
            logging.enable_progress_bar()


@contextmanager
def no_warnings() -> Iterator[None]:
    """Without what transformers says of a new head, which is meant to be new."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
