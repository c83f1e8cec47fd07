"""`loralaw theory` as a user meets it: numbers that are the library's, a page, and one message for a mistake."""

import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from scipy.io import savemat

from loralaw.cli import main
from loralaw.cli.theory_options import asked_by_options
from loralaw.errors import InputError
from loralaw.report.wording import significant
from loralaw.theory import BinaryTarget, FineTuning, KnownSource, regression, ridge_source

SMALL = ("--n-source", 300, "--n-target", 50, "--dim", 100, "--gamma-source", 1, "--gamma-target", 0.5)


def theory(*words: object, cwd: Path) -> SimpleNamespace:
    """The command in this process, in a folder of its own."""
    printed, complained, code = TextIOWrapper(BytesIO(), "utf-8"), StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed), redirect_stderr(complained):
        patch.chdir(cwd)
        patch.setenv("COLUMNS", "140")
        patch.setattr(sys, "argv", ["loralaw", "theory", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    printed.seek(0)
    return SimpleNamespace(code=code, out=printed.read(), err=complained.getvalue())


def row(printed: str, first: str) -> list[str]:
    """The cells after the name of the first row of a table that begins so."""
    (line, *_) = [line for line in printed.splitlines() if line.startswith(f"{first} ") and ":" not in line]
    return line.removeprefix(first).split()


def test_a_curve_says_what_the_library_says(tmp_path: Path) -> None:
    result = theory("curve", *SMALL, "--beta", 0.3, "--beta", -0.6, cwd=tmp_path)

    assert result.code == 0, result.err
    for beta, label in ((0.3, "β = 0.3"), (-0.6, "β = −0.6")):
        setting = ridge_source(
            n_source=300,
            n_target=50,
            dim=100,
            mu_norm=0.8,
            mu_orth_norm=0.8,
            beta=beta,
            gamma_source=1,
            gamma_target=0.5,
        )
        best = setting.best_row_scale()
        accuracies = [100 * float(value) for value in (best.accuracy_best, best.accuracy_at_1, best.accuracy_at_0)]
        assert row(result.out, label) == [
            *map(significant, (float(best.best), *accuracies)),
            significant(accuracies[0] - accuracies[1], 2),
            significant(float(best.worst)),
        ]
        side = "Below" if beta > 0 else "Above"  # a source that points the other way is wrong where α is above
        assert f"{side} α = {significant(float(best.worst))} fewer than half are right" in " ".join(result.out.split())
        right = setting.predict(float(best.worst) + (-0.5 if beta > 0 else 0.5)).accuracy
        assert right < 0.5
    assert "simulated" not in result.out
    assert result.out.splitlines()[-1] == "theory-curve.html"
    assert (tmp_path / "theory-curve.html").stat().st_size < 6_000_000


def test_simulated_points_stand_beside_the_prediction(tmp_path: Path) -> None:
    result = theory("curve", *SMALL, "--beta", 0.3, "--from", -2, "--to", 3, "--simulate", 40, cwd=tmp_path)

    assert "simulating β = 0.3: 40 draws" in result.err
    points = [line.split() for line in result.out.splitlines() if "±" in line and line.startswith("β")]
    assert len(points) == 11
    assert [point[3] for point in points][:3] == ["−2", "−1.5", "−1"]
    assert all(abs(float(point[-1].replace("−", "-"))) < 4 for point in points)  # standard errors
    assert "Of 11 simulated points, the furthest from the theory in standard errors is" in result.out


def test_a_known_source(tmp_path: Path) -> None:
    known = ("--source-norm-sq", 0.5, "--dot-target-mean", -0.3)
    result = theory("curve", "--n-target", 50, "--dim", 100, "--beta", 0.5, *known, "--out", "k.html", cwd=tmp_path)
    best = FineTuning(KnownSource(0.5, -0.3), BinaryTarget(50, 100, 0.8, 0.8, 0.5, 0.1)).best_row_scale()

    assert "known source: ‖w̃‖² 0.5, ⟨w̃, μ_β⟩ -0.3" in result.out
    assert row(result.out, "β = 0.5")[0] == significant(float(best.best))
    assert (tmp_path / "k.html").exists()


def test_a_source_that_says_nothing_is_left_out(tmp_path: Path) -> None:
    result = theory("curve", "--beta", 0.5, "--source-norm-sq", 0, "--dot-target-mean", 0, cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert "β = 0.5: best at α = 0" in result.out


def test_a_regression_says_what_the_library_says(tmp_path: Path) -> None:
    words = ("--source-target-inner", 3, "--source-target-inner", -1, "--source-norm-sq", 4, "--target-norm-sq", 5)
    result = theory("regression", *words, "--simulate", 50, cwd=tmp_path)

    for inner, label in ((3, "⟨W_t, W_s⟩ = 3"), (-1, "⟨W_t, W_s⟩ = −1")):
        setting = regression(
            n_target=20,
            dim=40,
            n_outputs=10,
            noise_std=0.5,
            gamma=0.01,
            source_norm_sq=4,
            target_norm_sq=5,
            source_target_inner=inner,
        )
        best = setting.best_row_scale()
        shown = [significant(float(v)) for v in (best.best, best.risk_best, best.risk_at_1, best.risk_at_0)]
        assert row(result.out, label) == shown
    assert result.out.count("±") == 2 * 11 + 1


def test_the_list_of_figures(tmp_path: Path) -> None:
    result = theory("figure", cwd=tmp_path)

    assert [line.split()[0] for line in result.out.splitlines()] == [
        "accuracy",
        "scores",
        "amazon",
        "regression",
        "best-alpha",
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "simulate", "said"),
    [
        ("accuracy", 2, "β = 0.5: best at α = 4.10, where 63.9 % of new rows are right; 61.3 % at α = 1, 54.9 %"),
        ("scores", 1, "β = 0.8, α = 10"),
        ("regression", 2, "β = −2: best at α = −2.00"),
        ("best-alpha", None, "from −8.34 at β = −1 to 8.34 at β = 1"),
    ],
)
def test_each_figure(name: str, simulate: int | None, said: str, tmp_path: Path) -> None:
    draws = () if simulate is None else ("--simulate", simulate)
    result = theory("figure", name, *draws, cwd=tmp_path)

    assert result.code == 0, result.err
    assert said in " ".join(result.out.split())
    assert f"loralaw theory figure {name}" in (tmp_path / f"theory-{name}.html").read_text(encoding="utf-8")


DOMAINS = ("books", "dvd", "elec", "kitchen")


def domain(seed: int) -> dict[str, np.ndarray]:
    """Sorted rows of a domain, one column of which never varies, and labels as the Amazon files have them."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 60).astype(np.uint8)
    rows = rng.random((120, 8)) - 0.4 * labels[:, None]
    return {"fts": np.column_stack([rows, np.zeros(120)]), "labels": labels[:, None]}


def test_the_figure_on_real_rows_reads_both_kinds_of_files(tmp_path: Path) -> None:
    mats, parquets = tmp_path / "mats", tmp_path / "parquets"
    mats.mkdir()
    parquets.mkdir()
    domains = {name: domain(i) for i, name in enumerate(DOMAINS)}
    for name, held in domains.items():
        savemat(mats / f"{name}.mat", held)
    pl.concat(
        pl.DataFrame({"domain": name, "label": held["labels"].ravel().astype(np.int8), "features": held["fts"]})
        for name, held in domains.items()
    ).write_parquet(parquets / "amazon_review.parquet")

    results = [theory("figure", "amazon", "--data", f, "--simulate", 3, cwd=tmp_path) for f in (mats, parquets)]
    assert results[0].code == 0, results[0].err
    assert results[0].out == results[1].out
    assert float(row(results[0].out, "dvd → books")[1]) > 80  # label 0 is the class that scores high, as it is drawn
    assert "measuring dvd → books: 3 draws of 40 rows" in results[0].err
    assert "51 measured points are at most" in results[0].out
    assert "3 draws are too few" in " ".join(results[0].out.split())


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"books": (40, 8)}, "the domain books cannot be used (it has 40 rows, of which 40 train and the rest test)"),
        ({"dvd": (120, 9)}, "the domain dvd cannot be used (it has 9 features, the domain books 8)"),
        (
            dict.fromkeys(DOMAINS, (41, 60)),
            "the domain books cannot be used (rows has 41 rows, which vary in 40 directions",
        ),
    ],
)
def test_what_is_wrong_with_a_domain_is_told_by_its_name(
    changed: dict[str, tuple[int, int]], said: str, tmp_path: Path
) -> None:
    for seed, name in enumerate(DOMAINS):
        n_rows, dim = changed.get(name, (120, 8))
        rng = np.random.default_rng(seed)
        labels = np.arange(n_rows, dtype=np.uint8)[:, None] % 2
        savemat(tmp_path / f"{name}.mat", {"fts": rng.random((n_rows, dim)), "labels": labels})
    result = theory("figure", "amazon", "--data", tmp_path, "--simulate", 2, cwd=tmp_path)

    assert result.code == 2
    assert said in result.err
    assert "--n-target" not in result.err
    assert "give a folder with amazon_review.parquet" in result.err


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"domain": ["books"], "label": [0]}, "amazon_review.parquet cannot be read"),
        ({"domain": ["x"], "label": [0], "features": [[1.0]]}, 'no rows of the domain "books"'),
        ({"domain": ["books"] * 2, "label": [0, 2], "features": [[1.0], [2.0]]}, "labels other than 0 and 1"),
        ({"domain": ["books"] * 2, "label": [0, 0], "features": [[1.0], [2.0]]}, "has only the class +1"),
        ({"domain": ["books"] * 2, "label": [0, 1], "features": [[1.0], [2.0, 3.0]]}, "books cannot be used"),
        (
            {"domain": ["books"] * 2, "label": [0, 1], "features": [[1.0], [None]]},
            "rows has 1 of 2 entries such as nan",
        ),
    ],
)
def test_data_of_another_kind_is_refused(columns: dict[str, list[object]], said: str, tmp_path: Path) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "amazon_review.parquet")
    result = theory("figure", "amazon", "--data", tmp_path, cwd=tmp_path)

    assert result.code == 2
    assert said in result.err
    assert "give a folder with amazon_review.parquet (columns domain, label, features)" in result.err


def test_a_broken_matlab_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "books.mat").write_bytes(b"no matlab" * 40)
    result = theory("figure", "amazon", "--data", tmp_path, cwd=tmp_path)

    assert result.code == 2
    assert "books.mat cannot be read" in result.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("curve --n-source 0", "--n-source=0: give whole numbers from 1"),
        ("curve --dim 0", "--dim=0: give whole numbers from 1"),
        ("curve --beta 0.1 --beta 1.5", "--beta=1.5: give numbers from -1 to 1"),
        ("curve --gamma-target nan", "--gamma-target=nan: give finite numbers"),
        ("curve --from 3 --to 1", "--from=3 --to=1: give a range that goes up"),
        ("curve --to inf", "--to=inf: give a number from -1,000,000 to 1,000,000"),
        ("curve --simulate 3 --dim 100000000", "--dim=100,000,000 takes 5e+11 numbers at once, of at most"),
        ("curve --simulate 3 --n-source 100000 --dim 20000", "--simulate with --n-source=100,000, --n-target=40,"),
        ("regression --simulate 2 --n-target 1000000000000", "--n-target=1,000,000,000,000, --dim=40, --n-outputs=10"),
        ("regression --simulate 2 --n-outputs 100000000000", "--dim=40, --n-outputs=100,000,000,000 takes 4e+12"),
        ("regression --simulate 2 --dim -100000", "--dim=-100000: give whole numbers from 1"),
        ("curve --source-norm-sq 1", "--source-norm-sq and --dot-target-mean: give both, or neither"),
        ("curve --source-norm-sq -1 --dot-target-mean 0", "--source-norm-sq=-1: give numbers that are not negative"),
        ("curve --mu-norm 1e200", "--mu-norm=1e+200: give numbers of at most 1e+50"),
        (
            "curve --source-norm-sq 1 --dot-target-mean 5",
            "whose --source-norm-sq is 1, with a target mean of length 0.8. Give from -0.8",
        ),
        ("curve --source-norm-sq 1 --dot-target-mean 0 --n-source 9", "give the options of one of them"),
        ("regression --gamma 0", "--gamma=0: give numbers above 0"),
        ("regression --source-target-inner 1e9", "--source-target-inner=1e+09 is larger than the norms allow"),
        ("figure acuracy", 'Did you mean "accuracy"?'),
        ("figure amazon", "the figure amazon needs data, so nothing was drawn: with --data DIR, give a folder"),
        ("figure amazon --data nowhere", "nowhere is not a folder"),
        ("figure amazon --data .", ". has neither amazon_review.parquet nor books.mat"),
        ("figure scores --data .", "the figure scores reads no data: leave out --data"),
        ("figure best-alpha --simulate 3", "the figure best-alpha simulates nothing: leave out --simulate"),
        ("figure regression --simulate 1", "--simulate=1: give at least 2"),
        ("figure amazon --simulate 1 --data .", "--simulate=1: give at least 2"),
        ("figure dim", '"dim" is not a figure'),
        ("figure amazon --data mu_norm", "mu_norm is not a folder"),
        ("figure --open", "which figure? Give a name"),
        ("curve --out .", ". is a folder: name a file in it"),
        ("curve --out -", "--out=-: the page goes into a file, not to standard output: name it"),
    ],
)
def test_mistakes_are_told_in_one_message_that_names_the_option(words: str, said: str, tmp_path: Path) -> None:
    result = theory(*words.split(), cwd=tmp_path)

    assert result.code == 2
    assert said in result.err
    assert result.err.count("error:") == 1
    assert "----" not in result.err
    assert result.out == ""
    assert not list(tmp_path.iterdir())


def test_the_answer_is_shown_where_the_disk_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        from loralaw.errors import StorageError

        raise StorageError(f"{path} cannot be written")

    monkeypatch.setattr("loralaw.report.theory_sheet.write_text", full)
    result = theory("curve", "--beta", 0.5, cwd=tmp_path)
    assert result.code == 1
    assert "best at α = 4.10" in result.out
    assert "theory-curve.html cannot be written" in result.err


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("dim=0: give whole numbers from 1", "--dim=0: give whole numbers from 1"),
        ("rows has the shape (4,): give a matrix of the shape (rows, dim)", None),
        ("a source of beta=3 has gamma and dim", None),
        ("these do not go with norm_sq and n_target", "these do not go with --source-norm-sq and --n-target"),
    ],
)
def test_words_that_are_no_arguments_stay_as_they_are(message: str, said: str | None) -> None:
    with pytest.raises(InputError) as raised, asked_by_options():
        raise InputError(message)
    assert str(raised.value) == (said or message)


def test_control_characters_of_a_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    result = theory("curve", "--beta", 0.5, "--out", "a\x1b[31m.html", cwd=tmp_path)
    assert result.code == 0
    assert result.out.splitlines()[-1] == r"a\x1b[31m.html"
    assert (tmp_path / "a\x1b[31m.html").exists()


def test_a_name_of_a_figure_is_no_path(tmp_path: Path) -> None:
    result = theory("figure", "../x", cwd=tmp_path)
    assert result.code == 2
    assert '"../x" is not a figure' in result.err


def test_no_deep_learning_stack_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['loralaw', 'theory', 'curve', '--beta', '0.5']; from loralaw.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False False", result.stderr
