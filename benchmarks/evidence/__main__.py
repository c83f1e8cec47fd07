"""The numbers of docs/evidence.md and of the README's headline, from the record tables in results/evidence.

    python benchmarks/evidence              # prints every block of the documents
    python benchmarks/evidence glue cells  # some of them
    python benchmarks/evidence --write      # puts them into the documents, between their marks, and draws the figures

Nothing is trained and no chance enters: the same tables give the same text. A test holds the documents to it.
"""

import argparse
from pathlib import Path

from blocks import BLOCKS, DOCUMENTS, filled, shown
from figures import draw

from loralaw.errors import LoralawError
from loralaw.store import write_text

REPOSITORY = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "blocks", nargs="*", metavar="BLOCK", help=f"out of {', '.join(BLOCKS)}; all of the documents if none is named"
    )
    parser.add_argument("--write", action="store_true", help="put them into the documents")
    asked = parser.parse_args()
    if unknown := [name for name in asked.blocks if name not in BLOCKS]:
        parser.error(f"no such block: {', '.join(unknown)}; there are {', '.join(BLOCKS)}")
    if asked.write and asked.blocks:
        parser.error("--write writes all blocks: name none")
    try:
        if asked.write:
            _write()
        else:
            for name in asked.blocks or shown(REPOSITORY):
                print(f"## {name}\n\n{BLOCKS[name]()}\n")
    except LoralawError as error:
        parser.error(str(error))


def _write() -> None:
    """All documents, or none of them."""
    paths = [REPOSITORY / document for document in DOCUMENTS]
    texts = [filled(path.read_text(encoding="utf-8")) for path in paths]
    for path, text in zip(paths, texts, strict=True):
        write_text(path, text)
    draw(REPOSITORY / "docs" / "figures")


if __name__ == "__main__":
    main()
