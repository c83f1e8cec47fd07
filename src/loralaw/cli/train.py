"""`loralaw train`: one model, no study."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from loralaw.study import OneModel

_OPTIONS = {"target_modules": "--target-module"}
"""Options that are not called as the fields of `OneModel`."""


def train(
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Embedded name, local folder or hub name.", show_default=False)
    ],
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK",
            help="A task by name (`loralaw tasks`), or a .jsonl, .csv or .parquet file.",
            show_default=False,
        ),
    ],
    examples: Annotated[int, typer.Option(metavar="N", help="Training examples.", show_default=False)],
    method: Annotated[str, typer.Option(metavar="NAME", help="lora, rslora, dora, alpha-lora or full.")] = "lora",
    rank: Annotated[
        int | None, typer.Option(metavar="R", help="Rank of the adapter; full has none.", show_default=False)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps; 300 if no epochs are given.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the examples, instead of steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step; 4 if not given.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens an example; 128 if not given.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of AdamW; 2e-3 if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Draws examples, order and first weights.")] = 0,
    lora_alpha: Annotated[float | None, typer.Option(help="PEFT's constant in the scale; 16 if not given.")] = None,
    target_module: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="May be repeated; all linear layers if not given.")
    ] = None,
    row_scale_protocol: Annotated[
        str | None, typer.Option(metavar="NAME", help="held-out, joint or authors; held-out if not given.")
    ] = None,
    row_scale_every: Annotated[
        int | None, typer.Option(help="Adapter steps from one step of α to the next; 10 if not given.")
    ] = None,
    row_scale_learning_rate: Annotated[float | None, typer.Option(help="Of α; 5e-3 if not given.")] = None,
    text_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column to learn, of a file.")] = None,
    prompt_column: Annotated[str | None, typer.Option(metavar="NAME", help="Column to read, not to learn.")] = None,
    completion_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column to learn after the prompt.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to; runs/MODEL-METHOD-rR-sSEED if not given.", show_default=False),
    ] = None,
) -> None:
    """Train one model and measure it: the adapter, its record and its log in one folder."""
    from loralaw.cli.console import console
    from loralaw.errors import Problem, SpecError

    screen = console()
    try:
        from loralaw.study import OneModel, train_one, watch

        one = OneModel(
            model=model,
            task=task,
            examples=examples,
            method=method,
            rank=rank,
            seed=seed,
            steps=steps,
            epochs=epochs,
            batch_size=batch_size,
            max_length=max_length,
            learning_rate=learning_rate,
            lora_alpha=lora_alpha,
            target_modules=target_module,
            row_scale_protocol=row_scale_protocol,
            row_scale_every=row_scale_every,
            row_scale_learning_rate=row_scale_learning_rate,
            text_column=text_column,
            prompt_column=prompt_column,
            completion_column=completion_column,
        )
        record = train_one(one, out, watch(screen))
    except SpecError as error:
        raise SpecError("loralaw train", [Problem(_option(p.where), p.message) for p in error.problems]) from None
    except KeyboardInterrupt:
        screen.print("\ninterrupted: the same command begins again")
        raise typer.Exit(130) from None
    screen.print(_summary(one, record, out or one.default_folder()))
    if record["status"] != "finished":
        raise typer.Exit(1)


def _option(field: str) -> str:
    return _OPTIONS.get(field, "--" + field.replace("_", "-"))


def _summary(one: "OneModel", record: dict[str, Any], folder: Path) -> "RenderableType":
    """What came of it. Names are shown as text, never as markup."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    if record["status"] != "finished":
        grid.add_row(Text(record["status"]), Text(f"{record['reason']}; the record is in {folder}"))
        return grid
    for name, value in (*_results(record), *_costs(record), *_places(one, record, folder)):
        grid.add_row(Text(name), Text(value))
    return grid


def _results(record: dict[str, Any]) -> list[tuple[str, str]]:
    from loralaw.report.wording import significant

    measured, absent = record["metrics"], record["absent_metrics"]
    rows = []
    for title, name, stderr, unit in (
        ("test cross-entropy", "cross_entropy", "cross_entropy_stderr", " nats"),
        ("perplexity", "perplexity", None, ""),
        ("accuracy", "accuracy", "accuracy_stderr", ""),
        ("choice accuracy", "choice_accuracy", "choice_accuracy_stderr", ""),
        ("F1", "f1", "f1_stderr", ""),
        ("Matthews correlation", "matthews_correlation", "matthews_correlation_stderr", ""),
        ("Pearson correlation", "pearson", "pearson_stderr", ""),
        ("Spearman correlation", "spearman", "spearman_stderr", ""),
        ("MIUB", "miub_nats", "miub_stderr_nats", " nats"),
    ):
        if name not in measured:  # what a task has not is not said
            rows += [(title, f"not measured: {absent[name]}")] if name in absent else []
            continue
        error = f" ± {significant(measured[stderr], 2)}" if measured.get(stderr) is not None else ""
        rows.append((title, f"{significant(measured[name], 4)}{error}{unit}"))
    return rows


def _costs(record: dict[str, Any]) -> list[tuple[str, str]]:
    from loralaw.report.wording import ABSENT, duration, significant, whole

    counts, cost = record["counts"], record["cost"]
    share = significant(100 * counts["n_params_trainable"] / counts["n_params_total"])
    peak = cost["peak_memory_bytes"]
    return [
        ("trained parameters", f"{whole(counts['n_params_trainable'])}, {share} % of the base model's"),
        ("time", f"{duration(cost['train_seconds'])} of training, {duration(cost['evaluate_seconds'])} of measuring"),
        ("peak memory", ABSENT if peak is None else f"{significant(peak / 1e9)} GB"),
    ]


def _places(one: "OneModel", record: dict[str, Any], folder: Path) -> list[tuple[str, str]]:
    """Where it lies, and how it is loaded."""
    from loralaw.store import ADAPTER, MODEL

    if one.method == "full":
        place = folder / MODEL
        kind = "AutoModelForCausalLM" if record["cell"]["n_labels"] is None else "AutoModelForSequenceClassification"
        return [("model", str(place)), ("load it", f'{kind}.from_pretrained("{place.as_posix()}")')]
    place = folder / ADAPTER
    load = f'PeftModel.from_pretrained(base, "{place.as_posix()}")'
    return [
        ("adapter", str(place)),
        ("load it", f"import loralaw.tuners; {load}" if one.method == "alpha-lora" else load),
    ]
