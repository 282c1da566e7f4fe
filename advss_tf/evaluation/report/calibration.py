"""How far a classifier's confidence is from its accuracy: a reliability diagram's numbers and their summary, the ECE.

Synopsis:

    found = calibration(confidences, predictions == labels)
    found.ece                                  # 0.042: confidence and accuracy are 4.2 points apart
    found.counts, found.accuracies             # of each of the 15 bins; None where a bin is empty

Reference: Guo et al., "On Calibration of Modern Neural Networks", 2017 (arXiv 1706.04599), section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from advss_tf.errors import InvalidInput

NUM_BINS = 15


@dataclass(frozen=True)
class Calibration:
    """The bins of a reliability diagram; bin m of M holds the confidences in ((m-1)/M, m/M].

    Attributes:
        counts: How many images each bin holds.
        accuracies: The fraction of them that is right; None in an empty bin.
        confidences: Their mean confidence; None in an empty bin.
        ece: Expected calibration error, in [0, 1].
    """

    counts: tuple[int, ...]
    accuracies: tuple[float | None, ...]
    confidences: tuple[float | None, ...]
    ece: float

    @property
    def num_images(self) -> int:
        """How many images all bins hold."""
        return sum(self.counts)

    @property
    def accuracy(self) -> float:
        """The fraction of all images that is right."""
        return self._mean(self.accuracies)

    @property
    def confidence(self) -> float:
        """The mean confidence over all images."""
        return self._mean(self.confidences)

    def _mean(self, values: tuple[float | None, ...]) -> float:
        return sum(count * (value or 0.0) for count, value in zip(self.counts, values, strict=True)) / self.num_images


def calibration(confidences: np.ndarray, right: np.ndarray, *, num_bins: int = NUM_BINS) -> Calibration:
    """The reliability diagram and the expected calibration error of some predictions.

    The error is the mean over images of how far a bin's accuracy is from its mean confidence (eq. 3 of the paper):
    the sum over bins of `|B_m| / n * |acc(B_m) - conf(B_m)|`.

    Args:
        confidences: (n,) floats in [0, 1], the probability of each prediction.
        right: (n,) bool, whether the prediction was right.
        num_bins: How many bins of equal width.

    Raises:
        InvalidInput: if there are no images, a confidence is no probability, or the lengths differ.
    """
    confidences, right = np.asarray(confidences), np.asarray(right, bool)
    _check(confidences, right, num_bins)
    # Compared in the confidences' own type: a float32 of 0.2 belongs to the bin that ends at 0.2.
    edges = (np.arange(1, num_bins) / num_bins).astype(confidences.dtype)
    places = np.digitize(confidences, edges, right=True)
    counts = np.bincount(places, minlength=num_bins)
    hits = np.bincount(places, weights=right, minlength=num_bins)
    sums = np.bincount(places, weights=confidences.astype(np.float64), minlength=num_bins)
    return Calibration(
        counts=tuple(counts.tolist()),
        accuracies=_means(hits, counts),
        confidences=_means(sums, counts),
        ece=float(np.abs(hits - sums).sum() / counts.sum()),
    )


def _means(sums: np.ndarray, counts: np.ndarray) -> tuple[float | None, ...]:
    return tuple(float(total / count) if count else None for total, count in zip(sums, counts, strict=True))


def _check(confidences: np.ndarray, right: np.ndarray, num_bins: int) -> None:
    if confidences.ndim != 1 or confidences.shape != right.shape or not len(confidences) or num_bins < 1:
        raise InvalidInput(
            "A calibration is of one confidence and one outcome for each image.",
            expected="two arrays of one length, (n,) with n >= 1, and num_bins >= 1",
            received=f"confidences {confidences.shape}, right {right.shape}, num_bins={num_bins}",
        )
    inside = (confidences >= 0) & (confidences <= 1)
    if not inside.all():
        raise InvalidInput(
            "A confidence is a probability.",
            expected="numbers in [0, 1]",
            received=f"{confidences[~inside][0]} among {len(confidences)}",
        )
