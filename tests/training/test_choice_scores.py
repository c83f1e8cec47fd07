"""Questions as one row with branches, against a plain forward pass of one row an option; in company and out of it."""

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from plain_peft import LENGTH, VOCABULARY, cell, gpt2, llama, mixed_cells, take_step, trained_pack
from solo_cells import assert_untouched, state
from solo_cells import cell as solo_cell
from torch import Tensor
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from loralaw.tasks import NOT_SCORED, EncodedQuestions, EncodedRows, question_tree
from loralaw.training import Pack, PackCell, choice_scores, tree_rows
from loralaw.training.plain_model import PlainModel
from loralaw.training.solo_model import SoloModel

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
SIZE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def build(model_class: Any, config: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = model_class(config)
    return model


def mistral(window: int | None) -> PreTrainedModel:
    return build(MistralForCausalLM, MistralConfig(**SIZE, sliding_window=window))


def bloom() -> PreTrainedModel:
    """ALiBi: positions cannot be given to it."""
    return build(BloomForCausalLM, BloomConfig(hidden_size=32, n_layer=2, n_head=2, vocab_size=VOCABULARY))


TREE_MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": llama,
    "gpt2": gpt2,
    "phi3": lambda: build(Phi3ForCausalLM, Phi3Config(**SIZE)),
    "qwen2": lambda: build(Qwen2ForCausalLM, Qwen2Config(**SIZE)),
    "qwen3": lambda: build(Qwen3ForCausalLM, Qwen3Config(**SIZE, head_dim=16)),
    "gemma": lambda: build(GemmaForCausalLM, GemmaConfig(**SIZE, head_dim=16)),
    "gemma3": lambda: build(Gemma3ForCausalLM, Gemma3TextConfig(**SIZE, head_dim=16)),
    "mistral": lambda: mistral(None),
}


def questions(seed: int = 0, n: int = 9) -> EncodedQuestions:
    """Two to five options of unequal lengths: with a common beginning, one the beginning of another, two the same."""
    draw = random.Random(seed)

    def some(low: int, high: int) -> list[int]:
        return [draw.randrange(1, VOCABULARY) for _ in range(draw.randrange(low, high))]

    rows, question, labels = list[tuple[list[int], int]](), list[int](), list[int]()
    for number in range(n):
        context, begin = [0, *some(2, 12)], some(0, 3)
        options = [begin + some(1, 6) for _ in range(draw.randrange(2, 5))]
        options.append(options[0] + some(1, 3) if number % 2 else options[0])
        rows += [(context + option, len(option)) for option in options]
        question += [number] * len(options)
        labels.append(draw.randrange(len(options)))
    n_tokens = torch.tensor([len(tokens) for tokens, _ in rows])
    ids = torch.zeros(len(rows), int(n_tokens.max()) + 2, dtype=torch.int64)
    targets = torch.full_like(ids, NOT_SCORED)
    for row, (tokens, n_scored) in enumerate(rows):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        targets[row, len(tokens) - n_scored : len(tokens)] = torch.tensor(tokens[-n_scored:])
    encoded = EncodedRows(ids, targets, n_tokens, n_tokens, torch.tensor(question), n_tokens < 0)
    return EncodedQuestions(encoded, torch.tensor(question), torch.tensor(labels))


@torch.no_grad()
def expected(model: Any, asked: EncodedQuestions) -> Tensor:
    """From the logits of a plain forward pass, one row an option."""
    rows = asked.rows
    logits = model(input_ids=rows.ids, attention_mask=rows.token_mask.long()).logits[:, :-1].double()
    losses = F.cross_entropy(logits.transpose(1, 2), rows.labels[:, 1:], ignore_index=NOT_SCORED, reduction="none")
    return losses.sum(1)


def refuse_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, falling back to one row an option fails."""
    monkeypatch.setattr(EncodedQuestions, "single_rows", lambda _: pytest.fail("one row an option"))


@pytest.mark.parametrize("name", TREE_MODELS)
def test_branches_score_as_rows_of_their_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_rows(monkeypatch)
    monkeypatch.setattr(tree_rows.scores, "SCORE_TOKENS_PER_CELL", 60)  # several blocks
    model, asked = TREE_MODELS[name]().eval(), questions()
    before = state(model)
    assert any(tree.n_branches > 2 for tree in asked.trees())
    with PlainModel(model) as plain:
        torch.testing.assert_close(plain.score_choices(asked)[0], expected(model, asked), rtol=1e-5, atol=1e-5)
    assert_untouched(model, before)


@pytest.mark.parametrize("make", [bloom, lambda: mistral(4)], ids=["alibi", "window"])
def test_models_that_take_no_branches_get_rows(
    make: Callable[[], PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked, made = make().eval(), questions(), list[int]()
    single_rows = EncodedQuestions.single_rows

    def counted(self: EncodedQuestions) -> Any:
        made.append(1)
        return single_rows(self)

    monkeypatch.setattr(EncodedQuestions, "single_rows", counted)
    with PlainModel(model) as plain:
        torch.testing.assert_close(plain.score_choices(asked)[0], expected(model, asked), rtol=1e-5, atol=1e-5)
    assert made


def test_a_window_is_seen_by_what_it_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_scores, "_WINDOWS", ())
    model, asked = mistral(4).eval(), questions()
    with PlainModel(model) as plain:
        torch.testing.assert_close(plain.score_choices(asked)[0], expected(model, asked), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_pack_scores_each_cell_as_alone_bit_for_bit(
    make: Callable[[], PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_rows(monkeypatch)
    cells = mixed_cells(8)[:3] if make is llama else [cell("a", 4, 1), cell("b", 24, 2), cell("c", 4, 3)]
    asked, together = questions(), trained_pack(cells, 4, make)
    sums = together.score_choices(asked)
    rows = together.score(asked.rows.ids, asked.rows.labels)
    torch.testing.assert_close(sums, rows.loss_sum, rtol=1e-5, atol=1e-5)
    for one in cells:
        alone = trained_pack([one], 4, make).score_choices(asked)
        assert torch.equal(alone[0], sums[together.keys.index(one.key)]), one.key


def test_a_pack_in_bfloat16_on_its_own_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_rows(monkeypatch)
    asked, cells = questions(), [cell("a"), cell("b", 8)]
    exact = expected(llama().eval(), asked)  # an untrained adapter adds nothing
    with Pack(llama(), cells, dtype=torch.bfloat16, pad_to=LENGTH) as pack:
        sums = pack.score_choices(asked)
    assert torch.equal(sums[0], sums[1])
    torch.testing.assert_close(sums[0], exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("method", ["lora", "dora", "alpha-lora", "full"])
def test_a_solo_model_scores_as_its_own_rows(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_rows(monkeypatch)
    asked, solo = questions(), SoloModel(llama().eval(), solo_cell(method))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in solo.trained.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    rows = solo.score(asked.rows.ids, asked.rows.labels)
    torch.testing.assert_close(solo.score_choices(asked), rows.loss_sum, rtol=1e-5, atol=1e-5)


def test_a_peft_model_is_scored_with_its_adapter_and_left_as_it_was() -> None:
    asked, base = questions(), llama().eval()
    adapted = get_peft_model(copy.deepcopy(base), LoraConfig(target_modules="all-linear", init_lora_weights=False))
    adapted.eval()
    with PlainModel(adapted) as plain:
        sums = plain.score_choices(asked)[0]
        rows = plain.score(asked.rows.ids, asked.rows.labels).loss_sum[0]
    torch.testing.assert_close(sums, expected(adapted, asked), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sums, rows, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(sums, expected(base, asked), atol=1e-2)
    assert any(parameter.requires_grad for parameter in adapted.parameters())


def with_an_instruction(asked: EncodedQuestions) -> EncodedQuestions:
    """All questions but the last begin with the same 9 tokens."""
    rows, n = asked.rows, 9
    said = torch.arange(1, n + 1).expand(len(rows.ids), n).clone()
    said[asked.question == len(asked) - 1] += 1
    ids = torch.cat([said, rows.ids], 1)
    labels = torch.cat([torch.full_like(said, NOT_SCORED), rows.labels], 1)
    rows = EncodedRows(ids, labels, rows.n_tokens + n, rows.n_bytes, rows.document, rows.is_cut)
    return EncodedQuestions(rows, asked.question, asked.labels)


def share_from(n_tokens: int, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Share beginnings of so many tokens; returns what becomes of the model's test."""
    found, takes_beginning = list[bool](), choice_scores.takes_beginning

    def seen(*arguments: Any) -> bool:
        found.append(takes_beginning(*arguments))
        return found[-1]

    monkeypatch.setattr(choice_scores, "LEAST_SHARED", n_tokens)
    monkeypatch.setattr(choice_scores, "LEAST_SAVED", n_tokens)
    monkeypatch.setattr(choice_scores, "takes_beginning", seen)
    return found


@pytest.mark.parametrize("name", [*TREE_MODELS, "alibi", "window"])
def test_a_beginning_that_questions_share_is_run_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model does that right: those that take no branches may take no beginning either."""
    builds = {**TREE_MODELS, "alibi": bloom, "window": lambda: mistral(4)}
    model, asked, found = builds[name]().eval(), with_an_instruction(questions()), share_from(5, monkeypatch)
    with PlainModel(model) as plain:
        torch.testing.assert_close(plain.score_choices(asked)[0], expected(model, asked), rtol=1e-5, atol=1e-5)
    assert found == [name in TREE_MODELS]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cells_share_a_beginning_each_with_its_own_numbers(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, found = with_an_instruction(questions()), share_from(5, monkeypatch)
    cells = [cell("a", 4, 1, n_steps=4), cell("b", 24, 2, n_steps=4), cell("c", 4, 3, n_steps=4)]

    def trained(some: list[PackCell]) -> Pack:
        pack = Pack(llama(), some, dtype=dtype, pad_to=LENGTH)
        for step in range(4):
            take_step(pack, some, step)
        return pack

    together = trained(cells)
    sums = together.score_choices(asked)
    rows = together.score(asked.rows.ids, asked.rows.labels).loss_sum
    close = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(sums, rows, rtol=close, atol=close)
    for one in cells:
        assert torch.equal(trained([one]).score_choices(asked)[0], sums[together.keys.index(one.key)]), one.key
    assert found == [True] * 4


def test_a_beginning_ends_where_something_is_predicted_or_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    share_from(2, monkeypatch)
    long = question_tree([([*range(9), 30], 1), ([*range(9), 31], 1)])
    scored_early = question_tree([([*range(9), 30], 6)])
    forks_early = question_tree([([*range(9), 30], 1), ([0, 1, 2, 3, 9, 30], 1)])
    assert choice_scores.shared_beginning([long, long, long]) == (8, [0, 1, 2])
    assert choice_scores.shared_beginning([long, scored_early, long, forks_early, long]) == (8, [0, 2, 4])
    assert choice_scores.shared_beginning([long, scored_early, forks_early]) == (3, [0, 1, 2])
    assert choice_scores.shared_beginning([long]) == (0, [])


def test_questions_with_one_token_each_need_no_mask() -> None:
    tree = question_tree([([0, 1, 2, 3], 1), ([0, 1, 2, 4], 1)])
    assert (tree.ids, tree.places, tree.targets, tree.options) == ((0, 1, 2), (2, 2), (3, 4), ((0,), (1,)))
    assert tree_rows.TreeRows.of([tree]).mask is None


@pytest.mark.parametrize("make", [llama, bloom])
def test_equal_options_have_equal_losses(make: Callable[[], PreTrainedModel], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, so that the first of them wins; wherever they come to lie in blocks of rows."""
    monkeypatch.setattr(tree_rows.scores, "SCORE_TOKENS_PER_CELL", 20)
    asked = questions(1, 40)
    with PlainModel(make().eval()) as plain:
        losses = plain.score_choices(asked)[0]
    for number in range(0, len(asked), 2):  # the last option is the first again
        own = losses[asked.question == number]
        assert own[0] == own[-1]


def test_an_option_that_begins_another() -> None:
    """What they share is predicted once; positions go on from what is shared."""
    tree = question_tree([([7, 1, 2], 2), ([7, 1, 2, 3], 3), ([7, 1, 5, 6], 3)])
    assert tree.ids == (7, 1, 2, 5)
    assert tree.positions == (0, 1, 2, 2)
    assert tree.branch == (0, 0, 2, 3)
    assert tree.options == ((0, 1), (0, 1, 2), (0, 3, 4))
    assert [(tree.places[p], tree.targets[p]) for p in tree.options[2]] == [(0, 1), (1, 5), (3, 6)]
