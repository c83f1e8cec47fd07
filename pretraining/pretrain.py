"""Pretrain one model of the micro family. Resumes from its last checkpoint; the same command gives the same run.

    python pretraining/pretrain.py micro-0.4m --corpus ../shared/data/english_novels/english_novels.parquet

Batches are random windows of the token stream, drawn from a generator seeded by the step, so a resumed run sees the
data that an uninterrupted one would have seen. Every eighth step is at the full context (8 x 512 tokens), the others
are 32 x 128. Writes a folder that plain `AutoModelForCausalLM.from_pretrained` loads, in bfloat16, with its tokenizer
and `pretraining.json` (recipe, tokens seen, validation loss).
"""

import argparse
import hashlib
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from corpus import CONTEXT, VOCABULARY, books, token_stream, train_tokenizer
from loralaw.training import attention

SIZES = {
    "micro-0.4m": {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 176, "num_attention_heads": 2},
    "micro-1.3m": {"hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 352, "num_attention_heads": 4},
    "micro-6m": {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 688, "num_attention_heads": 8},
}
LEARNING_RATES = {"micro-0.4m": 4e-3, "micro-1.3m": 3e-3, "micro-6m": 2e-3}
TOKENS_PER_STEP = 4096
WARMUP_STEPS = 200
CHECKPOINT_EVERY = 250
FINAL_LEARNING_RATE_SHARE = 0.02


def build_model(size: str, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    shape = SIZES[size]
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            max_position_embeddings=CONTEXT,
            num_key_value_heads=shape["num_attention_heads"],
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **shape,
        )
    )
    attention.register()
    model.set_attn_implementation(attention.FLOAT32_SDPA)
    return model


def batch(stream: np.ndarray, step: int) -> torch.Tensor:
    length = CONTEXT if step % 8 == 7 else 128
    starts = np.random.default_rng([0, step]).integers(0, len(stream) - length, TOKENS_PER_STEP // length)
    return torch.from_numpy(np.stack([stream[s : s + length] for s in starts]).astype(np.int64))


def learning_rate(step: int, n_steps: int, peak: float) -> float:
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    progress = (step - WARMUP_STEPS) / max(1, n_steps - WARMUP_STEPS)
    low = FINAL_LEARNING_RATE_SHARE
    return peak * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def validation_loss(model: LlamaForCausalLM, stream: np.ndarray, max_windows: int | None = None) -> float:
    """Nats a token over windows of the full context that do not overlap."""
    model.eval()
    windows = stream[: len(stream) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)[:max_windows]
    total = 0.0
    for at in range(0, len(windows), 16):
        ids = torch.from_numpy(windows[at : at + 16].astype(np.int64))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            total += float(model(input_ids=ids, labels=ids).loss) * len(ids)
    model.train()
    return total / len(windows)


def write_atomically(path: Path, state: dict) -> None:
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--corpus", type=Path, required=True, help="Parquet file with the columns split and text")
    parser.add_argument("--steps", type=int, default=5000, help=f"optimizer steps of {TOKENS_PER_STEP} tokens")
    parser.add_argument("--work", type=Path, default=Path("pretraining/checkpoints"), help="folder for checkpoints")
    parser.add_argument("--out", type=Path, default=Path("src/loralaw/models/micro"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)

    train_books = books(args.corpus, "train")
    tokenizer = train_tokenizer(train_books)
    train = token_stream(train_books, tokenizer)
    validation = token_stream(books(args.corpus, "validation"), tokenizer)
    model = build_model(args.size, tokenizer)
    n_params = sum(p.numel() for p in model.parameters())
    print(f"{args.size}: {n_params:,} parameters, {len(train):,} training tokens", flush=True)

    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}],
        lr=LEARNING_RATES[args.size],
        betas=(0.9, 0.95),
        fused=True,
    )
    checkpoint, first, seconds = args.work / f"{args.size}.pt", 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = state["step"], state["seconds"]

    compiled = torch.compile(model)
    started = time.perf_counter() - seconds
    for step in range(first, args.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, LEARNING_RATES[args.size])
        ids = batch(train, step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = compiled(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == args.steps:
            seconds = time.perf_counter() - started
            write_atomically(
                checkpoint,
                {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "seconds": seconds,
                },
            )
            print(
                f"step {step + 1} loss {loss.item():.3f} validation {validation_loss(model, validation, 64):.3f} "
                f"{seconds:.0f} s",
                flush=True,
            )

    folder = args.out / args.size
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = {
        "name": args.size,
        "n_params": n_params,
        "n_steps": args.steps,
        "n_tokens_seen": args.steps * TOKENS_PER_STEP,
        "n_tokens_corpus": len(train),
        "validation_loss_nats_per_token": round(validation_loss(model, validation), 4),
        "learning_rate": LEARNING_RATES[args.size],
        "train_seconds": round(seconds),
        "torch": torch.__version__,
        "corpus_sha256": hashlib.sha256(args.corpus.read_bytes()).hexdigest(),
    }
    (folder / "pretraining.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
