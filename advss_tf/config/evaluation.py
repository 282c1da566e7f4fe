"""What a recipe says of measuring: the section `evaluate`, which alone reads the test split.

Synopsis:

    recipe.evaluate.epsilons                              # the radii of the balls, in pixels of [0, 1]
    recipe.evaluate.corruptions                           # a `Corruptions`, or None
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from . import rules
from .parts import Counts, Part, Radii, Rules, Step, Text

Severities = Annotated[tuple[Literal[1, 2, 3, 4, 5], ...], Field(strict=False)]
Distortion = Literal["jpeg_linf", "jpeg_l1", "jpeg_l2", "elastic", "fog", "gabor", "snow"]
Distortions = Annotated[tuple[Distortion, ...], Field(strict=False)]


class Unseen(Part):
    """Balls of another kind than those of the training, attacked with the same numbers of steps."""

    rules: ClassVar[Rules] = (rules.ball_fits_pixels, rules.nothing_twice)
    norm: Literal["linf", "l2"] = Field(description="The norm of the balls.")
    epsilons: Radii = Field(min_length=1, description="Radii of the balls, in pixels of [0, 1].")


class Corruptions(Part):
    """The corruptions of CIFAR-10-C, made on the fly."""

    rules: ClassVar[Rules] = (rules.nothing_twice,)
    severities: Severities = Field(default=(1, 2, 3, 4, 5), min_length=1, description="Severities, of 1 to 5.")
    extra: bool = Field(
        default=False, description="The 4 extra corruptions beside the 15, which are left out of means."
    )
    frost: Text | None = Field(default=None, description="Folder of photographs of frost; null: frost is generated.")
    baseline: Text | None = Field(
        default=None, description="Record file of another model's corruptions, for mCE; null: no mCE."
    )


class Evaluate(Part):
    """What is measured on the test split."""

    rules: ClassVar[Rules] = (rules.ball_fits_pixels, rules.step_fits_the_ball, rules.nothing_twice, rules.unseen_norm)
    norm: Literal["linf", "l2"] = Field(default="linf", description="The norm of the balls.")
    epsilons: Radii = Field(default=(8 / 255,), min_length=1, description="Radii of the balls, in pixels of [0, 1].")
    num_steps: Counts = Field(
        default=(20, 50), min_length=1, description="Steps of the attacks, one attack for each number."
    )
    step_size: Step | None = Field(default=None, description="Step; null: 2.5 * epsilon / num_steps.")
    num_restarts: int = Field(default=1, ge=1, description="Random starts of each attack.")
    autoattack: Literal["standard", "plus", "rand"] | None = Field(
        default=None, description="AutoAttack's version, rand for models that draw random numbers; null: not run."
    )
    unseen: Unseen | None = Field(default=None, description="Balls of the other norm, as a record of their own.")
    corruptions: Corruptions | None = Field(
        default=None, description="Accuracy under corruptions, {} for the defaults."
    )
    unforeseen: Distortions | None = Field(
        default=None,
        min_length=1,
        description="Attacks of Kang et al. 2019 over a distortion's parameters; null: none.",
    )
    batch_size: int = Field(default=256, ge=1, description="Images a batch.")
    limit: int | None = Field(default=None, ge=1, description="Test images used, classes in proportion; null: all.")
