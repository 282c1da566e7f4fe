"""The same training step in PyTorch, as a worker (see `workers`); runs in an environment that has PyTorch alone.

Synopsis:

    python benchmarks/torch_step.py resnet20 --width 16 --batch 64 --channels-last

Nothing is imported but PyTorch and the standard library. The attack's passes are in the form that is fastest there:
inference mode, and no weight asks for a gradient.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time

import torch
from torch import nn
from torch.nn import functional

EPSILON, STEP_SIZE = 8 / 255, 2 / 255
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = {"resnet20": (3, 3, 3), "resnet18": (2, 2, 2, 2)}


class Block(nn.Module):
    """A basic block, as `advss_tf.encoders.resnet` has it."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(filters)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != filters:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Classifier(nn.Module):
    """Pixels in [0, 1] `(batch, 3, size, size)` -> logits `(batch, 10)`."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
        for stage, count in enumerate(STAGES[kind]):
            for number in range(count):
                filters = width * 2**stage
                layers.append(Block(channels, filters, 2 if stage and not number else 1))
                channels = filters
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(channels, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder((images - self.mean) / self.std).mean((2, 3)))


def attacked(
    model: nn.Module, module: Classifier, images: torch.Tensor, labels: torch.Tensor, *, num_steps: int
) -> torch.Tensor:
    """Projected gradient ascent from a random start, in inference mode."""
    module.eval().requires_grad_(False)
    points = (images + torch.empty_like(images).uniform_(-EPSILON, EPSILON)).clamp(0, 1)
    for _ in range(num_steps):
        points.requires_grad_(True)
        loss = functional.cross_entropy(model(points), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, points)
        moved = points.detach() + STEP_SIZE * gradient.sign()
        points = (images + (moved - images).clamp(-EPSILON, EPSILON)).clamp(0, 1)
    module.train().requires_grad_(True)
    return points


def main() -> None:
    """Builds the model, makes two steps that do not count, and runs one for every line it gets."""
    given = _arguments()
    torch.manual_seed(0)
    module = Classifier(given.kind, given.width)
    images = torch.rand(given.batch, 3, given.size, given.size)
    labels = torch.randint(0, 10, (given.batch,))
    if given.channels_last:
        module, images = module.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    model = torch.compile(module) if given.compile else module
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01, momentum=0.9)

    def step() -> float:
        mixed = torch.autocast("cpu", dtype=torch.bfloat16) if given.bfloat16 else contextlib.nullcontext()
        with mixed:
            points = attacked(model, module, images, labels, num_steps=given.num_steps)
            loss = functional.cross_entropy(model(points), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss)

    step()
    step()
    weights = sum(weight.numel() for weight in module.parameters())
    print(json.dumps({"weights": weights, "torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(seconds), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=STAGES)
    for name, default in (("width", 16), ("batch", 64), ("size", 32), ("num-steps", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    for name in ("bfloat16", "channels-last", "compile"):
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
