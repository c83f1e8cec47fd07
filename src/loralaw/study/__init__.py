"""Running studies: check, plan, train what is missing, show progress; and training one model alone."""

from loralaw.study.check import check as check
from loralaw.study.forecast import Forecast as Forecast
from loralaw.study.forecast import GroupForecast as GroupForecast
from loralaw.study.forecast import forecast as forecast
from loralaw.study.one_model import OneModel as OneModel
from loralaw.study.plan import plan_cells as plan_cells
from loralaw.study.plan import plan_packs as plan_packs
from loralaw.study.progress import RunProgress as RunProgress
from loralaw.study.progress import watch as watch
from loralaw.study.run import run as run
from loralaw.study.trackers import Trackers as Trackers
from loralaw.study.train_one import train_one as train_one
