"""Training texts of equal size and different complexity, from Python's standard library.

    python benchmarks/complexity_texts.py
    loralaw run studies/evidence_complexity.yaml

The pieces of the embedded task's training modules are ordered by how well zlib compresses each. Four sets of 1,600 are
cut from that order, from the simplest quarter to the most complex; validation and test rows are those of the task, the
same for all. Prints the complexity of what a training sees of each set: bytes of its xz compression for a byte of text.
Writes `studies/evidence_texts/`.
"""

import json
import lzma
import random
import zlib
from collections.abc import Iterable
from pathlib import Path

from loralaw.tasks.stdlib_code import stdlib_code

FOLDER = Path(__file__).parents[1] / "studies" / "evidence_texts"
N_SETS, N_EXAMPLES = 4, 1600
N_SEEN = 100
"""Characters of a piece that 64 tokens hold, about."""


def main() -> None:
    data = stdlib_code()
    FOLDER.mkdir(parents=True, exist_ok=True)
    texts = sorted({row.completion for row in data.train}, key=lambda text: (_ratio(text), text))
    quarter = len(texts) // N_SETS
    for number in range(N_SETS):
        chosen = random.Random(0).sample(texts[number * quarter : (number + 1) * quarter], N_EXAMPLES)
        _write(f"complexity-{number + 1}", chosen)
        seen = "".join(text[:N_SEEN] for text in chosen).encode()
        print(f"complexity-{number + 1}: {len(lzma.compress(seen)) / len(seen):.3f} bytes a byte")
    _write("validation", (row.completion for row in data.validation))
    _write("test", (row.completion for row in data.test))


def _ratio(text: str) -> float:
    raw = text.encode()
    return len(zlib.compress(raw, 9)) / len(raw)


def _write(name: str, texts: Iterable[str]) -> None:
    lines = (json.dumps({"text": text}) + "\n" for text in texts)
    (FOLDER / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
