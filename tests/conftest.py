"""What many tests need: one thread, no hub, and small base models that take no time."""

import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may ask a host
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from hypothesis import settings

from loralaw.models.source import EMBEDDED_FOLDER

# Fixed examples, and no deadline: a loaded machine is not a mistake.
settings.register_profile("loralaw", derandomize=True, deadline=None)
settings.load_profile("loralaw")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of 30,000 parameters and the micro family's tokenizer, as a user would have it."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSONL file of 60 rows with a text column, for all tests."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    path.write_text("".join(f'{{"text": "row {i}: the cat sat on mat {i * 7}"}}\n' for i in range(60)))
    return path


@pytest.fixture
def text_file(rows: Path, tmp_path: Path) -> Path:
    """The same as a test's own file."""
    return Path(shutil.copy(rows, tmp_path))
