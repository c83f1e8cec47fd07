"""Look again into the adapters of a finished study: with how few tokens, on which text, by which estimator.

    python benchmarks/inside_adapters.py studies/evidence_rank_scaling.yaml [--jobs 2]

Reads the study's folder (`studies/NAME`), whose adapters must still be there. Of every finished cell: each streaming
estimator, the controls, the cross-entropy and what the predictions say without labels, on the first 1, 4, 16 and 64 of
the same rows, once validation rows and once rows that the cell learned from; and on all 64 validation rows again
("matched") with u of every layer multiplied so that ‖u‖ = 0.3 ‖z‖: what is left of a difference between adapters when
their norms are made equal. Of the cells with the middle data size, the first seed and micro-1.3m, or the third rank, in
the layers of the middle block: also `channel_exact`, `gaussian_noise` and `vclub`. In float32.

Writes `results/evidence/NAME_tokens.parquet` and `NAME_slow.parquet`, and leaves the study as it is.
"""

import argparse
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
import torch
from joblib import Parallel, delayed
from peft import PeftModel
from torch import Tensor

from loralaw.miub import LayerStatistics
from loralaw.miub.adapted_layers import AdaptedLayer, adapted_layers
from loralaw.miub.estimators import column_of, estimate
from loralaw.miub.layer_hooks import LayerHooks
from loralaw.miub.scratch import Scratch
from loralaw.models import BaseModel, load_base_model
from loralaw.spec import Cell
from loralaw.store import ADAPTER, Study, open_study
from loralaw.study.check import CheckedStudy, check_file
from loralaw.tasks import NOT_SCORED, EncodedRows, TaskData, encode_examples
from loralaw.training.own_model import LayerReport

RESULTS = Path(__file__).parent / "results" / "evidence"
N_ROWS = (1, 4, 16, 64)
STREAMING = ("channel", "jsd", "jsd_standardised", "gaussian_coordinate")
SLOW = ("channel", "channel_exact", "gaussian_noise")
SLOW_BASE = "micro-1.3m"
SLOW_RANK = 2  # the third of the study
KEY = "cell"
MATCHED_NORM_RATIO = 0.3
PREDICTIONS = ("cross_entropy", "output_entropy", "output_divergence")
"""The loss, and two numbers that need no labels: how sure the model is, and how far it has gone from its base."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="the study file")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    checked = check_file(asked.study)
    cells = list(_finished(open_study(Path("studies") / checked.spec.name)))
    parts = [cells[at :: asked.jobs] for at in range(asked.jobs)]
    found = Parallel(asked.jobs)(delayed(_look)(asked.study, part) for part in parts)
    RESULTS.mkdir(exist_ok=True)
    for number, name in enumerate(("tokens", "slow")):
        table = pl.concat([pl.DataFrame(part[number]) for part in found if part[number]], how="diagonal")
        path = RESULTS / f"{checked.spec.name.removeprefix('evidence_')}_{name}.parquet"
        table.sort("key", *(["rows_of", "n_rows"] if name == "tokens" else ["layer"])).write_parquet(
            path, compression="zstd", compression_level=19
        )
        print(f"{path.name}: {table.height} rows")


def _finished(study: Study) -> Iterator[tuple[Cell, Path]]:
    for record in study.records():
        if record["status"] == "finished":
            yield Cell(**record["cell"]), study.cell_folder(record["key"])


def _look(file: Path, cells: list[tuple[Cell, Path]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A process's share."""
    torch.set_num_threads(1)
    checked = check_file(file)
    by_tokens, slow, bases = [], [], dict[str, BaseModel]()
    for cell, folder in cells:
        if cell.base_model not in bases:
            bases[cell.base_model] = load_base_model(checked.models[cell.base_model].source)
        base = bases[cell.base_model]
        model = PeftModel.from_pretrained(base.model, str(folder / ADAPTER)).eval()
        data = checked.data_of(cell)
        texts = _texts(data, cell, base)
        for rows_of, rows in texts.items():
            by_tokens += [{"key": cell.key, "rows_of": rows_of, **row} for row in _by_tokens(model, rows)]
        by_tokens.append({"key": cell.key, "rows_of": "matched", **_matched(model, texts["validation"])})
        if _is_slow(cell, checked):
            slow += [{"key": cell.key, **row} for row in _slow(model, texts["validation"])]
        model.unload()
    return by_tokens, slow


def _texts(data: TaskData, cell: Cell, base: BaseModel) -> dict[str, EncodedRows]:
    """The same validation rows for all cells, and as many of what a cell learned from as there are."""
    train = data.train_subset(cell.n_train_examples, cell.seed)
    drawn = {name: list(rows) for name, rows in (("validation", data.validation), ("train", train))}
    return {
        name: encode_examples(
            random.Random(0).sample(rows, min(N_ROWS[-1], len(rows))), base.tokenizer, cell.training["max_length"]
        )
        for name, rows in drawn.items()
    }


@torch.no_grad()
def _by_tokens(model: Any, rows: EncodedRows) -> Iterator[dict[str, Any]]:
    """Means over layers and what the predictions say, on more and more rows."""
    statistics, predictions, at = LayerStatistics(STREAMING), list[Tensor](), 0
    ranks = [layer.effective_rank() for layer in adapted_layers(model)[0]]
    for n_rows in (n for n in N_ROWS if n <= len(rows.ids)):
        part = slice(at, n_rows)
        report = LayerReport(KEY, rows.token_mask[part], rows.document[part], statistics)
        predictions.append(_predictions(model, rows, part, report))
        at = n_rows
        means = torch.cat(predictions).mean(0).tolist()
        yield {
            "n_rows": n_rows,
            "n_tokens": int(rows.n_tokens[:n_rows].sum()),
            **dict(zip(PREDICTIONS, means, strict=True)),
            **statistics.means(KEY),
            "effective_rank": sum(ranks) / len(ranks),
        }


@torch.no_grad()
def _matched(model: Any, rows: EncodedRows) -> dict[str, Any]:
    """Means over layers where the adapter's output has the same norm beside the frozen one in every layer."""
    own, matched, every = LayerStatistics(STREAMING), LayerStatistics(STREAMING), slice(None)
    _features(model, rows, every, LayerReport(KEY, rows.token_mask, rows.document, own))
    factors = {row["layer"]: MATCHED_NORM_RATIO / float(row["norm_ratio"] or 1) for row in own.rows(KEY)}
    report = LayerReport(KEY, rows.token_mask, rows.document, matched)

    def scaled(layer: AdaptedLayer, base: Tensor, adapter: Tensor) -> None:
        report(layer, base, adapter * factors[layer.name])

    _features(model, rows, every, scaled)
    return {"n_rows": len(rows.ids), "n_tokens": int(rows.n_tokens.sum()), **matched.means(KEY)}


def _features(model: Any, rows: EncodedRows, part: slice, report: Any, only: str = "") -> Tensor:
    """The logits, (rows, length, vocabulary); what the layers make of the rows goes to the report."""
    scratch = Scratch()
    with ExitStack() as hooks:
        for layer in adapted_layers(model)[0]:
            if only in layer.name:
                hooks.enter_context(LayerHooks(layer, report, scratch))
        return _logits(model, rows, part)


def _logits(model: Any, rows: EncodedRows, part: slice) -> Tensor:
    mask = rows.token_mask[part].long()
    logits: Tensor = model(input_ids=rows.ids[part], attention_mask=mask, use_cache=False).logits
    return logits


def _predictions(model: Any, rows: EncodedRows, part: slice, report: Any) -> Tensor:
    """Of every scored token (tokens, 3): its loss, and without its label the entropy of the prediction and how far that
    is from the base model's; nats."""
    labels = rows.labels[part][:, 1:]
    scored = labels != NOT_SCORED
    adapted = _features(model, rows, part, report)[:, :-1][scored].double().log_softmax(-1)
    with model.disable_adapter():
        base = _logits(model, rows, part)[:, :-1][scored].double().log_softmax(-1)
    loss = -adapted.gather(1, labels[scored][:, None])[:, 0]
    share = adapted.exp()
    return torch.stack([loss, -(share * adapted).sum(-1), (share * (adapted - base)).sum(-1)], dim=1)


def _is_slow(cell: Cell, checked: CheckedStudy) -> bool:
    spec = checked.spec
    middle = cell.n_train_examples == spec.sizes[len(spec.sizes) // 2] and cell.seed == spec.seeds[0]
    return middle and (cell.base_model == SLOW_BASE or cell.rank == spec.ranks[SLOW_RANK])


@torch.no_grad()
def _slow(model: Any, rows: EncodedRows) -> list[dict[str, Any]]:
    """The layers of the middle block by the estimators that cannot run at every layer."""
    block = f".layers.{model.config.num_hidden_layers // 2}."
    statistics, features = LayerStatistics(SLOW), dict[str, tuple[Tensor, Tensor]]()
    report = LayerReport(KEY, rows.token_mask, rows.document, statistics)

    def keep(layer: AdaptedLayer, base: Tensor, adapter: Tensor) -> None:
        report(layer, base, adapter)
        mask = rows.token_mask
        features[layer.name] = base[mask].clone(), adapter[mask].clone()

    _features(model, rows, slice(None), keep, only=block)
    sequence = rows.document[:, None].expand_as(rows.token_mask)[rows.token_mask]
    found = {str(row["layer"]): row for row in statistics.rows(KEY)}
    with torch.enable_grad():
        learned = {name: estimate(z, u, "vclub", sequence) for name, (z, u) in features.items()}
    return [{**found[name], column_of("vclub"): each.value_nats} for name, each in learned.items()]


if __name__ == "__main__":
    main()
