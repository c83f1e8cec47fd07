"""`loralaw new`: a study file to start from."""

from pathlib import Path
from typing import Annotated

import typer

from loralaw.errors import StudyFolderError

TEMPLATE = """\
# A loralaw study: every combination of the lists below is one cell, one small training run.
# Run it:  loralaw run {file}
name: "{name}"

# Embedded models (micro-0.4m, micro-1.3m, micro-6m), folders such as ./llama (with the dot), or hub names.
base_models: [micro-0.4m, micro-1.3m, micro-6m]

# A task by name (`loralaw tasks`), or a JSONL, CSV or Parquet file of yours with a column `text`, or `prompt` and
# `completion`. Several: `tasks: [arc_easy, boolq]`. Prompt templates as an axis: `templates: [instruction, question]`.
# task: {{file: train.jsonl, text_column: text}}
task: stdlib-code

# lora, rslora, dora, alpha-lora, full; with settings: {{name: lora, lora_alpha: 32, target_modules: [q_proj, v_proj]}}
methods: [lora]
ranks: [1, 4, 16, 64]
sizes: [50, 200, 800] # training examples; not more than all steps read
seeds: [0, 1]
layout: grid # or star: one axis at a time around the middle of each list

training:
  steps: 200 # or epochs
  batch_size: 4
  max_length: 96 # tokens
  learning_rate: 2e-3
"""


def new(
    name: Annotated[str, typer.Argument(help="Name of the study; the file is NAME.yaml.")],
) -> None:
    """Write a study file to start from."""
    from loralaw.spec import parse_study
    from loralaw.store.atomic import storage_error

    parse_study({"name": name, "base_models": ["x"], "task": "x", "ranks": [1], "sizes": [1]}, "loralaw new")
    path = Path(f"{name}.yaml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(name=name, file=path))
    except FileExistsError:
        raise StudyFolderError(f"{path} exists: choose another name, or edit that file") from None
    except OSError as error:
        raise storage_error(path, error) from None
    typer.echo(f"{path} written; run it with: loralaw run {path}")
