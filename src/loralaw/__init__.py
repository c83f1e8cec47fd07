"""Which LoRA rank, how much data, which base model, and will more help? Measured scaling laws, with intervals."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from loralaw._version import __version__ as __version__

if TYPE_CHECKING:
    from loralaw import laws as laws
    from loralaw import miub as miub
    from loralaw import theory as theory
    from loralaw.errors import LoralawError as LoralawError
    from loralaw.miub import MiubCallback as MiubCallback
    from loralaw.miub import probe as probe
    from loralaw.report import write_heat_map as write_heat_map
    from loralaw.report import write_report as write_report
    from loralaw.spec import StudySpec as StudySpec
    from loralaw.spec import load_study as load_study
    from loralaw.store import Study as Study
    from loralaw.store import open_study as open_study
    from loralaw.study import run as run
    from loralaw.tuners import AlphaLoraConfig as AlphaLoraConfig
    from loralaw.tuners import row_scale_summary as row_scale_summary
    from loralaw.tuners import suggest_row_scale as suggest_row_scale
    from loralaw.tuners.alpha_lora_trainer import AlphaLoraTrainer as AlphaLoraTrainer

# PEFT imports bitsandbytes where it is installed; on some processors that warns of a kernel that it does well without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

# Imported on first use: `import loralaw` stays fast, and reading a study needs no deep-learning stack.
_HOMES = {
    "AlphaLoraConfig": "loralaw.tuners",
    "AlphaLoraTrainer": "loralaw.tuners.alpha_lora_trainer",
    "LoralawError": "loralaw.errors",
    "MiubCallback": "loralaw.miub",
    "Study": "loralaw.store",
    "StudySpec": "loralaw.spec",
    "load_study": "loralaw.spec",
    "open_study": "loralaw.store",
    "probe": "loralaw.miub",
    "row_scale_summary": "loralaw.tuners",
    "run": "loralaw.study",
    "suggest_row_scale": "loralaw.tuners",
    "write_heat_map": "loralaw.report",
    "write_report": "loralaw.report",
}
_ROOMS = {"laws", "miub", "theory"}


def judge(study: "Study", **options: Any) -> "laws.Judgement":
    """Which metric obeys the law: `loralaw.laws.judge` of a study's table, with its options."""
    from loralaw.laws import judge as of_table

    return of_table(study.table(), **options)


def recommend(study: "Study", **options: Any) -> "laws.Recommendation":
    """What to train under a target or a budget: `loralaw.laws.recommend` of a study's table, with its options."""
    from loralaw.laws import recommend as of_table

    return of_table(study.table(), **options)


def design(study: "Study", k: int | None = None, **options: Any) -> "laws.NextCells":
    """Which cells to run next: `loralaw.laws.design` of a study's table, with its options."""
    from loralaw.laws import design as of_table

    return of_table(study.table(), k, **options)


def check_rule(study: "Study", rule: str, **options: Any) -> "laws.RuleCheck":
    """Whether a folk rule holds: `loralaw.laws.check_rule` of a study's table, with its options."""
    from loralaw.laws import check_rule as of_table

    return of_table(study.table(), rule, **options)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"loralaw.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'loralaw' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_ROOMS})
