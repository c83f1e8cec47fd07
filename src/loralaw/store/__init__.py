"""Study folders: records, the table, and what keeps them safe. No deep-learning imports."""

from loralaw.store.atomic import write_json as write_json
from loralaw.store.atomic import write_text as write_text
from loralaw.store.events import append_event as append_event
from loralaw.store.lock import is_running as is_running
from loralaw.store.lock import study_lock as study_lock
from loralaw.store.study import ADAPTER as ADAPTER
from loralaw.store.study import MODEL as MODEL
from loralaw.store.study import RETRIED as RETRIED
from loralaw.store.study import Study as Study
from loralaw.store.study import open_study as open_study
from loralaw.store.study import write_record as write_record
from loralaw.store.study import write_study as write_study
from loralaw.store.table import COLUMNS as COLUMNS
from loralaw.store.table import table_of as table_of
