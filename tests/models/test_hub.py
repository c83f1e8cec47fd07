"""Models by their names on the hub: the real client against a stand-in on this machine, in processes of their own."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from hub_stand_in import COMMIT, HubStandIn, hub_stand_in
from huggingface_hub.errors import LocalEntryNotFoundError

from loralaw.errors import ModelError
from loralaw.models import check_files, find_model, hub, skeleton
from loralaw.store import open_study

STUDY = """
base_models: [acme/tiny-llama]
task: arc_easy
templates: [question]
ranks: [1]
sizes: [4]
seeds: [0]
training: {steps: 2, batch_size: 2, max_length: 16, dtype: float32}
evaluation: {test_examples: 4, choice_questions: 4, probe_examples: 4}
"""


def arc_rows(split: str) -> pl.DataFrame:
    """Rows as the hub has them."""
    options = {"text": ["the sun", "a stone", "salt", "ice"], "label": ["A", "B", "C", "D"]}
    return pl.DataFrame(
        [
            {
                "id": f"{split}{i}",
                "question": f"What is {split} number {i}?",
                "choices": options,
                "answerKey": "ABCD"[i % 4],
            }
            for i in range(40)
        ]
    )


@pytest.fixture(scope="module")
def served(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStandIn]:
    """With a model, which has a pickle too, the same one gated, one that is pickled only, and two data sets."""
    root = tmp_path_factory.mktemp("hub")
    models = root / "models" / "acme"
    shutil.copytree(tiny_model, models / "tiny-llama")
    (models / "tiny-llama" / "pytorch_model.bin").write_bytes(b"a pickle")
    shutil.copytree(tiny_model, models / "gated")
    shutil.copytree(tiny_model, models / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    (models / "pickled" / "pytorch_model.bin").write_bytes(b"a pickle")
    parquet = root / "datasets" / "acme" / "rows@parquet" / "default" / "train"
    parquet.mkdir(parents=True)
    pl.DataFrame({"text": ["a", "b"]}).write_parquet(parquet / "0000.parquet")
    for split in ("train", "test"):
        place = root / "datasets" / "allenai" / "ai2_arc@parquet" / "ARC-Easy" / split
        place.mkdir(parents=True)
        arc_rows(split).write_parquet(place / "0000.parquet")
    with hub_stand_in(root, {"acme/gated"}) as served:
        yield served


def python(served: HubStandIn, code: str, tmp_path: Path, **environment: str) -> str:
    """What a process says that runs this code with the stand-in as its hub."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=served.environment(tmp_path / "home", **environment),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


ONLINE = """
import sys
from loralaw.cli import main
for words in (["plan", "study.yaml"], ["run", "study.yaml", "--out", "first", "--executor", "inline"]):
    sys.argv = ["loralaw", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
"""
OFFLINE = """
import json
import loralaw
from loralaw.models import check_files, find_model, skeleton
from huggingface_hub import hf_hub_download
loralaw.run("study.yaml", "second", executor="inline")
loaded, planned = find_model("acme/tiny-llama", dry=True), find_model("acme/pickled", dry=True)
check_files(planned, 1)
print(json.dumps([loaded.is_dry, planned.is_dry, planned.hash, skeleton(planned).num_parameters()]))
"""


def test_a_study_of_names_alone_and_again_without_a_network(served: HubStandIn, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    python(served, ONLINE, tmp_path)
    asked = served.files_asked_for()
    assert {"config.json", "tokenizer.json", "model.safetensors", "0000.parquet"} <= asked
    assert not [name for name in asked if name.endswith((".bin", ".bin.index.json", ".pt"))]
    # What a cache holds of a model whose configuration alone was asked for.
    cache = tmp_path / "home" / "hub" / "models--acme--pickled"
    shutil.copytree(cache.with_name("models--acme--tiny-llama") / "refs", cache / "refs")
    (cache / "snapshots" / COMMIT).mkdir(parents=True)
    shutil.copy(served.root / "models" / "acme" / "pickled" / "config.json", cache / "snapshots" / COMMIT)
    served.requests.clear()
    said = python(served, OFFLINE, tmp_path, HF_HUB_OFFLINE="1")
    assert not served.requests
    assert json.loads(said.splitlines()[-1])[:3] == [False, True, COMMIT]
    first, second = (open_study(tmp_path / out).table() for out in ("first", "second"))
    assert first["cross_entropy"].to_list() == second["cross_entropy"].to_list()
    assert first["base_model"].to_list() == ["acme/tiny-llama"]
    assert first["task"].to_list() == ["arc_easy"]
    assert first["choice_accuracy"].is_not_null().all()


ERRORS = """
from huggingface_hub import hf_hub_download
import polars as pl
from loralaw.errors import ModelError
from loralaw.models import Loading, check_files, find_model, load_base_model
for name, loading in [
    ("acme/gated", Loading()), ("acme/none", Loading()), ("Qwen/Qwen3-0.6", Loading()), ("acme/pickled", Loading()),
    ("acme/pickled", Loading(pickled_weights=True)),
]:
    try:
        source = find_model(name, loading)
        check_files(source, 4096)
        load_base_model(source)
    except ModelError as error:
        print(error)
source = find_model("acme/tiny-llama", Loading("4bit"))
print(source.hash, source.revision)
place = hf_hub_download(
    "acme/rows", "default/train/0000.parquet", repo_type="dataset", revision="refs/convert/parquet"
)
print(pl.read_parquet(place)["text"].to_list())
"""


def test_what_is_wrong_is_said_in_one_line_each(served: HubStandIn, tmp_path: Path) -> None:
    gated, none, typo, pickled, broken, found, rows = python(served, ERRORS, tmp_path).splitlines()
    assert "is gated: accept its terms on its page" in gated
    assert "hf auth login" in gated
    assert '"acme/none" is not a folder here and not on the hub' in none
    assert typo.endswith('Did you mean "Qwen/Qwen3-0.6B"?')
    assert "no *.safetensors" in pickled
    assert "loading.pickled_weights" in pickled
    assert '"acme/pickled" cannot be loaded' in broken
    assert found == f"{COMMIT}-4bit {COMMIT}"
    assert rows == "['a', 'b']"


@pytest.mark.parametrize("is_set", [True, False])
def test_without_a_network(is_set: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_set:
        monkeypatch.delenv("HF_HUB_OFFLINE")

        def nobody_answers(*_: str, local_files_only: bool) -> str:
            raise LocalEntryNotFoundError("no connection, and nothing in the cache")

        monkeypatch.setattr(hub, "hf_hub_download", nobody_answers)
    for name in ("acme/tiny-llama", "Qwen/Qwen3-0.6B"):
        with pytest.raises(ModelError, match="could not be read from the hub") as caught:
            find_model(name)
        assert "config.json, tokenizer files and *.safetensors into a folder" in str(caught.value)
        assert ("HF_HUB_OFFLINE is set" in str(caught.value)) == is_set
    source = find_model("Qwen/Qwen3-0.6B", dry=True)
    check_files(source, 1)
    assert source.is_dry
    assert skeleton(source).num_parameters() == 596_049_920
