"""Base models by name: the embedded micro family, a local folder, the hub."""

from loralaw.models.adapted_model import AdaptedModel as AdaptedModel
from loralaw.models.adapted_model import load_adapted_model as load_adapted_model
from loralaw.models.base_model import BaseModel as BaseModel
from loralaw.models.base_model import is_quantised as is_quantised
from loralaw.models.base_model import load_base_model as load_base_model
from loralaw.models.heads import check_head as check_head
from loralaw.models.heads import is_encoder as is_encoder
from loralaw.models.known_shapes import KNOWN_SHAPES as KNOWN_SHAPES
from loralaw.models.loading import Loading as Loading
from loralaw.models.sharding import can_be_sharded as can_be_sharded
from loralaw.models.sharding import is_sharded as is_sharded
from loralaw.models.sharding import let_go as let_go
from loralaw.models.sharding import whole as whole
from loralaw.models.skeleton import check_files as check_files
from loralaw.models.skeleton import context_length as context_length
from loralaw.models.skeleton import skeleton as skeleton
from loralaw.models.source import EMBEDDED as EMBEDDED
from loralaw.models.source import ENCODER as ENCODER
from loralaw.models.source import ModelSource as ModelSource
from loralaw.models.source import find_model as find_model
