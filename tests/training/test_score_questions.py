"""Accuracy of questions as lm-evaluation-harness has it, and what is refused."""

import dataclasses
import random
import sys
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from loralaw.errors import InputError
from loralaw.models.source import EMBEDDED_FOLDER
from loralaw.tasks import Choice
from loralaw.training.lm_eval_bridge import LmEvalScores, score_by_lm_eval
from loralaw.training.score_questions import ChoiceScores, score_questions

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
WORDS = ("the", "cat", "sat", "on", "a", "mat", "fell;", "über", "Köln", "→", "naïve", "", "two\nlines", "end.")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")


def model(seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=96,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def made_up_questions(n: int = 30) -> list[Choice]:
    """Contexts that end in a blank or are empty, options of any length, of one beginning, and not only ASCII."""
    draw = random.Random(1)

    def text(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randrange(low, high)))

    choices = []
    for number in range(n):
        context = "" if number == 3 else text(2, 9) + draw.choice(["", " ", "\n", ":"])
        options = [" " + text(1, 5) for _ in range(draw.randrange(2, 6))]
        options[-1] = options[0] + " more"
        choices.append(Choice(context, tuple(options), draw.randrange(len(options)), f"document {number}"))
    return choices


def assert_equal(ours: ChoiceScores, theirs: LmEvalScores) -> None:
    assert ours.choice_accuracy == theirs.choice_accuracy
    assert ours.choice_accuracy_sum == theirs.choice_accuracy_sum
    assert ours.choice_accuracy_stderr == pytest.approx(theirs.choice_accuracy_stderr, rel=1e-14)
    assert ours.choice_accuracy_sum_stderr == pytest.approx(theirs.choice_accuracy_sum_stderr, rel=1e-14)
    for mine, other in zip(ours.loss_sums, theirs.loss_sums, strict=True):
        assert mine == pytest.approx(other, rel=1e-6, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_equal_to_the_harness(tokenizer: Any, batch_size: int) -> None:
    pytest.importorskip("lm_eval")
    choices, of = made_up_questions(), model()
    theirs = score_by_lm_eval(of, tokenizer, choices, batch_size=batch_size)
    assert_equal(score_questions(of, tokenizer, choices), theirs)
    assert theirs.n_questions_cut == 0


def test_equal_to_the_harness_with_an_adapter_and_a_tokenizer_that_starts_rows_itself(tokenizer: Any) -> None:
    pytest.importorskip("lm_eval")
    from tokenizers.processors import TemplateProcessing

    starting = AutoTokenizer.from_pretrained(EMBEDDED_FOLDER / "micro-0.4m")
    starting.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", starting.bos_token_id)]
    )
    assert starting("a")["input_ids"][0] == starting.bos_token_id
    choices = [choice for choice in made_up_questions() if choice.context]
    adapted = get_peft_model(model(), LoraConfig(target_modules="all-linear", init_lora_weights=False)).eval()
    ours = score_questions(adapted, starting, choices)
    assert_equal(ours, score_by_lm_eval(adapted, starting, choices))
    assert ours == score_questions(adapted, tokenizer, choices)
    assert ours.loss_sums != score_questions(model(), tokenizer, choices).loss_sums


def test_without_the_harness_its_extra_is_named(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("lm_eval.") or name == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(InputError, match=r"install loralaw\[lm-eval\]"):
        score_by_lm_eval(model(), tokenizer, made_up_questions(3))


def test_cut_questions_are_counted(tokenizer: Any) -> None:
    long = Choice("word " * 200, (" a", " b"), 0, "d")
    scores = score_questions(model(), tokenizer, [long, *made_up_questions(3)])
    assert scores.n_questions_cut == 1
    assert scores.choice_accuracy_stderr is not None
    assert score_questions(model(), tokenizer, [long]).choice_accuracy_stderr is None


@pytest.mark.parametrize(
    ("choices", "settings", "part"),
    [
        ([], {}, "no questions"),
        ([Choice("a", (" b", ""), 0, "d")], {}, "without text"),
        ([Choice("a", (" b", " c"), 2, "d")], {}, "label is 2"),
        ([Choice("a", (" b", " c"), 0, "d")], {"max_length": 1}, "max_length is 1"),
        ([Choice("a", (" b", " c"), 0, "d")], {"is_chat": True}, "no chat template"),
        ([Choice("a", (" b", " c"), 0, "d")], {"dtype": torch.float16}, "float16"),
    ],
)
def test_refusals(tokenizer: Any, choices: list[Choice], settings: dict[str, Any], part: str) -> None:
    with pytest.raises(InputError, match=part):
        score_questions(model(), tokenizer, choices, **settings)


def test_scores_are_plain_numbers(tokenizer: Any) -> None:
    scores = dataclasses.asdict(score_questions(model(), tokenizer, made_up_questions(5)))
    assert all(type(value) in (float, int, tuple) for value in scores.values())
