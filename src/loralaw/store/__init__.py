"""Study folders: records, the table, and what keeps them safe. No deep-learning imports."""

from loralaw.store.atomic import write_json as write_json
from loralaw.store.atomic import write_text as write_text
from loralaw.store.cell_folder import ADAPTER as ADAPTER
from loralaw.store.cell_folder import MODEL as MODEL
from loralaw.store.cell_folder import CellFolder as CellFolder
from loralaw.store.leases import Lease as Lease
from loralaw.store.leases import RunLease as RunLease
from loralaw.store.leases import live_leases as live_leases
from loralaw.store.lock import folder_lock as folder_lock
from loralaw.store.study import RESULTS as RESULTS
from loralaw.store.study import Study as Study
from loralaw.store.study import open_study as open_study
from loralaw.store.study import write_study as write_study
from loralaw.store.study_file import StudyFile as StudyFile
from loralaw.store.study_file import read_study as read_study
from loralaw.store.study_file import write_study_file as write_study_file
from loralaw.store.table import COLUMNS as COLUMNS
from loralaw.store.table import COSTS_OF_A_RUN as COSTS_OF_A_RUN
from loralaw.store.table import method_label as method_label
from loralaw.store.table import table_of as table_of
from loralaw.store.table import task_label as task_label
