"""α-LoRA as a method of PEFT: its configuration, its model, and a look at the row scale. Importing it registers it."""

from loralaw.tuners.alpha_lora_config import AlphaLoraConfig as AlphaLoraConfig
from loralaw.tuners.alpha_lora_model import AlphaLoraModel as AlphaLoraModel
from loralaw.tuners.row_scale import ROW_SCALE as ROW_SCALE
from loralaw.tuners.row_scale import row_scale_parameters as row_scale_parameters
from loralaw.tuners.row_scale import row_scales as row_scales
from loralaw.tuners.row_scale import set_task as set_task
from loralaw.tuners.row_scale_suggestion import RowScaleSuggestion as RowScaleSuggestion
from loralaw.tuners.row_scale_summary import RowScaleSummary as RowScaleSummary
from loralaw.tuners.row_scale_summary import row_scale_drift as row_scale_drift
from loralaw.tuners.row_scale_summary import row_scale_summary as row_scale_summary
from loralaw.tuners.suggest_row_scale import suggest_row_scale as suggest_row_scale
