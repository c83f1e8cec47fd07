"""How much an adapter leans on its frozen base: estimators, a probe for any adapter, a callback for any Trainer.

`base` is what the frozen layer gives (z = W₀h, with its bias), `adapter` what is added to it (u = s·BAh); both are
(..., tokens, features). Every estimator streams: tokens in any order and any batches, merged across devices.
"""

from loralaw.miub.callback import MiubCallback as MiubCallback
from loralaw.miub.channel_bound import ChannelBound as ChannelBound
from loralaw.miub.channel_exact import ChannelExact as ChannelExact
from loralaw.miub.cosine import Cosine as Cosine
from loralaw.miub.effective_rank import effective_rank as effective_rank
from loralaw.miub.estimator import Estimate as Estimate
from loralaw.miub.estimator import Estimator as Estimator
from loralaw.miub.estimators import DEFAULT_ESTIMATORS as DEFAULT_ESTIMATORS
from loralaw.miub.estimators import ESTIMATORS as ESTIMATORS
from loralaw.miub.estimators import STATISTICS as STATISTICS
from loralaw.miub.estimators import estimate as estimate
from loralaw.miub.gaussian_coordinate import GaussianCoordinate as GaussianCoordinate
from loralaw.miub.gaussian_noise import GaussianNoise as GaussianNoise
from loralaw.miub.jensen_shannon import JensenShannon as JensenShannon
from loralaw.miub.jensen_shannon import StandardisedJensenShannon as StandardisedJensenShannon
from loralaw.miub.layer_statistics import LayerStatistics as LayerStatistics
from loralaw.miub.learned_bound import LearnedBound as LearnedBound
from loralaw.miub.norm_ratio import NormRatio as NormRatio
from loralaw.miub.probe import probe as probe
from loralaw.miub.probe_result import ProbeResult as ProbeResult
from loralaw.miub.probe_result import plain as plain
