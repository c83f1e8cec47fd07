"""Scaling laws of a study, with intervals: a table of cells in, a status and a law out. Nothing here imports torch."""

from loralaw.laws.cost_model import Basis as Basis
from loralaw.laws.cost_model import CostModel as CostModel
from loralaw.laws.cost_model import CostSetting as CostSetting
from loralaw.laws.cost_model import Prediction as Prediction
from loralaw.laws.cost_model import fit_costs as fit_costs
from loralaw.laws.fitting import fit as fit
from loralaw.laws.fitting import fit_all as fit_all
from loralaw.laws.law_fit import LawFit as LawFit
from loralaw.laws.law_fit import Status as Status
from loralaw.laws.metrics import AXES as AXES
from loralaw.laws.metrics import METRICS as METRICS
from loralaw.laws.metrics import STUDY_AXES as STUDY_AXES
from loralaw.laws.metrics import Axis as Axis
from loralaw.laws.metrics import Metric as Metric
from loralaw.laws.sentences import describe as describe
