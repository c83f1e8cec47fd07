"""Write the model card of the micro family from what the pretraining recorded.

python pretraining/model_card.py
"""

import json
from pathlib import Path

FAMILY = Path(__file__).parents[1] / "src" / "loralaw" / "models" / "micro"
SIZES = ("micro-0.4m", "micro-1.3m", "micro-6m")

CARD = """\
# The micro family

Small Llama-architecture causal language models that come with loralaw, so that a first study needs no hub, no GPU and
no account. They have read English fiction and nothing else: adapting them to anything else is a real shift. They are
for measuring, not for writing.

| model | parameters | hidden | layers | heads | optimizer steps | tokens seen | validation loss (nats/token) |
| --- | --- | --- | --- | --- | --- | --- | --- |
{rows}

Validation loss: mean over all windows of 512 tokens of four whole books that were held out.

**Architecture.** Llama: rotary positions, RMS norm, gated feed-forward layers, no grouped-query attention, tied
embeddings, context 512. One byte-level BPE tokenizer of 4,096 tokens, trained on the training books; it encodes any
text. Weights are stored as bfloat16 safetensors. Each folder loads with plain
`AutoModelForCausalLM.from_pretrained` and `AutoTokenizer.from_pretrained`.

**Data.** 42 public-domain English novels by 33 authors, first published up to 1922 (the "100 English Novels" collection
of the Computational Stylistics Group), {n_tokens_corpus:,} tokens; validation on 4 other whole books. The text has the
views and the language of its time.

**Recipe.** `pretraining/pretrain.py`: AdamW (0.9, 0.95), weight decay 0.1, peak learning rate 4e-3, 3e-3 and 2e-3,
200 steps of warm-up, cosine to 2 %, gradients clipped to 1, 4,096 tokens a step (seven steps in eight as 32 × 128, the
eighth as 8 × 512), bfloat16 autocast, float32 weights, seed 0, on one or two processor cores.
{history}
**Limits.** They have seen few tokens for their size, the larger ones the fewest: a longer pretraining would lower all
losses, so the gaps between the sizes are those of this family, not of models in general.

Written by `python pretraining/model_card.py` from the `pretraining.json` of each folder.
"""


def main() -> None:
    recorded = {name: json.loads((FAMILY / name / "pretraining.json").read_text()) for name in SIZES}
    rows = []
    for name, card in recorded.items():
        config = json.loads((FAMILY / name / "config.json").read_text())
        rows.append(
            f"| {name} | {card['n_params']:,} | {config['hidden_size']} | {config['num_hidden_layers']} | "
            f"{config['num_attention_heads']} | {card['n_steps']:,} | {card['n_tokens_seen']:,} | "
            f"{card['validation_loss_nats_per_token']:.3f} |"
        )
    notes = [f"{name}: {card['note']}" for name, card in recorded.items() if "note" in card]
    first = recorded[SIZES[0]]
    text = CARD.format(
        rows="\n".join(rows),
        n_tokens_corpus=first["n_tokens_corpus"],
        history="".join(f"\n{note}\n" for note in notes),
    )
    (FAMILY / "README.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
