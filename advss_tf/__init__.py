"""Robust self-supervised pretraining → finetuning → evaluation → serving for Keras and TensorFlow.

Synopsis:

    import advss_tf as advss

    data = advss.load_data("digits")
    encoder = advss.encoders.resnet20(data.image_shape)
    pretext = advss.Rotation(encoder, attack=advss.ProjectedGradientDescent(advss.Linf("8/255")))

The names below are the public door. Each is imported when it is first asked for (PEP 562), so `import advss_tf` costs
nothing and TensorFlow starts with the first name that needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from advss_tf.version import __version__

if TYPE_CHECKING:
    from advss_tf import encoders
    from advss_tf.attacks import (
        L2,
        AutoPGD,
        FastAdaptiveBoundary,
        FastGradient,
        Linf,
        ProjectedGradientDescent,
        SquareAttack,
    )
    from advss_tf.clustering import cluster_features
    from advss_tf.config import load_recipe
    from advss_tf.data import ImageData, PseudoLabels, load_data
    from advss_tf.encoders import load_encoder, norm_branch
    from advss_tf.errors import InvalidInput
    from advss_tf.evaluation import (
        DistortionRecord,
        Record,
        RobustEvaluation,
        evaluate,
        evaluate_corruptions,
        evaluate_unforeseen,
        load_model_for_evaluation,
        load_record,
        write_report,
    )
    from advss_tf.finetune import JointClassifier, RobustClassifier, RobustEnsemble
    from advss_tf.pretext import (
        ACL,
        ACLAIR,
        AdvCL,
        AInfoNCE,
        Annealing,
        Asymmetry,
        DeACL,
        DynACL,
        EnsemblePretraining,
        Jigsaw,
        RoCL,
        Rotation,
        Selfie,
        SimCLR,
    )
    from advss_tf.runner import run
    from advss_tf.serving import export_classifier, export_encoder, export_ensemble, verify_export
    from advss_tf.training import SGD, AdamW, Batch, KNNProbe, Puzzle, RobustModel, knn_accuracy
    from advss_tf.workdir import Workdir

__all__ = [
    "ACL",
    "ACLAIR",
    "L2",
    "SGD",
    "AInfoNCE",
    "AdamW",
    "AdvCL",
    "Annealing",
    "Asymmetry",
    "AutoPGD",
    "Batch",
    "DeACL",
    "DistortionRecord",
    "DynACL",
    "EnsemblePretraining",
    "FastAdaptiveBoundary",
    "FastGradient",
    "ImageData",
    "InvalidInput",
    "Jigsaw",
    "JointClassifier",
    "KNNProbe",
    "Linf",
    "ProjectedGradientDescent",
    "PseudoLabels",
    "Puzzle",
    "Record",
    "RoCL",
    "RobustClassifier",
    "RobustEnsemble",
    "RobustEvaluation",
    "RobustModel",
    "Rotation",
    "Selfie",
    "SimCLR",
    "SquareAttack",
    "Workdir",
    "__version__",
    "cluster_features",
    "encoders",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_unforeseen",
    "export_classifier",
    "export_encoder",
    "export_ensemble",
    "knn_accuracy",
    "load_data",
    "load_encoder",
    "load_model_for_evaluation",
    "load_recipe",
    "load_record",
    "norm_branch",
    "run",
    "verify_export",
    "write_report",
]

# Where each public name lives: the module, and what is taken from it. `encoders` is a module itself.
_NAMES_OF = {
    "attacks": (
        "AutoPGD",
        "FastAdaptiveBoundary",
        "FastGradient",
        "L2",
        "Linf",
        "ProjectedGradientDescent",
        "SquareAttack",
    ),
    "clustering": ("cluster_features",),
    "config": ("load_recipe",),
    "data": ("ImageData", "PseudoLabels", "load_data"),
    "encoders": ("load_encoder", "norm_branch"),
    "errors": ("InvalidInput",),
    "evaluation": (
        "DistortionRecord",
        "Record",
        "RobustEvaluation",
        "evaluate",
        "evaluate_corruptions",
        "evaluate_unforeseen",
        "load_model_for_evaluation",
        "load_record",
        "write_report",
    ),
    "finetune": ("JointClassifier", "RobustClassifier", "RobustEnsemble"),
    "pretext": (
        "ACL",
        "ACLAIR",
        "AInfoNCE",
        "AdvCL",
        "Annealing",
        "Asymmetry",
        "DeACL",
        "DynACL",
        "EnsemblePretraining",
        "Jigsaw",
        "RoCL",
        "Rotation",
        "Selfie",
        "SimCLR",
    ),
    "serving": ("export_classifier", "export_encoder", "export_ensemble", "verify_export"),
    "runner": ("run",),
    "training": ("AdamW", "Batch", "KNNProbe", "Puzzle", "RobustModel", "SGD", "knn_accuracy"),
    "workdir": ("Workdir",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}
# A saved Keras model names its class, and Keras finds only classes whose module has been imported.
_NEEDED_BY = {"load_model_for_evaluation": ("finetune", "pretext")}

# Hidden from type checkers, which read the imports above and so find a misspelt name themselves.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Imports a public name when it is first asked for, and keeps it."""
        if name == "encoders":
            return importlib.import_module("advss_tf.encoders")
        if name not in _MODULE_OF:
            raise AttributeError(_unknown(name))
        for module in _NEEDED_BY.get(name, ()):
            importlib.import_module(f"advss_tf.{module}")
        value = getattr(importlib.import_module(f"advss_tf.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, imported or not, beside what every module has."""
    return sorted({*globals(), *__all__})


def _unknown(name: str) -> str:
    from advss_tf.errors import nearest

    near = nearest(name, __all__)
    hint = f" (did you mean {near!r}?)" if near else ""
    return f"module {__name__!r} has no attribute {name!r}{hint}"
