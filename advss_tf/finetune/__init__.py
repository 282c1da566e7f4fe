"""Finetuning: classifiers on top of a handed-over or fresh encoder, and several of them as one."""

from advss_tf.finetune.classifier import RobustClassifier
from advss_tf.finetune.ensemble import RobustEnsemble
from advss_tf.finetune.joint import JointClassifier

__all__ = ["JointClassifier", "RobustClassifier", "RobustEnsemble"]
