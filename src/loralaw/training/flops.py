"""Operations of a training and of its measurement, counted from shapes: known before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from loralaw.spec import AlphaLoraMethod, method_spec
from loralaw.training.targets import layer_dimensions


@dataclass(frozen=True)
class ModelShapes:
    """What the operations of one token depend on."""

    n_weights: int
    """N: numbers in the matrices of all linear layers and of the head (tied to the embedding or not); an embedding only
    looks up."""
    attention_width: int
    """w: blocks × heads × features of a head."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> "ModelShapes":
        """Shapes suffice: the model may lie on the meta device. It may also be inside a `Pack`.

        Of a mixture of experts all experts count, though a token meets a few.
        """
        text = model.config.get_text_config()
        head_size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        sizes = (layer_dimensions(layer) for layer in model.modules() if isinstance(layer, nn.Linear | Conv1D))
        return cls(
            n_weights=sum(n_in * n_out for n_in, n_out in sizes),
            attention_width=text.num_hidden_layers * text.num_attention_heads * head_size,
        )


@dataclass(frozen=True)
class TrainingShape:
    """How much goes through the model in a training: batches are full, and rows are padded to one length."""

    n_steps: int
    batch_size: int
    length: int
    """L: tokens of a row, padding included."""

    @property
    def n_tokens(self) -> int:
        """T: what the steps of the adapter, or of the whole model, read."""
        return self.n_steps * self.batch_size * self.length


def n_tokens_processed(method: Mapping[str, Any], training: TrainingShape) -> int:
    """Tokens that go through the model while a cell trains, padding and α's own steps included."""
    return training.n_tokens + _row_scale_tokens(method, training)


def train_flops(
    shapes: ModelShapes, method: Mapping[str, Any], n_params_trainable: int, training: TrainingShape
) -> float:
    """Operations of the matrix products of a cell's training; a multiplication and an addition are two.

        a frozen matrix, forward and to its input       4 N T
        attention, forward and backward                12 L w T
        adapter, forward and both gradients             6 n T
        full fine-tuning                                6 N T + 12 L w T
        a step of α of its own (n as in a forward pass and to the input)
                                                        4 N T′ + 12 L w T′ + 4 n T′

    with n trained numbers, T tokens of the steps and T′ those of α's own steps. The whole square of attention counts,
    although half of it is masked, and the head at every token, although a pack leaves out what is not scored. Every
    layer's input counts as needing a gradient; in truth those of the first block's q, k and v do not. Not counted:
    what is no product with the batch's tokens, such as norms, softmax, DoRA's row norms and AdamW.

    Args:
        shapes: of the base model.
        method: a cell's.
        n_params_trainable: of the cell.
        training: its steps, rows and length.

    **Source**: ours; 6 N T as everywhere.
    """
    attention = 12 * training.length * shapes.attention_width
    if method["name"] == "full":
        return float((6 * shapes.n_weights + attention) * training.n_tokens)
    of_base, own = 4 * shapes.n_weights + attention, _row_scale_tokens(method, training)
    return float((of_base + 6 * n_params_trainable) * training.n_tokens + (of_base + 4 * n_params_trainable) * own)


def evaluate_flops(
    shapes: ModelShapes, method: Mapping[str, Any], n_params_trainable: int, n_rows: int, length: int
) -> float:
    """Operations of the matrix products of a cell's measurement: a forward pass, (2 N + 4 L w + 2 n) a token.

    As many as there would be if every option of a question went through as a row of full length; in truth the options
    of a question share what they have in common, and are padded less.

    Args:
        shapes: of the base model.
        method: a cell's.
        n_params_trainable: of the cell.
        n_rows: rows of test, probe and questions together.
        length: tokens of a row, padding included.
    """
    n_adapter = 0 if method["name"] == "full" else n_params_trainable
    of_token = 2 * shapes.n_weights + 4 * length * shapes.attention_width + 2 * n_adapter
    return float(of_token * n_rows * length)


def _row_scale_tokens(method: Mapping[str, Any], training: TrainingShape) -> int:
    """T′: what the steps of α read that are not the adapter's."""
    spec = method_spec(dict(method))
    if not isinstance(spec, AlphaLoraMethod) or spec.row_scale_protocol == "joint":
        return 0
    return spec.n_row_scale_steps(training.n_steps) * training.batch_size * training.length
