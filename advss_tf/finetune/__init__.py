"""Finetuning: classifiers on top of a handed-over or fresh encoder."""

from advss_tf.finetune.classifier import RobustClassifier
from advss_tf.finetune.joint import JointClassifier

__all__ = ["JointClassifier", "RobustClassifier"]
