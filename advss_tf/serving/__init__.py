"""From a trained model to a folder that plain TensorFlow and TensorFlow Serving load."""

from advss_tf.serving.ensemble import export_ensemble
from advss_tf.serving.export import export_classifier, export_encoder
from advss_tf.serving.verify import VerificationFailed, verify_export

__all__ = ["VerificationFailed", "export_classifier", "export_encoder", "export_ensemble", "verify_export"]
