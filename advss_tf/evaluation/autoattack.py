"""AutoAttack: the field's standard ensemble, as attempts that each go on with what the last one left robust.

Synopsis:

    attempts = autoattack("standard", Linf("8/255"), num_classes=10)
    [attempt.name for attempt in attempts]            # apgd-ce, apgd-t, fab-t, square

Versions and parameters are those of the published code (`fra31/auto-attack`), so a robust accuracy can stand beside
RobustBench's. With fewer than four classes the published code fails: here the margin takes the place of the
difference-of-logits ratio, which needs three classes, and four where it is targeted.

Reference: Croce and Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", 2020 (arXiv 2003.01690).
"""

from __future__ import annotations

from collections.abc import Sequence

from advss_tf.attacks import AutoPGD, FastAdaptiveBoundary, Threat
from advss_tf.errors import InvalidInput, one_of
from advss_tf.evaluation.attempts import Attempt, square_attempt

AUTOATTACK = "autoattack"
VERSIONS: dict[str, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}
MEMBERS = ("apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square")
_MOST_TARGETS, _EOT_SAMPLES = 9, 20


def autoattack(
    version: str, threat: Threat, *, num_classes: int, members: Sequence[str] | None = None
) -> tuple[Attempt, ...]:
    """The attempts of a version, in the order in which they run.

    Args:
        version: "standard", "plus" (more attacks and restarts), "rand" (for models that draw random numbers: gradients
            are averaged over 20 draws) or "custom".
        threat: The ball.
        num_classes: Number of classes; a targeted attack heads for each of the others, nine at most.
        members: For "custom": which attacks, of apgd-ce, apgd-dlr, apgd-t, fab, fab-t and square.

    Raises:
        InvalidInput: if a word is not known, or `members` do not go with the version.
    """
    one_of("version", version, (*VERSIONS, "custom"))
    if (members is None) == (version == "custom") or (members is not None and not members):
        raise InvalidInput(
            "`members` names the attacks of the version 'custom', and of no other.",
            expected=f"version='custom' with members out of {list(MEMBERS)}, or another version without members",
            received=f"version={version!r}, members={members!r}",
        )
    restarts = 5 if version == "plus" else 1
    samples = _EOT_SAMPLES if version == "rand" else 1
    names = VERSIONS[version] if members is None else [one_of("members", name, MEMBERS) for name in members]
    return tuple(_member(name, threat, num_classes, restarts=restarts, samples=samples) for name in names)


def _member(name: str, threat: Threat, num_classes: int, *, restarts: int, samples: int) -> Attempt:
    targets = min(_MOST_TARGETS, num_classes - 1)
    if name in ("apgd-ce", "apgd-dlr"):
        ratio = "dlr" if num_classes > 2 else "margin_judged"
        objective = "cross_entropy_judged" if name == "apgd-ce" else ratio
        return Attempt(name, AutoPGD(threat, eot_samples=samples), restarts, objective, AUTOATTACK)
    if name == "apgd-t":
        objective = "targeted_dlr" if num_classes > 3 else "targeted_margin"
        return Attempt(name, AutoPGD(threat, eot_samples=samples), targets, objective, AUTOATTACK)
    if name == "square":
        return square_attempt(threat, chain=AUTOATTACK)
    # Its restarts stay inside: the later ones start where the earlier ones have found a boundary.
    fab = FastAdaptiveBoundary(threat, num_restarts=restarts)
    objective, runs = ("targeted_difference", targets) if name == "fab-t" else ("differences", 1)
    return Attempt(name, fab, runs, objective, AUTOATTACK)
