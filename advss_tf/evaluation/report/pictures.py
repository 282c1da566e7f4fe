"""The images of a report: clean, what the attack added, attacked, each as a PNG with the words that belong to it.

Synopsis:

    for example in example_pictures(record, max_examples=8):
        example.clean.png, example.clean.words, example.attacked.right
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from matplotlib import image as mpl_image

from advss_tf.evaluation.records.record import Record

PERTURBATION_GAIN = 10
_SMALLEST_SIDE = 96


@dataclass(frozen=True)
class Picture:
    """A PNG, a short sentence on it, and whether the model was right on it (None for a perturbation)."""

    png: bytes
    words: str
    right: bool | None

    @property
    def data_uri(self) -> str:
        """The picture as an address that a page can hold instead of a file."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class ExamplePictures:
    """One image before and after the attack."""

    label: str
    clean: Picture
    perturbation: Picture
    attacked: Picture


def example_pictures(record: Record, *, max_examples: int = 8) -> list[ExamplePictures]:
    """The first examples of a record, drawn; empty if it has none."""
    kept = record.examples
    if kept is None:
        return []
    order = np.argsort(kept.labels, kind="stable")[:max_examples]
    return [_example(record, int(row)) for row in order]


def perturbation_image(clean: np.ndarray, attacked: np.ndarray) -> np.ndarray:
    """What was added, (H, W, C), times 10 around middle grey: grey where a pixel was left alone."""
    return np.clip(0.5 + PERTURBATION_GAIN * (attacked - clean), 0, 1)


def png(image: np.ndarray) -> bytes:
    """An (H, W, C) image in [0, 1] as a PNG; small images are enlarged by whole pixels so that no viewer blurs them."""
    channels = image if image.shape[-1] == 3 else np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)
    enlarge = max(1, -(-_SMALLEST_SIDE // min(image.shape[:2])))
    pixels = np.round(channels * 255).astype(np.uint8).repeat(enlarge, axis=0).repeat(enlarge, axis=1)
    file = io.BytesIO()
    mpl_image.imsave(file, pixels, format="png")
    return file.getvalue()


def _example(record: Record, row: int) -> ExamplePictures:
    kept = record.examples
    if kept is None:
        raise LookupError("the record has no examples")
    label = int(kept.labels[row])

    def predicted(image: np.ndarray, prediction: int, confidence: float) -> Picture:
        right = prediction == label
        name = record.class_names[prediction] if prediction >= 0 else "not a number"
        words = f"{'✓' if right else '✗'}\u00a0{name} ({100 * confidence:.0f}\u00a0%)"
        return Picture(png(image), words, right)

    clean, attacked = kept.images[row], kept.attacked[row]
    return ExamplePictures(
        label=record.class_names[label],
        clean=predicted(clean, int(kept.clean_predictions[row]), float(kept.clean_confidences[row])),
        perturbation=Picture(png(perturbation_image(clean, attacked)), f"×{PERTURBATION_GAIN}", None),
        attacked=predicted(attacked, int(kept.attacked_predictions[row]), float(kept.attacked_confidences[row])),
    )
