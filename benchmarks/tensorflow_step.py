"""Our training step as a worker (see `workers`), for settings that a process has but once.

Synopsis:

    python -m benchmarks.tensorflow_step small --num-steps 10
"""

from __future__ import annotations

import argparse

from benchmarks.contestants import NETWORKS, ours, steps_of
from benchmarks.pairs import clocked
from benchmarks.workers import serve


def main() -> None:
    """Builds the model, makes two steps that do not count, and serves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--num-steps", type=int, default=10)
    parser.add_argument("--policy", default="float32")
    parser.add_argument("--jit-compile", action="store_true")
    given = parser.parse_args()
    network = NETWORKS[given.network]
    model = ours(network, num_steps=given.num_steps, policy=given.policy, jit_compile=given.jit_compile)
    step = steps_of(model, network)
    step()
    step()
    serve({"weights": sum(int(weight.numpy().size) for weight in model.trainable_weights)}, clocked(step))


if __name__ == "__main__":
    main()
