"""`loralaw probe` as a user meets it: a saved adapter and a file of text in, numbers out."""

import errno
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import loralaw
from loralaw.cli import main
from loralaw.models import find_model
from loralaw.store.atomic import storage_error

# PEFT reads a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TEXTS = [f"It was a dark and stormy night, number {i}; the rain fell in torrents." for i in range(9)]


def loralaw_probe(*words: object, cwd: Path, encoding: str = "utf-8") -> SimpleNamespace:
    """The command in this process: a process of its own would import the deep-learning stack again."""
    printed, complained, code = TextIOWrapper(BytesIO(), encoding), StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(complained):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "120")
        patch.setattr(sys, "argv", ["loralaw", "probe", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    printed.seek(0)
    return SimpleNamespace(returncode=code, stdout=printed.read(), stderr=complained.getvalue())


def probed_again(home: Path, **how: str) -> SimpleNamespace:
    return loralaw_probe(
        "[red]a", "--data", "texts.txt", "--base", "micro-0.4m", "--json", "b.json", "--html", "b.html", cwd=home, **how
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter of micro-0.4m under a name that rich would take for markup, and texts."""
    home = tmp_path_factory.mktemp("probe")
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(find_model("micro-0.4m").location)
    model = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(home / "[red]a")
    (home / "texts.txt").write_text("\n\n".join(TEXTS))
    return home


@pytest.fixture(scope="module")
def probed(home: Path) -> SimpleNamespace:
    return loralaw_probe(
        "[red]a", "--data", "texts.txt", "--base", "micro-0.4m", "--json", "p.json", "--html", "p.html", cwd=home
    )


def test_what_is_printed(probed: SimpleNamespace, home: Path) -> None:
    assert probed.returncode == 0, probed.stderr
    assert probed.stderr == ""
    assert "[red]a on micro-0.4m" in probed.stdout
    assert "9 rows of texts.txt" in probed.stdout
    result = json.loads((home / "p.json").read_text())
    lines = [line.split() for line in probed.stdout.splitlines()]
    heading = next(line for line in lines if "q_proj" in line)
    first = next(line for line in lines if line[:1] == ["0"])
    shown = dict(zip(heading[1:], first[1:], strict=True))
    for layer in result["layers"]:
        if ".layers.0." in layer["layer"]:
            assert float(shown[layer["module"]]) == pytest.approx(layer["miub_nats"], rel=0.01)
    means = next(line for line in probed.stdout.splitlines() if "MIUB" in line and "by layer" not in line).split()
    assert float(means[-2]) == pytest.approx(result["means"]["miub_nats"], rel=0.01)
    assert float(means[-1]) == pytest.approx(result["means"]["miub_stderr_nats"], rel=0.01)
    for measure in ("Jensen-Shannon", "Norm ratio", "Cosine", "Effective rank"):
        assert measure in probed.stdout


def test_the_files_hold_what_the_library_gives(probed: SimpleNamespace, home: Path) -> None:
    from loralaw.models import load_adapted_model

    loaded = load_adapted_model(home / "[red]a", "micro-0.4m")
    expected = loralaw.probe(loaded.model, TEXTS, tokenizer=loaded.tokenizer).as_dict()
    written = json.loads((home / "p.json").read_text())
    assert (written["adapter"], written["base_model"]) == ("[red]a", "micro-0.4m")
    assert written["means"] == pytest.approx(expected["means"], rel=1e-3)
    assert written["n_tokens"] == expected["n_tokens"]
    assert len(written["layers"]) == 14
    page = (home / "p.html").read_text()
    assert "[red]a" in page


def test_rows_and_other_files(home: Path) -> None:
    ids = AutoTokenizer.from_pretrained(find_model("micro-0.4m").location)(TEXTS)["input_ids"]
    table = pl.DataFrame({"prompt": [text[:20] for text in TEXTS], "completion": [text[20:] for text in TEXTS]})
    table.write_csv(home / "pairs.csv")
    pl.DataFrame({"text": TEXTS}).write_parquet(home / "rows.parquet")
    for name in ("pairs.csv", "rows.parquet"):
        result = loralaw_probe(
            "[red]a", "--data", name, "--base", "micro-0.4m", "--estimator", "jsd", "--json", "q.json", cwd=home
        )
        assert result.returncode == 0, result.stderr
        assert "MIUB" not in result.stdout
        assert json.loads((home / "q.json").read_text())["n_tokens"] == sum(map(len, ids))
    few = loralaw_probe(
        "[red]a", "--data", "texts.txt", "--rows", 2, "--max-length", 5, "--batch-size", 1, "--json", "r.json", cwd=home
    )
    assert few.returncode == 0, few.stderr
    assert json.loads((home / "r.json").read_text())["n_tokens"] == 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--json", "x", "--html", "./x"), "--json and --html are both x: give each a file of its own"),
        (("--json", "x/../texts.txt"), "--data and --json are both"),
        (("--html", "."), "is a folder: name a file in it"),
        (("--json", "texts.txt/x"), "texts.txt/x is not a place to write to"),
    ],
)
def test_places_that_cannot_be_written_to_are_refused_before_anything_is_loaded(
    words: tuple[str, ...], said: str, home: Path
) -> None:
    before = sorted(home.iterdir())
    result = loralaw_probe("no such adapter", "--data", "texts.txt", *words, cwd=home)
    assert result.returncode == 2
    assert said in result.stderr
    assert sorted(home.iterdir()) == before
    assert (home / "texts.txt").read_text() == "\n\n".join(TEXTS)


def test_a_terminal_that_knows_ascii_only(home: Path) -> None:
    result = probed_again(home, encoding="ascii")
    assert result.returncode == 0, result.stderr
    assert "Norm ratio ?u?/?z?" in result.stdout


def test_the_files_are_written_before_anything_is_printed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise OSError("the terminal has gone")

    monkeypatch.setattr("loralaw.cli.probe._shown", gone)
    with pytest.raises(OSError, match="terminal has gone"):
        probed_again(home)
    assert json.loads((home / "b.json").read_text())["n_sequences"] == len(TEXTS)
    assert "[red]a" in (home / "b.html").read_text()


def test_the_numbers_are_shown_where_the_disk_refuses(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, _: object) -> None:
        raise storage_error(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr("loralaw.store.atomic.write_json", full)
    result = probed_again(home)
    assert result.returncode == 1
    assert "MIUB, channel bound" in result.stdout
    assert "b.json cannot be written: No space left on device" in result.stderr


def test_codes_that_a_terminal_obeys_are_not_printed(home: Path) -> None:
    result = loralaw_probe("\x1b[2Jnowhere", "--data", "texts.txt", cwd=home)
    assert "\x1b" not in result.stderr
    assert "\\x1b[2Jnowhere" in result.stderr


def test_mistakes_are_told_in_a_sentence(home: Path) -> None:
    (home / "other.csv").write_text("sentence\nx\n")
    (home / "empty.txt").write_text("\n \n")
    for words, said in (
        (("nowhere", "--data", "texts.txt"), "nowhere"),
        (("[red]a", "--data", "gone.txt"), "gone.txt: no such file"),
        (("[red]a", "--data", "other.csv"), '"sentence"'),
        (("[red]a", "--data", "empty.txt"), "no row holds any text"),
        (("[red]a", "--data", "other.pdf"), "other.pdf"),
        (("[red]a", "--data", "texts.txt", "--estimator", "chanel"), "chanel"),
    ):
        result = loralaw_probe(*words, cwd=home)
        assert result.returncode == 2, words
        assert said in result.stderr
        assert "Traceback" not in result.stderr
