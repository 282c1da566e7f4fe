"""Robust self-supervised pretraining → finetuning → evaluation → serving for Keras."""

from advss_tf.version import __version__

__all__ = ["__version__"]
