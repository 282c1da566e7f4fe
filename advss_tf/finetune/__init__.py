"""Finetuning: classifiers on top of a handed-over or fresh encoder."""

from advss_tf.finetune.classifier import RobustClassifier

__all__ = ["RobustClassifier"]
