"""How much an adapter leans on its frozen base: streaming statistics of a layer's two outputs, on plain tensors.

`base` is what the frozen layer gives (z = W₀h, with its bias), `adapter` what is added to it (u = s·BAh); both are
(..., tokens, features). Every statistic keeps O(features) numbers whatever the number of tokens.
"""

from loralaw.miub.channel_bound import ChannelBound as ChannelBound
from loralaw.miub.jensen_shannon import JensenShannon as JensenShannon
from loralaw.miub.layer_statistics import LayerStatistics as LayerStatistics
from loralaw.miub.norm_ratio import NormRatio as NormRatio
