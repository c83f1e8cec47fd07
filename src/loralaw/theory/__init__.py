"""Random-matrix theory of the row scale α for linear fine-tuning. numpy and scipy only."""

from loralaw.theory.binary_target import BinaryTarget as BinaryTarget
from loralaw.theory.fine_tuning import FineTuning as FineTuning
from loralaw.theory.fine_tuning import ridge_source as ridge_source
from loralaw.theory.from_features import FeatureAdvice as FeatureAdvice
from loralaw.theory.from_features import from_features as from_features
from loralaw.theory.gaussian_ridge import GaussianRidgeSource as GaussianRidgeSource
from loralaw.theory.gaussian_target import GaussianTarget as GaussianTarget
from loralaw.theory.known import KnownSource as KnownSource
from loralaw.theory.known_vector import KnownVector as KnownVector
from loralaw.theory.predict import best_row_scale as best_row_scale
from loralaw.theory.predict import predict as predict
from loralaw.theory.prediction import BestRowScale as BestRowScale
from loralaw.theory.prediction import Prediction as Prediction
from loralaw.theory.regression import BestRegressionRowScale as BestRegressionRowScale
from loralaw.theory.regression import Regression as Regression
from loralaw.theory.regression import RegressionPrediction as RegressionPrediction
from loralaw.theory.regression import regression as regression
from loralaw.theory.ridge import RidgeSource as RidgeSource
from loralaw.theory.simulate import Scores as Scores
from loralaw.theory.simulate import Simulation as Simulation
from loralaw.theory.simulate import draw_scores as draw_scores
from loralaw.theory.simulate import simulate as simulate
