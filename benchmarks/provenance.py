"""What a table of measurements must say about itself: when, with what, on what."""

import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch

import loralaw


def provenance(seeds: str) -> str:
    """A paragraph of Markdown; `seeds` says in words which random numbers were drawn."""
    shown = [Path(word).name if "/" in word else word for word in sys.argv[1:]]  # no path of one machine
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *shown])
    return (
        f"Measured {datetime.now(UTC):%Y-%m-%d} with `{command}`; loralaw {loralaw.__version__}, torch "
        f"{torch.__version__}, Python {platform.python_version()}; {_processor()}, threads: {torch.get_num_threads()}. "
        f"{seeds}\n"
    )


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, or a line that says that it is empty."""
    if not rows:
        return "None.\n"
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
