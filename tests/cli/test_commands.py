"""The command line as a user meets it: answers, exit codes, and never a traceback for a mistake."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from loralaw.cli import main

LORALAW = Path(sys.executable).with_name("loralaw")


def loralaw(*words: object, cwd: Path, columns: int = 100) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "COLUMNS": str(columns)}
    return subprocess.run([str(LORALAW), *map(str, words)], cwd=cwd, capture_output=True, text=True, env=env)


@pytest.fixture(scope="module")
def done(tiny_model: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small finished study, run by the command."""
    home = tmp_path_factory.mktemp("cli")
    shutil.copy(rows, home)
    (home / "s.yaml").write_text(
        f"name: s\nbase_models: [{tiny_model}]\ntask: rows.jsonl\nranks: [1, 2, 4]\nsizes: [8, 16]\n"
        "training: {steps: 8, batch_size: 2, max_length: 16}\nevaluation: {test_examples: 4, probe_examples: 4}\n"
    )
    result = loralaw("run", "s.yaml", "--executor", "inline", cwd=home)  # workers take long to begin
    assert result.returncode == 0, result.stderr
    assert sum(line.startswith("finished ") for line in result.stdout.splitlines()) == 12
    assert "cross-entropy" in result.stdout
    assert str(Path("studies") / "s" / "report.html") in result.stdout
    assert result.stderr == ""
    return home / "studies" / "s"


def test_status(done: Path) -> None:
    result = loralaw("status", done, cwd=done)
    assert result.stdout.split()[:1] == ["s"]
    assert "12 of 12 cells" in result.stdout
    watched = loralaw("status", done, "--watch", cwd=done)  # no run goes on, so that it ends
    assert "12 of 12 cells" in watched.stdout


def test_plan(done: Path, tmp_path: Path) -> None:
    home = done.parent.parent
    ended = loralaw("plan", "s.yaml", cwd=home)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("s · 12 cells, 12 of them with a result · 0 to train · ")
    new = loralaw("plan", "s.yaml", "--out", tmp_path / "new", cwd=home, columns=80)
    assert new.stdout.startswith("s · 12 cells · 12 to train · ")
    said = " ".join(new.stdout.split())
    for part in ("packed together", "rough, within a factor of", "tokens", "memory", "disk", "free in"):
        assert part in said
    assert not (tmp_path / "new").exists()


def test_table_in_every_form(done: Path, tmp_path: Path) -> None:
    printed = loralaw("table", done, cwd=tmp_path)
    assert pl.read_csv(printed.stdout.encode()).shape[0] == 12
    assert len(json.loads(loralaw("table", done, "--format", "json", cwd=tmp_path).stdout)) == 12
    for ending in ("csv", "json", "parquet"):
        result = loralaw("table", done, "-o", f"t.{ending}", cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        read = {"csv": pl.read_csv, "json": pl.read_json, "parquet": pl.read_parquet}[ending]
        assert read(tmp_path / f"t.{ending}")["cross_entropy"].is_not_null().all()
    handed_on = loralaw("table", done, "--records", "-o", "study.parquet", cwd=tmp_path)
    assert handed_on.returncode == 0, handed_on.stderr
    page = loralaw("report", "study.parquet", cwd=tmp_path)
    assert page.stdout.split() == ["study.html"]
    assert (tmp_path / "study.html").exists()
    for words in (["--records"], ["--records", "-o", "t.csv"]):
        refused = loralaw("table", done, *words, cwd=tmp_path)
        assert refused.returncode == 2
        assert "-o FILE.parquet" in refused.stderr
    nowhere = loralaw("table", done, "-o", "no/such/folder/t.csv", cwd=tmp_path)
    assert nowhere.returncode == 2
    assert "a folder that exists" in nowhere.stderr
    wrong = loralaw("table", done, "-o", "t.xlsx", cwd=tmp_path)
    assert wrong.returncode == 2
    assert ".parquet" in wrong.stderr


def test_fit_and_report(done: Path) -> None:
    fitted = loralaw("fit", done, cwd=done)
    assert fitted.returncode == 0, fitted.stderr
    assert "rank" in fitted.stdout
    page = done / "report.html"
    page.unlink()
    written = loralaw("report", done, cwd=done)
    assert written.returncode == 0, written.stderr
    assert page.exists()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["fit", "--metric", "cross_entropy", "--axis", "rank"], "cross-entropy, rank: "),
        (["judge"], "any law fits fewer"),
        (["recommend"], "nats"),
        (["recommend", "--target", "cross_entropy=0.001"], "No configuration is predicted to reach cross-entropy"),
        (["check-rule"], "rank-by-examples (under 1,000 examples"),
    ],
)
def test_what_a_study_says(
    done: Path, words: list[str], part: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, *options = words
    code, out, err = inside([command, str(done), *options], monkeypatch, capsys)
    assert (code, err) == (0, "")
    assert part in " ".join(out.split())


def inside(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str, str]:
    """A command in the test's own process: exit code, standard output and error."""
    monkeypatch.setattr(sys, "argv", ["loralaw", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    return ended.value.code, said.out, said.err


def test_a_table_that_no_study_of_ours_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["base_model,n_params_total,rank,n_train_examples,seed,loss,train_seconds"]
    for (base, size), rank, n, seed in itertools.product(
        (("a", 1e8), ("b", 4e8), ("c", 1.6e9)), (2, 8, 32), (500, 1000, 2000), (0, 1)
    ):
        loss = 1 + 20 * size**-0.2 + 0.2 * rank**-0.6 + 8 * n**-0.4 + 0.003 * ((rank * n + seed * 7) % 5 - 2)
        rows.append(f"{base},{size:.0f},{rank},{n},{seed},{loss},{1e-9 * size * n}")
    (tmp_path / "elsewhere.csv").write_text("\n".join(rows) + "\n")
    for words, part in (
        (["fit", "--metric", "loss", "--joint"], "exponent_n_params_total"),
        (["fit", "--metric", "loss", "--axis", "rank"], "loss falls with rank by a power law"),
        (["recommend", "--metric", "loss", "--budget", "seconds=500"], "seconds"),
        (["design", "--metric", "loss", "-k", "2"], "To know the law of loss at c · rank 64 · 4,000 examples"),
        (["check-rule", "rank-by-examples", "--metric", "loss"], "rank 8"),
    ):
        command, *options = words
        code, out, err = inside([command, str(tmp_path / "elsewhere.csv"), *options], monkeypatch, capsys)
        assert (code, err) == (0, "")
        assert part in out


def test_a_finished_study_reports_again_without_training(done: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in done.glob("cells/*/record.json")}
    assert loralaw("run", "s.yaml", cwd=done.parent.parent).returncode == 0
    assert {p: p.stat().st_mtime_ns for p in done.glob("cells/*/record.json")} == before


def test_new_writes_a_study_that_is_valid(tmp_path: Path) -> None:
    from loralaw.spec import load_study

    assert loralaw("new", "mine", cwd=tmp_path).returncode == 0
    assert load_study(tmp_path / "mine.yaml").name == "mine"
    again = loralaw("new", "mine", cwd=tmp_path)
    assert again.returncode == 2
    assert "exists" in again.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["run", "none.yaml"], "no such file"),
        (["run", "name.yaml"], "letters"),
        (["plan", "none.yaml"], "no such file"),
        (["status", "."], "not a study folder"),
        (["table", "nowhere"], "not a study folder"),
        (["fit", "nowhere"], "no such file"),
        (["fit", "."], "not a study folder"),
        (["fit", "table.csv"], "name the column"),
        (["fit", "table.csv", "--metric", "los", "--axis", "rank"], 'Did you mean "loss"'),
        (["judge", "name.yaml"], "the ending"),
        (["recommend", "table.csv", "--metric", "loss", "--budget", "hours=soon"], "a name and a number"),
        (["recommend", "table.csv", "--metric", "loss", "--budget", "minutes=3"], "give one of seconds"),
        (["design", "table.csv", "--metric", "loss", "-k", "0"], "at least 1"),
        (["check-rule", "table.csv", "rank-16", "--metric", "loss"], 'no column "n_train_examples"'),
        (["report", "nowhere"], "not a study folder"),
        (["new", "../up"], "not a name"),
        (["rum"], "No such command"),
    ],
)
def test_mistakes_are_answered_with_exit_code_2(
    words: list[str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "name.yaml").write_text(
        "name: <b>s\nbase_models: [micro-0.4m]\ntask: stdlib-code\nranks: [1]\nsizes: [8]\n"
    )
    (tmp_path / "table.csv").write_text("rank,loss\n1,2.0\n4,1.5\n16,1.3\n")
    monkeypatch.chdir(tmp_path)
    code, _, err = inside(words, monkeypatch, capsys)
    assert code == 2
    assert part in err


def test_status_of_a_copy_goes_on_with_the_copy(done: Path, tmp_path: Path) -> None:
    (tmp_path / "the copy").mkdir()
    shutil.copy(done / "study.json", tmp_path / "the copy")
    result = loralaw("status", "the copy", cwd=tmp_path)
    assert "go on with: loralaw run s.yaml --out 'the copy'" in result.stdout


def test_a_study_of_another_version(done: Path, tmp_path: Path) -> None:
    content = json.loads((done / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**content, "format": 2}))
    result = loralaw("table", tmp_path, cwd=tmp_path)
    assert result.returncode == 2
    assert "format 2" in result.stderr


def test_start_is_light() -> None:
    """No heavy module on the way to the help text; the 0.4 seconds themselves are measured in the closing figures."""
    heavy = ["torch", "transformers", "polars", "pydantic", "jinja2"]
    code = f"import sys, loralaw.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]"
    started = time.perf_counter()
    subprocess.run([str(LORALAW), "--help"], capture_output=True, check=True)
    assert time.perf_counter() - started < 4  # ten times the figure: a loaded machine is not a mistake
