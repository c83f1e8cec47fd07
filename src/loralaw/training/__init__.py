"""Cells in, trained adapters or models and measurements out."""

from loralaw.training.baseline import baseline as baseline
from loralaw.training.batch import micro_batch_counts as micro_batch_counts
from loralaw.training.cell import SCHEDULES as SCHEDULES
from loralaw.training.cell import PackCell as PackCell
from loralaw.training.cell_settings import TrainingPath as TrainingPath
from loralaw.training.cell_settings import has_row_scale as has_row_scale
from loralaw.training.cell_settings import n_devices_of as n_devices_of
from loralaw.training.cell_settings import n_steps_of as n_steps_of
from loralaw.training.cell_settings import path_of as path_of
from loralaw.training.encoded_task import EncodedTask as EncodedTask
from loralaw.training.ledger import PackEvents as PackEvents
from loralaw.training.pack import Pack as Pack
from loralaw.training.quantised import why_not_on as why_not_on
from loralaw.training.record import cell_record as cell_record
from loralaw.training.scores import Scores as Scores
from loralaw.training.targets import n_params_trainable as n_params_trainable
from loralaw.training.targets import resolve_target_modules as resolve_target_modules
from loralaw.training.targets import smallest_targeted_dimension as smallest_targeted_dimension
from loralaw.training.targets import targeted_layers as targeted_layers
from loralaw.training.task_rows import TaskRows as TaskRows
from loralaw.training.task_rows import encode_task as encode_task
from loralaw.training.train_cells import train_cells as train_cells
from loralaw.training.train_pack import train_pack as train_pack
