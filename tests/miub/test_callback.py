"""The Trainer callback: when it measures, what it leaves alone, where its numbers go, and how it ends."""

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers.models import BPE
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

import loralaw
from loralaw.errors import InputError
from loralaw.miub import MiubCallback
from loralaw.models import find_model

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

ROWS = [
    {"input_ids": ids, "labels": ids}
    for ids in torch.randint(0, 1000, (16, 10), generator=torch.Generator().manual_seed(1)).tolist()
]
PROBED = [{"input_ids": row["input_ids"][: 4 + i]} for i, row in enumerate(ROWS[:6])]


def adapted(folder: Path, **lora: Any) -> torch.nn.Module:
    torch.manual_seed(2)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", **lora)
    return get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)


def trainer_of(
    model: torch.nn.Module, callbacks: list[TrainerCallback], out: Path, processing_class: Any = None, **arguments: Any
) -> Trainer:
    settings = {
        "max_steps": 5,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(out), **(settings | arguments)),
        train_dataset=ROWS,
        eval_dataset=ROWS[:2],
        callbacks=callbacks,
        processing_class=processing_class,
    )


def steps(callback: MiubCallback) -> list[int]:
    return [entry["step"] for entry in callback.history]


class Reporter(TrainerCallback):
    """As those for TensorBoard or Weights & Biases: ahead of the user's callbacks, closed at the end of training."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.open = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        assert self.open, "logged after the end of training: a reporter would open another run"
        self.logged.append((state.global_step, dict(logs)))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.open = False


def test_measures_every_k_steps_and_the_last_one_as_probe_does(tiny_model: Path, tmp_path: Path) -> None:
    model, callback = adapted(tiny_model), MiubCallback(PROBED, every=2)
    trainer_of(model, [callback], tmp_path).train()
    assert steps(callback) == [2, 4, 5]
    now = loralaw.probe(model, PROBED)  # the weights are still those of step 5
    assert callback.history[-1] == {"step": 5, **{k: v for k, v in now.means.items() if v is not None}}
    assert callback.layers == now.layers
    assert {"miub_nats", "miub_stderr_nats", "jsd_nats", "norm_ratio", "cosine"} <= set(callback.history[0])


def test_no_second_measurement_where_the_last_step_is_one_of_them(tiny_model: Path, tmp_path: Path) -> None:
    callback = MiubCallback(PROBED, every=2)
    trainer_of(adapted(tiny_model), [callback], tmp_path, max_steps=4).train()
    assert steps(callback) == [2, 4]


def test_logs_reach_the_reporters_and_nothing_else_is_lost(tiny_model: Path, tmp_path: Path) -> None:
    reporter, callback = Reporter(), MiubCallback(PROBED, every=2)
    trainer = trainer_of(adapted(tiny_model), [reporter, callback], tmp_path)
    trainer.train()
    reported = [(step, logs) for step, logs in reporter.logged if "miub_nats" in logs]
    assert [{"step": step, **logs} for step, logs in reported] == [
        {**entry, "epoch": entry["step"] / 8} for entry in callback.history
    ]
    assert [step for step, logs in reporter.logged if "loss" in logs] == [1, 2, 3, 4, 5]
    assert [entry["step"] for entry in trainer.state.log_history if "miub_nats" in entry] == [2, 4, 5]
    assert "train_runtime" in trainer.state.log_history[-1]


def test_an_end_that_comes_after_the_last_step_is_measured_before_the_reporters_close(
    tiny_model: Path, tmp_path: Path
) -> None:
    class StopAtEvaluation(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = True

    reporter, callback = Reporter(), MiubCallback(PROBED, every=5)
    trainer_of(
        adapted(tiny_model), [reporter, callback, StopAtEvaluation()], tmp_path, max_steps=20, eval_strategy="epoch"
    ).train()
    assert steps(callback) == [5, 8]  # 16 rows in batches of 2: an epoch has 8 steps
    assert [step for step, logs in reporter.logged if "miub_nats" in logs] == [5, 8]


@pytest.mark.parametrize("arguments", [{}, {"bf16": True}, {"activation_checkpointing": True}])
def test_training_is_the_same_with_and_without(tiny_model: Path, tmp_path: Path, arguments: dict[str, Any]) -> None:
    """Dropout and shuffling draw from the random state, so one number drawn too many changes every weight."""
    shuffled = DataLoader([torch.tensor(row["input_ids"]) for row in ROWS], 4, shuffle=True, collate_fn=_batch)
    losses, weights = [], []
    for callbacks in ([], [MiubCallback(shuffled, every=2)]):
        model = adapted(tiny_model, lora_dropout=0.3)
        trainer = trainer_of(model, callbacks, tmp_path, **arguments)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        weights.append({name: value.clone() for name, value in model.state_dict().items()})
    assert losses[0] == losses[1]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def _batch(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.stack(rows)}


def test_modes_and_hooks_are_as_before(tiny_model: Path, tmp_path: Path) -> None:
    class Watch(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[dict[str, Any]] = []

        def on_optimizer_step(self, args: Any, state: Any, control: Any, model: torch.nn.Module, **_: Any) -> None:
            model.base_model.model.lm_head.eval()  # one that differs from the rest

        def on_step_end(self, args: Any, state: Any, control: Any, model: torch.nn.Module, **_: Any) -> None:
            self.seen.append({name: (m.training, len(m._forward_hooks)) for name, m in model.named_modules()})

    before, after = Watch(), Watch()
    trainer_of(adapted(tiny_model), [before, MiubCallback(PROBED, every=1), after], tmp_path).train()
    assert len(before.seen) == 5
    assert before.seen == after.seen
    assert {training for training, _ in before.seen[0].values()} == {True, False}


def test_data_are_prepared_once_and_texts_by_the_trainers_tokenizer(tiny_model: Path, tmp_path: Path) -> None:
    class Batches:
        read = 0

        def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
            self.read += 1
            yield _batch([torch.tensor(row["input_ids"]) for row in ROWS[:3]])

    batches = Batches()
    trainer_of(adapted(tiny_model), [MiubCallback(batches, every=1)], tmp_path).train()
    assert batches.read == 1

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    texts = ["the cat sat on the mat", "it was the best of times"]
    model, callback = adapted(tiny_model), MiubCallback(texts, every=5)
    trainer_of(model, [callback], tmp_path, processing_class=tokenizer).train()
    assert callback.layers == loralaw.probe(model, texts, tokenizer=tokenizer).layers


@pytest.mark.parametrize("restore_callbacks", [False, True])
def test_a_resumed_training_goes_on_with_its_history(tiny_model: Path, tmp_path: Path, restore_callbacks: bool) -> None:
    saving = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    whole = MiubCallback(PROBED, every=2)
    trainer_of(adapted(tiny_model), [whole], tmp_path, **saving).train()

    resumed = MiubCallback(PROBED, every=2)
    trainer = trainer_of(
        adapted(tiny_model),
        [resumed],
        tmp_path,
        restore_callback_states_from_checkpoint=restore_callbacks,
        **saving,
    )
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert steps(resumed) == [2, 4, 6]
    assert resumed.history[0] == whole.history[0]
    for before, after in zip(whole.history, resumed.history, strict=True):
        assert after == pytest.approx(before, rel=1e-4)  # the Trainer's own resume is not exact to the last bit
    trainer.train()
    assert steps(resumed) == [2, 4, 6], "a training from the start must not keep the history of the one before"


def test_two_callbacks_keep_their_numbers_apart(tmp_path: Path) -> None:
    folder = Path(find_model("micro-0.4m").location)
    saving = {"save_strategy": "steps", "save_steps": 3, "max_steps": 6}

    def two() -> list[MiubCallback]:
        return [MiubCallback(PROBED, every=2), MiubCallback(PROBED[:3], every=3, name="heldout")]

    whole, reporter = two(), Reporter()
    trainer_of(adapted(folder), [reporter, *whole], tmp_path, **saving).train()
    assert [steps(callback) for callback in whole] == [[2, 4, 6], [3, 6]]
    for callback, prefix in zip(whole, ("", "heldout_"), strict=True):
        reported = [(step, logs) for step, logs in reporter.logged if f"{prefix}miub_nats" in logs]
        assert [{"step": step, **logs} for step, logs in reported] == [
            {"step": entry["step"], "epoch": entry["step"] / 8}
            | {prefix + name: value for name, value in entry.items() if name != "step"}
            for entry in callback.history
        ]
    at_the_end = [callback.history[-1]["miub_nats"] for callback in whole]
    assert at_the_end[0] != at_the_end[1]

    resumed = two()
    trainer_of(adapted(folder), resumed, tmp_path, **saving).train(str(tmp_path / "checkpoint-3"))
    for before, after in zip(whole, resumed, strict=True):
        assert steps(after) == steps(before)
        assert after.history[0] == before.history[0]
        assert set(after.history[-1]) == set(before.history[-1])


def test_callbacks_of_one_name_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    one = MiubCallback(PROBED, name="heldout")
    for other in (one, MiubCallback(PROBED[:3], name="heldout", estimators=["jsd"])):
        started = Started()
        with pytest.raises(InputError, match='have name="heldout"'):
            trainer_of(adapted(tiny_model), [one, other, started], tmp_path).train()
        assert started.steps == 0


def test_another_training_has_tokens_of_its_own(tiny_model: Path, tmp_path: Path) -> None:
    """By its own tokenizer and the limits of its own model, also where the texts can be read only once."""
    texts = ["the cat sat on the mat", "it was the best of times"]
    callback = MiubCallback(iter(texts), every=5)
    for side in ("with its own", "with letters for tokens"):
        tokenizer = AutoTokenizer.from_pretrained(tiny_model)
        if side == "with letters for tokens":
            tokenizer.backend_tokenizer.model = BPE(tokenizer.get_vocab(), merges=[])
        model = adapted(tiny_model)
        trainer_of(model, [callback], tmp_path, processing_class=tokenizer).train()
        assert callback.layers == loralaw.probe(model, texts, tokenizer=tokenizer).layers
    assert callback.layers[0]["n_tokens"] == sum(map(len, texts))


def test_settled_is_what_its_definition_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Called by hand, without a Trainer; the numbers are written down here."""
    values = iter([7.0, 0.5, 0.51, 0.8, 0.79, math.nan, 0.79, 0.80, 0.795, 0.9])
    monkeypatch.setattr(
        "loralaw.miub.callback.probe",
        lambda *_, **__: SimpleNamespace(means={"miub_nats": next(values)}, layers=[]),
    )
    monkeypatch.setattr("loralaw.miub.callback.probe_batches", lambda *_: [])
    callback = MiubCallback(PROBED, every=1, patience=2, min_delta=0.02)
    state, control, model = TrainerState(epoch=0.0), TrainerControl(), torch.nn.Linear(1, 1)
    callback.on_train_begin(None, state, control, model=model)  # 7.0, not recorded
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        while not control.should_training_stop:
            state.global_step += 1
            callback.on_step_end(None, state, control, model=model)
    # Small changes: .50 to .51, .80 to .79 (alone), .79 to .80 to .795 (two in a row: measurements 6, 7 and 8).
    assert callback.stopped_at == state.global_step == 8
    assert [entry["miub_nats"] for entry in state.log_history] == pytest.approx(
        [entry["miub_nats"] for entry in callback.history], nan_ok=True
    )


def test_stops_the_training_when_nothing_moves_any_more(tiny_model: Path, tmp_path: Path) -> None:
    model = adapted(tiny_model, init_lora_weights=False)
    callback = MiubCallback(PROBED, every=2, patience=2, min_delta=1e-6, estimators=("jsd",))
    trainer = trainer_of(model, [callback], tmp_path, max_steps=20, learning_rate=0.0)
    trainer.train()
    assert trainer.state.global_step == callback.stopped_at == 6  # measurements at 2, 4, 6: two changes of 0
    assert callback.history[-1]["jsd_nats"] > 0
    assert "miub_nats" not in callback.history[-1]


def test_numbers_that_are_not_finite_do_not_end_the_training(tiny_model: Path, tmp_path: Path) -> None:
    class Break(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: torch.nn.Module, **_: Any) -> None:
            if state.global_step == 2:
                weight = dict(model.named_parameters())
                weight["base_model.model.model.layers.0.self_attn.v_proj.lora_B.default.weight"].data.fill_(math.nan)

    reporter, callback = Reporter(), MiubCallback(PROBED, every=1, patience=1, min_delta=1e-9)
    trainer = trainer_of(adapted(tiny_model), [reporter, Break(), callback], tmp_path)
    with pytest.warns(UserWarning, match="could not be measured at step 3") as caught:
        trainer.train()
    assert len([w for w in caught if "could not be measured" in str(w.message)]) == 1
    assert trainer.state.global_step == 5
    assert steps(callback) == [1, 2, 3, 4, 5]
    assert [math.isnan(entry["miub_nats"]) for entry in callback.history] == [False, False, True, True, True]
    assert set(callback.history[-1]) >= set(callback.history[0])
    assert callback.layers == []
    assert callback.stopped_at is None


class Started(TrainerCallback):
    steps = 0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.steps += 1


def test_what_cannot_be_measured_is_said_before_the_first_step(tiny_model: Path, tmp_path: Path) -> None:
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    for model, data in ((plain, PROBED), (adapted(tiny_model), []), (adapted(tiny_model), ["a text, no tokenizer"])):
        started = Started()
        with pytest.raises(InputError):
            trainer_of(model, [MiubCallback(data), started], tmp_path).train()
        assert started.steps == 0


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        *(({"every": every}, f"every={every!r}: give a whole number") for every in (0, 1.5, "3", True, None, math.nan)),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_length": "8"}, "max_length='8'"),
        ({"name": 3}, "name=3"),
        ({"name": None}, "name=None"),
        ({"estimators": ()}, "estimators"),
        ({"estimators": ("chanel",)}, "chanel"),
        ({"patience": 0, "min_delta": 0.1}, "patience=0"),
        ({"patience": 1.5, "min_delta": 0.1}, "patience=1.5"),
        ({"patience": 3, "min_delta": "0.1"}, "min_delta='0.1'"),
        ({"patience": 3}, "min_delta=0.0"),
        ({"patience": 3, "min_delta": -1.0}, "min_delta=-1.0"),
        ({"patience": 3, "min_delta": math.nan}, "min_delta=nan"),
        ({"min_delta": 0.1}, "without patience"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        MiubCallback(PROBED, **settings)
