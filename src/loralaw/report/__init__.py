"""What a study or a probe found: a self-contained HTML page, a summary for the terminal, a table of laws. No torch."""

from loralaw.report.judgement import terminal_judgement as terminal_judgement
from loralaw.report.law_table import law_table as law_table
from loralaw.report.page import write_report as write_report
from loralaw.report.probe_page import write_heat_map as write_heat_map
from loralaw.report.run_view import PackState as PackState
from loralaw.report.run_view import RunState as RunState
from loralaw.report.run_view import run_view as run_view
from loralaw.report.run_view import state_of as state_of
from loralaw.report.terminal import terminal_joint_laws as terminal_joint_laws
from loralaw.report.terminal import terminal_laws as terminal_laws
from loralaw.report.terminal import terminal_summary as terminal_summary
