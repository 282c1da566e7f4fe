"""Training: the one step of every method, its optimizers, strategies, checkpoints and loop."""

from advss_tf.training.knn import KNNProbe, knn_accuracy
from advss_tf.training.lars import LARS
from advss_tf.training.optimizers import SGD, AdamW, Piecewise, cosine
from advss_tf.training.puzzle import Batch, Puzzle
from advss_tf.training.robust_model import RobustModel

__all__ = [
    "LARS",
    "SGD",
    "AdamW",
    "Batch",
    "KNNProbe",
    "Piecewise",
    "Puzzle",
    "RobustModel",
    "cosine",
    "knn_accuracy",
]
