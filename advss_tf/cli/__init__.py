"""The command line: `advss-train`, `advss-evaluate`, `advss-report`, `advss-ensemble`.

Flags are read in this room and nowhere else.

Each command is a module: `flags()` is its parser, `main(args)` what it does; how all of them start and refuse is in
starting.py. TensorFlow is imported after the flags and the recipe have been read, so that `--help` and a mistake answer
at once.
"""

from advss_tf.cli.ensembling import ensemble
from advss_tf.cli.evaluating import evaluate
from advss_tf.cli.reporting import report
from advss_tf.cli.training import train

__all__ = ["ensemble", "evaluate", "report", "train"]
