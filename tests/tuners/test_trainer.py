"""The Trainer of two time scales: what a step changes, on which rows, and that a checkpoint goes on with the same."""

import math
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from trainer_models import (
    Endless,
    Recorder,
    arguments,
    classifier,
    language_model,
    largest_difference,
    named,
    rows,
    texts,
    trainer,
)
from transformers import TrainerCallback, get_scheduler

from loralaw.errors import InputError
from loralaw.tuners import ROW_SCALE, AlphaLoraConfig, row_scale_parameters

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

Batch = dict[str, torch.Tensor]


def mean_loss(model: torch.nn.Module, batches: list[Batch]) -> torch.Tensor:
    return sum(model(**batch).loss for batch in batches) / len(batches)


def train_by_hand(
    model: torch.nn.Module,
    adapter_batches: list[list[Batch]],
    row_scale_batches: Iterator[list[Batch]],
    due: Callable[[int], bool],
    row_scale_betas: tuple[float, float] = (0.9, 0.99),
    loss: Callable[[torch.nn.Module, list[Batch]], torch.Tensor] = mean_loss,
) -> None:
    """The authors' loop: AdamW with a linear schedule for the adapter, Adam with a constant rate for α."""
    model.train()
    row_scales = list(row_scale_parameters(model).values())
    adapter = [p for name, p in model.named_parameters() if p.requires_grad and ROW_SCALE not in name]
    optimizer = torch.optim.AdamW(adapter, lr=5e-3, betas=(0.9, 0.99), weight_decay=0.0)
    optimizer_row_scale = torch.optim.Adam(row_scales, lr=1e-2, betas=row_scale_betas)
    schedule = get_scheduler("linear", optimizer, 0, len(adapter_batches))
    for i, batches in enumerate(adapter_batches):
        optimizer.zero_grad()
        loss(model, batches).backward()
        optimizer.step()
        schedule.step()
        if due(i):
            optimizer_row_scale.zero_grad()
            loss(model, next(row_scale_batches)).backward()
            optimizer_row_scale.step()


def in_groups(batches: list[Batch], size: int) -> list[list[Batch]]:
    return [batches[first : first + size] for first in range(0, len(batches), size)]


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("every", [1, 3])
def test_held_out_is_two_optimizers_by_hand(tmp_path: Path, every: int, accumulation: int) -> None:
    """Three epochs and a bit; nothing in the Trainer's schedule touches α's learning rate."""
    settings = {"row_scale_every": every, "row_scale_learning_rate": 1e-2, "max_steps": 20 // accumulation}
    by_trainer = trainer(tmp_path, gradient_accumulation_steps=accumulation, **settings)
    by_trainer.loss_is_scaled_for_ga = False  # BERT's loss is a mean over the micro-batch, which the Trainer overlooks
    by_trainer.train()

    by_hand = classifier()
    flat = iter(by_trainer.batches("adapter"))
    if accumulation == 1:
        adapter = [[batch] for batch in flat]
    else:  # 51 rows are 7 batches: in the last step of an epoch the adapter has one, α has two as always
        adapter = [list(islice(flat, 1 if step % 4 == 3 else 2)) for step in range(10)]
    row_scale = in_groups(by_trainer.batches("row_scale"), accumulation)
    train_by_hand(by_hand, adapter, iter(row_scale), lambda i: i % every == 0)

    assert len(row_scale) == math.ceil(20 // accumulation / every)
    assert all(len(batch["input_ids"]) == 8 for batches in row_scale for batch in batches)
    assert largest_difference(by_trainer.model, by_hand) < 1e-6
    assert max((p - 1).abs().max() for p in named(by_hand, row_scale=True).values()) > 1e-2


@pytest.mark.parametrize("every", [1, 3])
def test_the_authors_protocol_is_their_loop(tmp_path: Path, every: int) -> None:
    """40 rows are 5 steps an epoch: with T = 3 α's steps fall on the first and the fourth of each."""
    by_trainer = trainer(
        tmp_path,
        n_rows=40,
        max_steps=15,
        row_scale_protocol="authors",
        row_scale_every=every,
        row_scale_learning_rate=1e-2,
        row_scale_batch_size=3,
    )
    by_trainer.train()
    share = list(by_trainer.row_scale_dataset)
    everything = rows(40)
    assert len(share) == 8
    assert [everything.index(row) for row in share] == sorted(everything.index(row) for row in share)

    def row_scale_batches() -> Iterator[list[Batch]]:
        stream = cycle(share)
        while True:
            taken = list(islice(stream, 3))
            yield [{key: torch.tensor([row[key] for row in taken]) for key in taken[0]}]

    by_hand = classifier()
    adapter = [[batch] for batch in by_trainer.batches("adapter")]
    train_by_hand(by_hand, adapter, row_scale_batches(), lambda i: (i % 5) % every == 0)

    assert largest_difference(by_trainer.model, by_hand) < 1e-6
    epoch = {row for batch in by_trainer.ids("adapter")[:5] for row in batch}
    assert epoch == {tuple(row["input_ids"]) for row in everything}  # the share is among the adapter's rows


def test_the_authors_betas_are_not_those_of_the_adapter(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"row_scale_learning_rate": 1e-2, "adam_beta2": 0.999}
    authors = trainer(tmp_path, row_scale_protocol="authors", **settings)
    held_out = trainer(tmp_path, **settings)
    authors.train()
    held_out.train()
    groups = [one.optimizer.param_groups for one in (authors, held_out)]
    assert [group["betas"] for group in groups[0]] == [(0.9, 0.999), (0.9, 0.999), (0.9, 0.99)]
    assert [group["betas"] for group in groups[1]] == [(0.9, 0.999)] * 3


def test_jointly_is_one_adamw_with_two_groups(tmp_path: Path) -> None:
    settings = {"row_scale_protocol": "joint", "row_scale_learning_rate": 1e-2}
    by_trainer = trainer(tmp_path, max_grad_norm=0.5, warmup_steps=2, **settings)
    by_trainer.train()
    assert {side for side, _ in by_trainer.passes} == {"both"}
    assert {row for batch in by_trainer.ids("both") for row in batch} == {tuple(row["input_ids"]) for row in rows(64)}

    model = classifier().train()
    row_scales = list(row_scale_parameters(model).values())
    adapter = [p for name, p in model.named_parameters() if p.requires_grad and ROW_SCALE not in name]
    optimizer = torch.optim.AdamW(
        [{"params": adapter, "lr": 5e-3}, {"params": row_scales, "lr": 1e-2}], betas=(0.9, 0.99), weight_decay=0.0
    )
    linear = lambda step: step / 2 if step < 2 else (10 - step) / 8  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [linear, lambda step: 1.0])
    for batch in by_trainer.batches("both"):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        schedule.step()
    assert largest_difference(by_trainer.model, model) < 1e-6


def test_the_tokens_of_all_micro_batches_count_alike(tmp_path: Path) -> None:
    """A language model's loss is a mean over the tokens of the whole step, also where α's micro-batches differ."""

    def token_loss(model: torch.nn.Module, batches: list[Batch]) -> torch.Tensor:
        sums, n_tokens = [], 0
        for batch in batches:
            targets = batch["labels"][:, 1:].flatten()
            logits = model(input_ids=batch["input_ids"]).logits[:, :-1].flatten(0, 1)
            sums.append(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
            n_tokens += int((targets != -100).sum())
        return sum(sums) / n_tokens

    by_trainer = trainer(
        tmp_path,
        model=language_model(),
        train_dataset=texts(40),
        per_device_train_batch_size=2,
        gradient_accumulation_steps=3,
        max_steps=5,
        row_scale_every=2,
        row_scale_learning_rate=1e-2,
    )
    by_trainer.train()
    by_hand = language_model()
    adapter, row_scale = (in_groups(by_trainer.batches(side), 3) for side in ("adapter", "row_scale"))
    train_by_hand(by_hand, adapter, iter(row_scale), lambda i: i % 2 == 0, loss=token_loss)
    assert [len(one) for one in row_scale] == [3, 3, 3]
    assert largest_difference(by_trainer.model, by_hand) < 1e-6


def test_held_out_rows_never_reach_the_adapter(tmp_path: Path) -> None:
    recorder = trainer(tmp_path, max_steps=40, row_scale_share=0.25)
    recorder.train()
    adapter = {row for batch in recorder.ids("adapter") for row in batch}
    row_scale = {row for batch in recorder.ids("row_scale") for row in batch}
    assert (len(adapter), len(row_scale)) == (48, 16)
    assert adapter | row_scale == {tuple(row["input_ids"]) for row in rows(64)}
    rounds = in_groups(recorder.ids("row_scale"), 2)  # 16 rows, 8 a batch
    assert all(len({row for batch in one for row in batch}) == 16 for one in rounds)
    assert len({tuple(one[0]) for one in rounds}) > 1  # another order in every round


def test_rows_of_its_own_leave_the_adapter_all_training_rows(tmp_path: Path) -> None:
    recorder = trainer(tmp_path, max_steps=16, row_scale_dataset=rows(16, seed=1))
    recorder.train()
    assert {row for batch in recorder.ids("adapter") for row in batch} == {tuple(r["input_ids"]) for r in rows(64)}
    assert {row for batch in recorder.ids("row_scale") for row in batch} == {
        tuple(r["input_ids"]) for r in rows(16, seed=1)
    }


def test_a_step_moves_one_side_and_leaves_the_others_moments(tmp_path: Path) -> None:
    recorder = trainer(tmp_path, row_scale_every=2, max_steps=6, weight_decay=0.1, max_grad_norm=1.0)
    seen: list[set[str]] = []

    def watch(optimizer: torch.optim.Optimizer) -> None:
        names = {parameter: name for name, parameter in recorder.model.named_parameters()}
        before: dict[str, Any] = {}

        def state() -> dict[str, Any]:
            return {
                names[p]: [p.detach().clone(), *(torch.as_tensor(v).clone() for v in optimizer.state[p].values())]
                for group in optimizer.param_groups
                for p in group["params"]
            }

        def compare(*_: Any) -> None:
            changed = {
                name
                for name, values in state().items()
                if len(values) != len(before[name])
                or not all(torch.equal(now, then) for now, then in zip(values, before[name], strict=True))
            }
            seen.append(changed)

        optimizer.register_step_pre_hook(lambda *_: before.update(state()))
        optimizer.register_step_post_hook(compare)

    watch(recorder.create_optimizer())
    recorder.train()
    row_scales = set(row_scale_parameters(recorder.model))
    adapter = {name for name, p in recorder.model.named_parameters() if p.requires_grad} - row_scales
    assert any("modules_to_save" in name for name in adapter)  # the classification head learns with the adapter
    assert seen == [adapter, row_scales, adapter, adapter, row_scales, adapter, adapter, row_scales, adapter]


def test_the_learning_rate_of_the_row_scale_knows_no_warmup(tmp_path: Path) -> None:
    """Adam's first step has the size of its learning rate, wherever there is a gradient."""
    recorder = trainer(tmp_path, max_steps=1, warmup_steps=1, row_scale_learning_rate=0.02)
    before = named(recorder.model, row_scale=False)
    recorder.train()
    steps = torch.cat([(p - 1).abs() for p in named(recorder.model, row_scale=True).values()])
    assert float(steps.max()) == pytest.approx(0.02, rel=1e-3)
    after = named(recorder.model, row_scale=False)
    assert all(torch.equal(before[name], after[name]) for name in before)  # the adapter's own is 0 in the first step


@pytest.mark.parametrize(
    ("protocol", "every", "accumulation", "save_steps"),
    [
        ("held-out", 1, 1, 4),  # in the middle of the second epoch
        ("held-out", 3, 1, 5),
        ("held-out", 1, 2, 6),
        ("held-out", 3, 2, 6),
        ("held-out", 3, 1, 7),  # at the end of the first epoch
        ("joint", 1, 2, 5),
        ("authors", 3, 1, 9),
    ],
)
def test_a_resumed_training_is_the_same_to_the_bit(
    tmp_path: Path, protocol: str, every: int, accumulation: int, save_steps: int
) -> None:
    settings = {
        "row_scale_protocol": protocol,
        "row_scale_every": every,
        "gradient_accumulation_steps": accumulation,
        "per_device_train_batch_size": 8 // accumulation,
        "save_strategy": "steps",
        "save_steps": save_steps,
        "max_steps": 2 * save_steps + 1,
    }
    whole = trainer(tmp_path, model=classifier(dropout=0.2), **settings)
    whole.train()
    torch.manual_seed(99)  # whatever happened in between
    resumed = trainer(tmp_path, model=classifier(dropout=0.2), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{save_steps}"))
    assert largest_difference(whole.model, resumed.model) == 0.0
    n_left = len(resumed.passes)
    assert 0 < n_left < len(whole.passes)
    for (side, batch), (side_of_whole, batch_of_whole) in zip(resumed.passes, whole.passes[-n_left:], strict=True):
        assert side == side_of_whole
        assert torch.equal(batch["input_ids"], batch_of_whole["input_ids"])
    mine, theirs = (one.optimizer.state_dict()["state"] for one in (whole, resumed))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[i][key], theirs[i][key]) for i in mine for key in mine[i])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"row_scale_every": 3}, r"every=1 \(now 3\): resume with the same settings"),
        ({"row_scale_protocol": "authors"}, r"name='held-out' \(now 'authors'\)"),
        ({"row_scale_share": 0.5}, r"share=0\.2 \(now 0\.5\)"),
    ],
)
@pytest.mark.parametrize("asked", [True, "checkpoint-2"])
def test_a_training_goes_on_as_it_began(tmp_path: Path, changes: dict[str, Any], words: str, asked: bool | str) -> None:
    trainer(tmp_path, save_strategy="steps", save_steps=2, max_steps=2).train()
    resumed = trainer(tmp_path, max_steps=4, **changes)
    with pytest.raises(InputError, match=words):
        resumed.train(resume_from_checkpoint=asked if asked is True else str(tmp_path / asked))


def test_a_training_goes_on_with_its_task(tmp_path: Path) -> None:
    model = classifier(row_scale_tasks=["one", "two"])
    model.set_task("two")
    trainer(tmp_path, model=model, save_strategy="steps", save_steps=2, max_steps=2).train()
    with pytest.raises(InputError, match=r"row scales such as .*:two\..* such as .*:one\..*set_task\) before resuming"):
        trainer(tmp_path, model=classifier(row_scale_tasks=["one", "two"]), max_steps=4).train(
            resume_from_checkpoint=True
        )


def test_one_trainer_trains_twice(tmp_path: Path) -> None:
    """The second time it begins at step 0 again, with the weights and moments of the first."""
    recorder = trainer(tmp_path, max_steps=4)
    recorder.train()
    first, weights = list(recorder.ids("row_scale")), named(recorder.model, row_scale=True)
    recorder.passes.clear()
    recorder.train()
    assert recorder.ids("row_scale") == first
    assert any(not torch.equal(weights[name], now) for name, now in named(recorder.model, row_scale=True).items())


def test_what_learned_before_learns_afterwards_and_nothing_else(tmp_path: Path) -> None:
    model = classifier()
    model.add_adapter("other", AlphaLoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    frozen = next(name for name, p in model.named_parameters() if p.requires_grad and "lora_A" in name)
    model.get_parameter(frozen).requires_grad_(False)
    with torch.no_grad():
        next(p for name, p in model.named_parameters() if f"{ROW_SCALE}.other" in name).fill_(1.5)
    before = {name: (p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}
    recorder = trainer(tmp_path, model=model, save_strategy="steps", save_steps=2, max_steps=4)
    recorder.train()
    trainer(tmp_path, model=model, max_steps=4).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for name, parameter in model.named_parameters():
        trained, weights = before[name]
        assert parameter.requires_grad == trained, name
        assert trained or torch.equal(parameter, weights), name
    assert not any(torch.equal(p, before[name][1]) for name, p in row_scale_parameters(model).items())


def test_another_adapter_needs_another_trainer(tmp_path: Path) -> None:
    """The optimizer holds the parameters of the first."""
    recorder = trainer(tmp_path, max_steps=1)
    recorder.model.add_adapter("other", AlphaLoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))
    recorder.train()
    recorder.model.set_adapter("other")
    with pytest.raises(InputError, match=r"active adapter or task.*Make a new AlphaLoraTrainer"):
        recorder.train()
    again = trainer(tmp_path, model=recorder.model, max_steps=1)
    again.train()
    assert all(".other." in name for name in row_scale_parameters(again.model))


def test_only_the_active_task_learns(tmp_path: Path) -> None:
    """A trainer a task; A, B and the head are shared, and the α of the other task stays as it is."""
    model = classifier(row_scale_tasks=["one", "two"])
    for task, other in (("one", "two"), ("two", "one")):
        model.set_task(task)
        idle = {name: p.detach().clone() for name, p in model.named_parameters() if f"{ROW_SCALE}:{other}." in name}
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        recorder = trainer(tmp_path, model=model, max_steps=3)
        recorder.train()
        assert idle
        assert all(torch.equal(model.get_parameter(name), p) for name, p in idle.items())
        assert all(bool(((p - 1).abs() > 1e-3).any()) for p in row_scale_parameters(model).values())
        assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    model.set_task("one")
    with pytest.raises(InputError, match=r"active adapter or task.*Make a new AlphaLoraTrainer"):
        recorder.train()


def test_a_failure_in_training_leaves_nothing_frozen(tmp_path: Path) -> None:
    class Failing(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

    recorder = trainer(tmp_path)
    before = {name for name, p in recorder.model.named_parameters() if p.requires_grad}
    recorder.add_callback(Failing())
    with pytest.raises(KeyboardInterrupt):
        recorder.train()
    assert {name for name, p in recorder.model.named_parameters() if p.requires_grad} == before


def test_the_log_tells_the_loss_of_alpha_and_its_distance_from_one(tmp_path: Path) -> None:
    recorder = trainer(tmp_path, max_steps=7, logging_steps=2, row_scale_every=3)
    losses: list[float] = []
    training_step = recorder.training_step

    def watched(model: torch.nn.Module, inputs: Batch, *args: Any) -> torch.Tensor:
        loss = training_step(model, inputs, *args)
        if recorder.passes[-1][0] == "row_scale":
            losses.append(loss.item())
        return loss

    recorder.training_step = watched
    recorder.train()
    logs = [entry for entry in recorder.state.log_history if "loss" in entry]
    assert [entry.get("row_scale_loss") for entry in logs] == [  # α's steps follow 1, 4 and 7; logs 2, 4, 6
        pytest.approx(losses[0]),
        pytest.approx(losses[1]),
        None,
    ]
    assert logs[1]["row_scale_rms_change"] == logs[2]["row_scale_rms_change"] > logs[0]["row_scale_rms_change"] > 0
    recorder.log({"loss": 0.0})  # outside of a training: the Trainer's own
    assert "row_scale_rms_change" not in recorder.state.log_history[-1]


def test_the_distance_from_one_is_a_root_mean_square(tmp_path: Path) -> None:
    recorder = trainer(tmp_path, max_steps=2, logging_steps=2)
    recorder.train()
    entries = torch.cat([p.double() for p in named(recorder.model, row_scale=True).values()])
    logged = next(entry["row_scale_rms_change"] for entry in recorder.state.log_history if "loss" in entry)
    assert logged == pytest.approx(math.sqrt(float((entries - 1).pow(2).mean())), rel=1e-5)


def test_other_callbacks_see_a_complete_step(tmp_path: Path) -> None:
    seen: list[float] = []

    class Watching(TrainerCallback):
        def on_step_end(self, *_: Any, model: torch.nn.Module, **__: Any) -> None:
            seen.append(max(float((p - 1).abs().max()) for p in row_scale_parameters(model).values()))

    recorder = Recorder(
        model=classifier(), args=arguments(tmp_path, max_steps=1), train_dataset=rows(64), callbacks=[Watching()]
    )
    recorder.train()
    assert seen[0] > 0


def test_the_best_checkpoint_comes_back_with_its_row_scale(tmp_path: Path) -> None:
    best = trainer(
        tmp_path,
        max_steps=9,
        learning_rate=0.05,
        row_scale_learning_rate=0.2,
        eval_dataset=rows(32, seed=2),
        eval_strategy="steps",
        eval_steps=3,
        save_strategy="steps",
        save_steps=3,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=True,  # the worst, so that it is not the last by chance
    )
    best.train()
    losses = {entry["step"]: entry["eval_loss"] for entry in best.state.log_history if "eval_loss" in entry}
    step = max(losses, key=lambda one: losses[one])
    assert best.evaluate()["eval_loss"] == pytest.approx(losses[step], abs=1e-6)
    saved = PeftModel.from_pretrained(classifier().unload(), tmp_path / f"checkpoint-{step}", is_trainable=True)
    assert largest_difference(best.model, saved) == 0.0
    assert all(p.requires_grad for p in row_scale_parameters(best.model).values())


def test_columns_that_the_model_does_not_read_are_left_out(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    extra = [row | {"sentence": f"text {i}", "idx": i} for i, row in enumerate(rows(64))]
    plain = trainer(tmp_path)
    hub = trainer(tmp_path, train_dataset=datasets.Dataset.from_list(extra))
    listed = trainer(tmp_path, train_dataset=extra)
    for one in (plain, hub, listed):
        one.train()
    assert isinstance(hub.row_scale_dataset, datasets.Dataset)
    assert plain.ids("row_scale") == hub.ids("row_scale") == listed.ids("row_scale")
    assert largest_difference(plain.model, hub.model) == largest_difference(plain.model, listed.model) == 0.0


def test_it_learns_in_bfloat16_with_activation_checkpointing(tmp_path: Path) -> None:
    recorder = trainer(tmp_path, max_steps=60, bf16=True, activation_checkpointing=True)
    recorder.train()
    logs = [entry for entry in recorder.state.log_history if "loss" in entry]
    assert all(logs[-1][name] < 0.8 * logs[0][name] for name in ("loss", "row_scale_loss"))
    assert all(p.dtype == torch.float32 for p in row_scale_parameters(recorder.model).values())


def test_a_model_that_is_made_for_each_training(tmp_path: Path) -> None:
    own: dict[str, Any] = {"row_scale_every": 3, "row_scale_share": 0.3}
    made = Recorder(model_init=lambda: classifier(), args=arguments(tmp_path), train_dataset=rows(64), **own)
    given = trainer(tmp_path, **own)
    made.train()
    given.train()
    assert largest_difference(made.model, given.model) == 0.0


def test_without_training_rows_it_evaluates(tmp_path: Path) -> None:
    evaluating = Recorder(model=classifier(), args=arguments(tmp_path), eval_dataset=rows(8))
    assert evaluating.evaluate()["eval_loss"] > 0


def test_rows_without_a_number_will_do_for_the_adapter(tmp_path: Path) -> None:
    given = trainer(tmp_path, train_dataset=Endless(), row_scale_dataset=rows(16, seed=1))
    joint = trainer(tmp_path, train_dataset=Endless(), row_scale_protocol="joint")
    given.train()
    joint.train()
    assert len(given.batches("row_scale")) == len(joint.batches("both")) == 10
