"""K adapters ("cells") of one frozen causal language model, trained in one forward and backward pass."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from loralaw.errors import InputError, did_you_mean
from loralaw.miub import LayerStatistics, effective_rank
from loralaw.tasks import EncodedQuestions
from loralaw.training.adapters import LayerAdapter, build_adapter, save_adapter
from loralaw.training.batch import Batch, check_batch, check_cells, check_tokens
from loralaw.training.bucket import Bucket, bucket_key, flatten_adapter, flatten_row_scale
from loralaw.training.cell import PackCell, RunningCell
from loralaw.training.choice_scores import score_choices
from loralaw.training.gradients import add_gradients
from loralaw.training.pack_pass import Learns, PackPass, Probe
from loralaw.training.packed_base import PackedBase
from loralaw.training.scores import Scores, join_rows, row_blocks, score_rows, statistics_probe
from loralaw.training.tree_rows import TreeRows


class Pack:
    """Train K cells together, each exactly as it would train alone: a solo run is a pack of one.

    The rows of a batch are K contiguous groups, one a cell, and every adapted layer computes

        y_k = α_k ⊙ (W₀ x_k + b) + s_k B_k A_k x_k        for the rows of cell k (α_k of α-LoRA only)

    with one product for the frozen W₀ and batched small products for the adapters. Nothing else in the model knows of
    cells: rows never mix. Every cell keeps its own AdamW, schedule, clipping and dropout stream. With one `pad_to` for
    all packs, a cell's numbers do not depend on its company, bit for bit, on one kind of CPU and build (tested, not
    promised by the libraries below).

    The frozen base always runs in eval mode (see `FrozenBase`); adapter dropout is active in `step` and off in `score`.

    Args:
        model: a causal language model of transformers, on its device; it belongs to the pack until `unload`.
        cells: what to train.
        dtype: of the products, torch.float32 or torch.bfloat16; adapters and optimizers are float32 always.
        pad_to: every training batch is padded to this many tokens.
        n_micro_batches: every batch of training goes through in so many equal parts, for the memory of one; the steps
            are those of the whole batch.

    Raises:
        ModelError: a model that packing would compute wrongly, or targets that it does not have; before any training.
        InputError: cells that are not usable.

    Cost: in bfloat16 about 1.1 · K·rows·length · [layers · (30·hidden + 8·intermediate + 14·padded rank) + 12·hidden]
    bytes for a step, and 16 bytes a trained number. Speed is best at 2,000 to 8,000 tokens a step over all cells.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        cells: Sequence[PackCell],
        *,
        dtype: torch.dtype = torch.float32,
        pad_to: int,
        n_micro_batches: int = 1,
    ) -> None:
        check_cells(cells, pad_to, n_micro_batches)
        self.pad_to, self._n_micro_batches = pad_to, n_micro_batches
        self._base = PackedBase(model, dtype)
        self._buckets: list[Bucket] = []
        try:
            self._cells = [self._start(cell) for cell in cells]
            self._lay_out()
            self._base.replace(dict.fromkeys(name for cell in self._cells for name in cell.adapter.layers))
            self._check_layers_are_used()
        except BaseException:
            self.unload()
            raise

    @property
    def keys(self) -> tuple[str, ...]:
        """The cells still in the pack, in the order of `Scores`."""
        return tuple(cell.key for cell in self._cells)

    def step(self, batches: Mapping[str, Batch]) -> dict[str, float]:
        """One optimizer step of every adapter; where α learns in the same steps ("joint"), of α too.

        Args:
            batches: for each key of the pack, its (ids, labels) of (its batch size, at most `pad_to`).

        Returns:
            Each cell's mean loss over its scored tokens before the step, nats a token. A cell whose loss is not finite
            has diverged: drop it with `keep`. The others are not disturbed by it.

        Raises:
            InputError: keys, shapes or types that do not fit, or a batch without a scored token.
        """
        losses = self._add_gradients(batches, Learns.ADAPTER)
        for cell in self._cells:
            cell.optimizer_step()
        self._zero_gradients()
        return losses

    def row_scale_step(self, batches: Mapping[str, Batch]) -> dict[str, float]:
        """One step of α of some cells, their adapters fixed; the other cells have no part in it.

        Args:
            batches: as of `step`, for cells whose α has steps of its own.

        Returns:
            Each cell's mean loss before the step, nats a token.

        Raises:
            InputError: as `step`, or a cell without steps of α.
        """
        for key in batches:
            if self._cell(key).row_scale is None or self._cell(key).is_joint:
                raise InputError(f'cell "{key}" has no row scale that learns in steps of its own')
        with self.only(batches.keys()):
            losses = self._add_gradients(batches, Learns.ROW_SCALE)
            for cell in self._cells:
                cell.row_scale_step()
            self._zero_gradients()
        return losses

    def keep(self, keys: Collection[str]) -> None:
        """Go on with these cells only; the others' numbers are gone, so save them first.

        Raises:
            InputError: a key that is not in the pack.
        """
        for key in keys:
            self._cell(key)
        self._cells = [cell for cell in self._cells if cell.key in keys]
        self._lay_out()

    @contextmanager
    def only(self, keys: Collection[str]) -> Iterator[None]:
        """Inside the `with` block the pack is these cells alone; afterwards it is as before, and the others untouched.

        Raises:
            InputError: a key that is not in the pack.
        """
        everyone = self._cells
        self.keep(keys)
        try:
            yield
        finally:
            self._cells = everyone
            self._lay_out()

    @torch.no_grad()
    def score(self, ids: Tensor, labels: Tensor) -> Scores:
        """Score the same rows with every cell, without dropout.

        Args:
            ids: (R, length) int64, padded on the right, any length the model takes.
            labels: (R, length) int64, -100 where a token is not scored; the first of a row never is.

        Returns:
            Sums by cell and row; memory is bounded by working in blocks of rows.

        Raises:
            InputError: shapes or types that do not fit, or no cell left in the pack.
        """
        check_tokens(ids, labels, "score")
        blocks = []
        for rows in self._blocks(ids):
            hidden = self._score_forward(ids[rows], None)
            blocks.append(score_rows(hidden, self._base.head, labels[rows].to(self._base.device), self.keys))
        return join_rows(blocks)

    @torch.no_grad()
    def score_choices(self, questions: EncodedQuestions) -> Tensor:
        """The summed loss of each option of the same questions with every cell, without dropout.

        Args:
            questions: with at least one.

        Returns:
            (K, options) float64, nats, on the CPU; cells in the order of `keys`, the options of a question after those
            of the one before.

        Raises:
            InputError: no cell left in the pack.
        """
        self._check_can_measure()
        return score_choices(
            questions, self._hidden_of, len(self._cells), self._base.head, self._base.model.config, self._base_hidden_of
        )

    @torch.no_grad()
    def probe(self, ids: Tensor, token_mask: Tensor, document: Tensor, statistics: LayerStatistics) -> None:
        """Add every adapted layer's base output z and adapter output u on the same rows to statistics, cell by cell.

        Args:
            ids: (R, length) int64, padded on the right.
            token_mask: (R, length) bool, true at real tokens; only these are added.
            document: (R,) int64, at least 0: the document of each row, by which standard errors are clustered.
            statistics: what to add to; one for all calls of a measurement.

        Raises:
            InputError: shapes that do not fit, or no cell left in the pack.
        """
        if token_mask.shape != ids.shape or document.shape != ids.shape[:1]:
            raise InputError(
                f"ids is {tuple(ids.shape)}, token_mask {tuple(token_mask.shape)}, document {tuple(document.shape)}: "
                "give (rows, length) twice and (rows,)"
            )
        for rows in self._blocks(ids):
            self._score_forward(ids[rows], statistics_probe(statistics, token_mask[rows], document[rows]))

    def effective_ranks(self, key: str) -> dict[str, float]:
        """`loralaw.miub.effective_rank` of a cell's adapter, by layer.

        Raises:
            InputError: a key that is not in the pack.
        """
        return {name: float(effective_rank(layer.a, layer.b)) for name, layer in self._trained(key).items()}

    def save_adapter(self, key: str, folder: str | Path) -> None:
        """Write a cell's adapter as an ordinary PEFT folder, which `PeftModel.from_pretrained` reads.

        Raises:
            InputError: a key that is not in the pack.
            StorageError: the disk refused.
        """
        save_adapter(self._cell(key).adapter, self._trained(key), self._base.model.name_or_path, Path(folder))

    def row_scales(self, key: str) -> dict[str, Tensor]:
        """α of a cell by layer, (out,) float32 each, as it is now; empty where there is none.

        Raises:
            InputError: a key that is not in the pack.
        """
        layers = self._trained(key).items()
        return {name: layer.row_scale for name, layer in layers if layer.row_scale is not None}

    def n_params_trainable(self, key: str) -> int:
        """Number of trained numbers of a cell, without padding."""
        return self._cell(key).adapter.n_params_trainable

    def unload(self) -> PreTrainedModel:
        """Give the model back exactly as it was; the pack cannot step or score any more. Again: does nothing."""
        return self._base.unload()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unload()

    # --- building ---

    def _start(self, cell: PackCell) -> RunningCell:
        adapter = build_adapter(self._base.model, cell.peft_config, cell.seed)
        row = flatten_adapter(adapter).to(self._base.device)
        generator = torch.Generator(self._base.device).manual_seed(cell.seed)
        alpha = flatten_row_scale(adapter)
        row_scale = None if alpha is None else nn.Parameter(alpha.to(self._base.device))
        return RunningCell(cell, adapter, nn.Parameter(row), row_scale, generator)

    def _lay_out(self) -> None:
        """Put the cells into buckets, moving their numbers; their optimizers and counters go on."""
        self._cells.sort(key=bucket_key)  # stable, so equal cells keep their order
        unchanged = {tuple(bucket.cells): bucket for bucket in self._buckets}
        groups = [tuple(cells) for _, cells in groupby(self._cells, key=bucket_key)]
        self._buckets = [unchanged.get(cells) or Bucket(cells) for cells in groups]

    @torch.no_grad()
    def _check_layers_are_used(self) -> None:
        ids = torch.zeros(len(self._cells), 2, dtype=torch.int64)
        current = PackPass(self._buckets, [1] * len(self._buckets), 2, self._base.dtype)
        self._base.run(ids, current)
        self._base.check_is_used(current.layers_seen)

    # --- running ---

    def _blocks(self, ids: Tensor) -> Iterator[slice]:
        """Rows that go through the model together."""
        self._check_can_measure()
        return row_blocks(ids)

    def _add_gradients(self, batches: Mapping[str, Batch], learns: Learns) -> dict[str, float]:
        self._base.check_loaded()
        self._check_batches(batches)
        return add_gradients(self._base, self._buckets, batches, self.pad_to, learns, self._n_micro_batches)

    def _zero_gradients(self) -> None:
        for bucket in self._buckets:
            bucket.zero_gradients()

    def _score_forward(self, ids: Tensor, probe: Probe | None) -> Tensor:
        """The same rows for every cell."""
        rows = [len(ids)] * len(self._buckets)
        current = PackPass(self._buckets, rows, ids.shape[1], self._base.dtype, probe=probe)
        return self._base.run(ids.repeat(len(self._cells), 1), current)

    def _hidden_of(self, rows: TreeRows) -> Tensor:
        """The same rows for every cell."""
        n_rows, length = rows.ids.shape
        current = PackPass(self._buckets, [n_rows] * len(self._buckets), length, self._base.dtype)
        rows = rows.to(self._base.device).repeated(len(self._cells))
        return self._base.run(rows.ids, current, rows.mask, rows.positions, rows.before)

    def _base_hidden_of(self, rows: TreeRows) -> Tensor:
        """Without any cell."""
        n_rows, length = rows.ids.shape
        current = PackPass([], [], length, self._base.dtype, n_base_rows=n_rows)
        rows = rows.to(self._base.device)
        return self._base.run(rows.ids, current, rows.mask, rows.positions, rows.before)

    # --- checking ---

    def _check_can_measure(self) -> None:
        self._base.check_loaded()
        if not self._cells:
            raise InputError("the pack has no cell left: nothing to measure")

    def _cell(self, key: str) -> RunningCell:
        for cell in self._cells:
            if cell.key == key:
                return cell
        raise InputError(f'no cell "{key}" in this pack; there are: {list(self.keys)}.{did_you_mean(key, self.keys)}')

    def _trained(self, key: str) -> dict[str, LayerAdapter]:
        cell = self._cell(key)
        return next(bucket for bucket in self._buckets if cell in bucket.cells).adapter_of(cell)

    def _check_batches(self, batches: Mapping[str, Batch]) -> None:
        if not self._cells or set(batches) != set(self.keys):
            raise InputError(f"batches are for {sorted(batches)}, the pack has {sorted(self.keys)}: give one a cell")
        for cell in self._cells:
            check_batch(cell.cell, batches[cell.key], self.pad_to)
