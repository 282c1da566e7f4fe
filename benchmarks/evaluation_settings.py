"""What the command of the evaluation's benchmark was asked for.

Synopsis:

    settings = EvaluationSettings(rounds=7)
    settings.most(192)                         # 192, or `images` where that was given
"""

from __future__ import annotations

from typing import NamedTuple


class EvaluationSettings(NamedTuple):
    """What the command was asked for.

    Attributes:
        network: "small", or "tiny", which is not trained and only shows that a row runs.
        images: At most so many images in a row; default: what the row says.
        num_steps: Steps of PGD.
        batch: Images a batch of PGD.
        rounds: Rounds of a pair; a first call, and memory, get half of them.
        memory_images: How many images the streams hold whose memory is compared, ascending.
        norms: In which torchattacks takes part.
        torch_python: The Python of an environment with PyTorch and torchattacks, or None.
    """

    network: str = "small"
    images: int | None = None
    num_steps: int = 20
    batch: int = 64
    rounds: int = 5
    memory_images: tuple[int, ...] = (1000, 4000, 16000)
    norms: tuple[str, ...] = ("linf", "l2")
    torch_python: str | None = None

    def most(self, count: int | None) -> int | None:
        """How many images a row takes that would take `count`."""
        return count if self.images is None else self.images
