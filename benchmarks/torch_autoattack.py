"""torchattacks' four attacks of AutoAttack in PyTorch, as a worker (see `workers`) that says what it found and ends.

Synopsis:

    python benchmarks/torch_autoattack.py subject.npz --norm linf --epsilon 0.15

The file holds the weights of `attacked_models.digits_cnn`, the images `(n, h, w, c)` and their labels. Nothing is
imported but NumPy, PyTorch and torchattacks. Each attack sees the images that the ones before it left robust.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable
from importlib import metadata

import numpy as np
import torch
from torch import nn
from torchattacks.attacks.apgd import APGD
from torchattacks.attacks.apgdt import APGDT
from torchattacks.attacks.fab import FAB
from torchattacks.attacks.square import Square

NORMS = {"linf": "Linf", "l2": "L2"}
NUM_CLASSES = 10


class Convolutions(nn.Module):
    """Two convolutions and a linear layer: pixels `(n, c, h, w)` to logits `(n, 10)`."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        super().__init__()
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        self.convolutions = nn.ModuleList()
        for number in (1, 2):
            kernel = tensors[f"kernel{number}"].permute(3, 2, 0, 1)
            layer = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding="same")
            layer.weight = nn.Parameter(kernel.contiguous())
            layer.bias = nn.Parameter(tensors[f"bias{number}"])
            self.convolutions.append(layer)
        self.linear = nn.Linear(*tensors["kernel3"].shape)
        self.linear.weight = nn.Parameter(tensors["kernel3"].T.contiguous())
        self.linear.bias = nn.Parameter(tensors["bias3"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        for layer in self.convolutions:
            images = torch.relu(layer(images))
        # Keras flattens with the channels last.
        return self.linear(images.permute(0, 2, 3, 1).flatten(1))


def attacks(model: nn.Module, norm: str, epsilon: float) -> dict[str, Callable[..., torch.Tensor]]:
    """The four in the order and with the settings of the standard AutoAttack."""
    shared = {"norm": NORMS[norm], "eps": epsilon, "n_restarts": 1, "seed": 0}
    apgd = {"steps": 100, "eot_iter": 1, "rho": 0.75, **shared}
    return {
        "apgd-ce": APGD(model, loss="ce", **apgd),
        "apgd-t": APGDT(model, n_classes=NUM_CLASSES, **apgd),
        "fab-t": FAB(model, steps=100, multi_targeted=True, n_classes=NUM_CLASSES, **shared),
        "square": Square(model, n_queries=5000, **shared),
    }


def still_right(
    model: nn.Module, attacked: torch.Tensor, images: torch.Tensor, labels: torch.Tensor, *, norm: str, epsilon: float
) -> torch.Tensor:
    """Whether the model is right after an attack; an image that left its ball is not fooled."""
    moved = (attacked - images).flatten(1)
    inside = torch.linalg.vector_norm(moved, ord=float("inf") if norm == "linf" else 2, dim=1) <= epsilon * (1 + 1e-4)
    with torch.no_grad():
        return (model(attacked).argmax(1) == labels) | ~inside


def main() -> None:
    """Runs the attacks, and prints as one JSON line what each left and took, and the verdict on every image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject")
    parser.add_argument("--norm", choices=NORMS, required=True)
    parser.add_argument("--epsilon", type=float, required=True)
    given = parser.parse_args()
    with np.load(given.subject) as file:
        arrays = dict(file)
    images = torch.tensor(arrays.pop("images")).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(arrays.pop("labels"))
    model = Convolutions(arrays).eval()
    wall, cpu = time.perf_counter(), time.process_time()
    robust = model(images).argmax(1) == labels
    counts, seconds = {"clean": int(robust.sum())}, {}
    for name, attack in attacks(model, given.norm, given.epsilon).items():
        rows, begun = torch.where(robust)[0], time.perf_counter()
        with contextlib.redirect_stdout(sys.stderr):
            attacked = attack(images[rows], labels[rows])
        robust[rows] = still_right(model, attacked, images[rows], labels[rows], norm=given.norm, epsilon=given.epsilon)
        counts[name], seconds[name] = int(robust.sum()), time.perf_counter() - begun
    taken = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    versions = {"torch": torch.__version__, "torchattacks": metadata.version("torchattacks")}
    outcome = {"robust": counts, "seconds": seconds, "verdicts": robust.tolist(), "taken": taken, "versions": versions}
    print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
