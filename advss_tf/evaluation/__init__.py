"""Evaluation: how often a classifier is right, cleanly and under attack, and the record and report of it."""

from advss_tf.evaluation.attacked import read_attacked
from advss_tf.evaluation.callback import RobustEvaluation
from advss_tf.evaluation.cost import Estimate, estimate
from advss_tf.evaluation.distortions.corruption_errors import CorruptionErrors, corruption_errors
from advss_tf.evaluation.distortions.corruption_run import CorruptionProgress
from advss_tf.evaluation.distortions.corruptions import evaluate_corruptions
from advss_tf.evaluation.distortions.unforeseen import evaluate_unforeseen, uar
from advss_tf.evaluation.evaluators import evaluate
from advss_tf.evaluation.models import ModelInfo, load_model_for_evaluation
from advss_tf.evaluation.records.comparison import Comparison, compare
from advss_tf.evaluation.records.distortion_record import DistortionRecord, load_record
from advss_tf.evaluation.records.record import Examples, Record, Result
from advss_tf.evaluation.records.statistics import mcnemar, mean_interval, wilson_interval
from advss_tf.evaluation.report.tables import result_table
from advss_tf.evaluation.report.writer import write_report
from advss_tf.evaluation.run import Progress
from advss_tf.evaluation.traces import Traces

__all__ = [
    "Comparison",
    "CorruptionErrors",
    "CorruptionProgress",
    "DistortionRecord",
    "Estimate",
    "Examples",
    "ModelInfo",
    "Progress",
    "Record",
    "Result",
    "RobustEvaluation",
    "Traces",
    "compare",
    "corruption_errors",
    "estimate",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_unforeseen",
    "load_model_for_evaluation",
    "load_record",
    "mcnemar",
    "mean_interval",
    "read_attacked",
    "result_table",
    "uar",
    "wilson_interval",
    "write_report",
]
