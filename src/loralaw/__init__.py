"""Which LoRA rank, how much data, which base model, and will more help? Measured scaling laws, with intervals."""

from loralaw._version import __version__ as __version__
