"""What the hub says of a model, and what is wrong where it says nothing."""

import os
from collections.abc import Iterable

from huggingface_hub import constants, get_session, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)
from transformers.utils.hub import extract_commit_hash, has_file

from loralaw.errors import ModelError, did_you_mean

SAFE_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLED_WEIGHTS = ("pytorch_model.bin", "pytorch_model.bin.index.json")
_MAX_LINE, _PATIENCE_SECONDS = 300, 5.0


class OutOfReachError(ModelError):
    """A model that may well exist: the hub does not answer, or not to us."""


def hub_commit(name: str, accepted: str, known: Iterable[str], is_patient: bool = True) -> str:
    """The commit of a model's main branch, from the hub, or from its cache where the hub cannot be reached.

    Args:
        name: on the hub.
        accepted: what else may be named, in words.
        known: names that may have been meant.
        is_patient: as the client is, which tries for half a minute; else the cache is read if the hub is silent.

    Raises:
        OutOfReachError: no network, or the model is gated.
        ModelError: the hub has no such model, or it has no config.json.
    """
    try:
        from_cache = not is_patient and not answers()
        commit = extract_commit_hash(hf_hub_download(name, "config.json", local_files_only=from_cache), None)
    except Exception as error:  # the hub client raises its own kinds, those of its transport, and OSError
        raise explained(error, name, accepted, did_you_mean(name, set(known) - {name})) from None
    if not commit:
        raise ModelError(f'"{name}": the hub gave no commit for it, so its results could not be told from another\'s')
    return str(commit)


def answers() -> bool:
    """Whether the hub says anything, at once."""
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE_SECONDS)
    except Exception:  # those of the client's transport, which is not ours to name
        return False
    return True


def explained(error: Exception, name: str, accepted: str, hint: str = "") -> ModelError:
    """What an error of the hub client means for a model (or an adapter), in one line with its cure.

    Args:
        error: of any kind.
        name: on the hub.
        accepted: what else may be named, in words.
        hint: a name that may have been meant.
    """
    if isinstance(error, GatedRepoError):
        return OutOfReachError(
            f'"{name}" is gated: accept its terms on its page (https://huggingface.co/{name}) and log in with '
            "hf auth login (or HF_TOKEN)"
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f'"{name}" is not a folder here and not on the hub, or is private there: check the name, or log in with hf '
            f"auth login (or HF_TOKEN). Accepted: {accepted}.{hint}"
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return ModelError(f'"{name}" is on the hub but has no config.json: it is not a model for transformers')
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled | ConnectionError):
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        return OutOfReachError(
            f'"{name}" is not a folder here and could not be read from the hub{offline}: put its config.json, '
            "tokenizer files and *.safetensors into a folder and name that, or fill the hub's cache (HF_HOME) where "
            f"there is a network. Accepted: {accepted}.{hint}"
        )
    return ModelError(
        f'"{name}" is not a folder here and could not be read from the hub: {first_line(error)} Accepted: {accepted}.'
        f"{hint}"
    )


def has_weights(name: str, commit: str, pickled: bool) -> bool:
    """Whether a model has weights that may be loaded, on the hub, or in its cache where the hub cannot be reached."""
    names = SAFE_WEIGHTS + (PICKLED_WEIGHTS if pickled else ())
    try:
        return any(has_file(name, file, revision=commit) for file in names)
    except Exception as error:
        raise explained(error, name, "a folder, or a hub name") from None


def first_line(error: Exception) -> str:
    """What an error says first; of a long line the beginning and the end, cut between words."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if len(line) <= _MAX_LINE:
        return line
    begin, end = line[: _MAX_LINE // 2], line[-_MAX_LINE // 2 :]
    return f"{begin.rpartition(' ')[0] or begin} … {end.partition(' ')[2] or end}"
