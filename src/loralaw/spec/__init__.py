"""What a study is: its file, its settings, its cells. No deep-learning imports."""

from loralaw.spec.cell import TRAINING_SEMANTICS as TRAINING_SEMANTICS
from loralaw.spec.cell import Cell as Cell
from loralaw.spec.layout import Point as Point
from loralaw.spec.layout import points as points
from loralaw.spec.load_study import load_study as load_study
from loralaw.spec.load_study import parse_study as parse_study
from loralaw.spec.salvage import Salvage as Salvage
from loralaw.spec.study_spec import FILE_ENDINGS as FILE_ENDINGS
from loralaw.spec.study_spec import EvaluationSpec as EvaluationSpec
from loralaw.spec.study_spec import MethodSpec as MethodSpec
from loralaw.spec.study_spec import StudySpec as StudySpec
from loralaw.spec.study_spec import TaskSpec as TaskSpec
from loralaw.spec.study_spec import TrainingSpec as TrainingSpec
