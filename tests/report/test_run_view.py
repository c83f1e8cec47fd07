from loralaw.report import PackState, RunState


def test_what_other_runs_train_is_told_apart() -> None:
    alone = RunState("s", 72, {"finished": 30, "failed": 1}, (PackState("a pack", 12, 0.5),))
    assert alone.counts() == "30 of 72 cells, 12 running, 1 failed, 29 left"
    shared = RunState("s", 72, {"finished": 30}, (PackState("a pack", 12, 0.5),), n_elsewhere=8)
    assert shared.counts() == "30 of 72 cells, 20 running (8 in another run), 22 left"
