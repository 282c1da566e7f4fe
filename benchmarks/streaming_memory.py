"""Evaluates images that are made as they are read, as a worker (see `workers`), and says how much memory that took.

Synopsis:

    python -m benchmarks.streaming_memory --images 4000          # prints {"peak_mb": …, "images_mb": …}

The model is one linear layer and the attack a single step, so what grows with the number of images is what an
evaluation keeps of them.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path

import tensorflow as tf

import advss_tf as advss

IMAGE_SHAPE = (32, 32, 3)
NUM_CLASSES = 10
BATCH = 250


def stream(count: int) -> tf.data.Dataset:
    """`count` images in [0, 1] with labels, drawn batch by batch whenever they are read; always the same."""

    def drawn(numbers: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        seed = tf.stack([tf.constant(0, tf.int64), numbers[0]])
        return tf.random.stateless_uniform((tf.shape(numbers)[0], *IMAGE_SHAPE), seed), numbers % NUM_CLASSES

    return tf.data.Dataset.range(count).batch(BATCH).map(drawn)


def evaluate_stream(count: int) -> dict[str, float]:
    """Evaluates `count` images, and returns the peak memory of this process beside the size of the images, in MB."""
    weights = tf.random.stateless_normal((int(tf.reduce_prod(IMAGE_SHAPE)), NUM_CLASSES), (0, 0))
    record = advss.evaluate(
        lambda images: tf.reshape(images, (-1, weights.shape[0])) @ weights,
        stream(count),
        attacks=advss.FastGradient(advss.Linf("8/255")),
        batch_size=BATCH,
    )
    size = count * weights.shape[0] * 4 / 1e6
    return {"peak_mb": peak_bytes() / 1e6, "images_mb": size, "images": record.num_images}


def peak_bytes() -> int:
    """The most memory that this process has held, in bytes.

    Linux' `ru_maxrss` would begin with what the process had that started this one; `VmHWM` does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Evaluates, and prints what it took as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, required=True)
    print(json.dumps(evaluate_stream(parser.parse_args().images)), flush=True)


if __name__ == "__main__":
    main()
