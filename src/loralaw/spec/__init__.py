"""What a study is: its file, its settings, its cells. No deep-learning imports."""

from loralaw.spec.cell import TRAINING_SEMANTICS as TRAINING_SEMANTICS
from loralaw.spec.cell import Cell as Cell
from loralaw.spec.layout import Point as Point
from loralaw.spec.layout import points as points
from loralaw.spec.load_study import load_study as load_study
from loralaw.spec.load_study import parse_study as parse_study
from loralaw.spec.methods import METHOD_NAMES as METHOD_NAMES
from loralaw.spec.methods import TARGET_WORDS as TARGET_WORDS
from loralaw.spec.methods import AdapterMethod as AdapterMethod
from loralaw.spec.methods import AlphaLoraMethod as AlphaLoraMethod
from loralaw.spec.methods import FullMethod as FullMethod
from loralaw.spec.methods import LoraMethod as LoraMethod
from loralaw.spec.methods import MethodSpec as MethodSpec
from loralaw.spec.methods import method_class as method_class
from loralaw.spec.methods import method_spec as method_spec
from loralaw.spec.salvage import Salvage as Salvage
from loralaw.spec.study_spec import FILE_ENDINGS as FILE_ENDINGS
from loralaw.spec.study_spec import EvaluationSpec as EvaluationSpec
from loralaw.spec.study_spec import LoadingSpec as LoadingSpec
from loralaw.spec.study_spec import StudySpec as StudySpec
from loralaw.spec.study_spec import TaskSpec as TaskSpec
from loralaw.spec.study_spec import TemplateSpec as TemplateSpec
from loralaw.spec.study_spec import TrainingSpec as TrainingSpec
