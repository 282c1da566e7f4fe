"""A-InfoNCE's options: how an attacked view differs from a clean one in the contrastive loss.

Synopsis:

    Asymmetry(clean_share=0.2).options(4, adversarial=(0,))      # what `nt_xent` takes: weights, held, hard_negatives

Reference: Yu et al., "Adversarial Contrastive Learning via Asymmetric InfoNCE", ECCV 2022 (arXiv 2207.08374). The share
stays as it is given; the authors' code can also let it change from some epoch on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from advss_tf.errors import InvalidInput
from advss_tf.losses.asymmetric import HardNegatives, inferior_positives


@dataclass(frozen=True)
class Asymmetry:
    """Attacked views as inferior positives, as hard negatives, or both.

    Args:
        clean_share: The part of a clean-attacked pair's weight with which the clean view is drawn to the attacked
            one, in [0, 1]; ½ holds the other side but weighs both alike. None: such pairs are like any other.
        pair_weight: What these pairs are multiplied by, >= 0.
        beta: Negatives weigh `exp(beta · similarity / temperature)`, >= 0; None weighs all alike.
        tau_plus: The probability that a negative is of the anchor's class, in [0, 1); for `beta` alone.

    Raises:
        InvalidInput: if a number is out of its range, or nothing is asymmetric.
    """

    clean_share: float | None = 0.2
    pair_weight: float = 1.0
    beta: float | None = 1.0
    tau_plus: float = 0.1

    def __post_init__(self) -> None:
        if self.clean_share is None and self.beta is None:
            raise InvalidInput(
                "Nothing is asymmetric.", expected="a `clean_share`, a `beta`, or both", received="None for both"
            )
        if self.clean_share is None and self.pair_weight != 1.0:
            raise InvalidInput(
                "`pair_weight` weighs inferior positives.",
                expected="a `clean_share` beside it",
                received=f"pair_weight={self.pair_weight}, clean_share=None",
            )
        for name, value, inside in (
            ("clean_share", self.clean_share, lambda x: 0 <= x <= 1),
            ("pair_weight", self.pair_weight, lambda x: 0 <= x < float("inf")),
            ("beta", self.beta, lambda x: 0 <= x < float("inf")),
            ("tau_plus", self.tau_plus, lambda x: 0 <= x < 1),
        ):
            if value is not None and not inside(value):
                raise InvalidInput(f"`{name}` is out of range.", expected=_RANGES[name], received=f"{name}={value}")

    def options(self, views: int, *, adversarial: Sequence[int]) -> dict[str, Any]:
        """The keyword arguments of `nt_xent` for `views` views, of which `adversarial` are the attacked ones."""
        found: dict[str, Any] = {}
        if self.clean_share is not None:
            found["weights"], found["held"] = inferior_positives(
                views, adversarial=adversarial, share=self.clean_share, weight=self.pair_weight
            )
        if self.beta is not None:
            found["hard_negatives"] = HardNegatives(self.beta, self.tau_plus)
        return found

    @property
    def matrices(self) -> int:
        """How many matrices of similarities a step keeps beside those of the symmetric loss; measured, rounded up.

        What is held in some pairs alone has its similarities computed twice; hard negatives add weights of them.
        """
        return 2 * (self.clean_share is not None) + 2 * (self.beta is not None)

    def as_dict(self) -> dict[str, Any]:
        """The arguments, as JSON."""
        return asdict(self)


_RANGES = {
    "clean_share": "a number in [0, 1], or None",
    "pair_weight": "a finite number >= 0",
    "beta": "a finite number >= 0, or None",
    "tau_plus": "a number in [0, 1)",
}
