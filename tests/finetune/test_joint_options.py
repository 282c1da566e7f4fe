"""The options of a joint classifier: defaults, and every refusal."""

from __future__ import annotations

import re

import keras
import pytest

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.finetune.joint_options import MODES, checked_auxiliary, checked_options, place_of
from advss_tf.pretext import ACL, EnsemblePretraining, Jigsaw, RoCL, Rotation, Selfie, SimCLR
from advss_tf.training import RobustModel

GIVEN = {"mode": "sum", "weight": 0.5, "attack_weight": None, "copies": "drawn"}
ATTACK = ProjectedGradientDescent(Linf(0.1))
PAIR = {"tasks": ("rotation", {"kind": "jigsaw", "grid": 2, "num_permutations": 3})}


@pytest.mark.parametrize("mode", MODES)
def test_the_weight_of_the_attack_is_that_of_training_where_the_attack_has_one(mode):
    climbed = {"sum": 0.75, "stronger": 0.75}.get(mode)
    assert checked_options(**{**GIVEN, "mode": mode, "weight": 0.75})["attack_weight"] == climbed


def test_the_two_weights_are_separate():
    options = checked_options(**{**GIVEN, "weight": 0.25, "attack_weight": 2})
    assert options == {
        "mode": "sum", "weight": 0.25, "class_weight": 1.0, "attack_weight": 2.0, "attack_class_weight": 1.0,
        "auxiliary_at": "attacked", "copies": "drawn",
    }  # fmt: skip
    assert checked_options(**{**GIVEN, "weight": 0.25, "attack_weight": 0})["attack_weight"] == 0.0


def test_the_place_is_the_mode_s_own_unless_the_attack_looks_at_both():
    own = {"plain": "plain", "clean": "clean", "attacked": "attacked", "own": "own"}
    for mode in MODES:
        options = checked_options(**{**GIVEN, "mode": mode})
        assert place_of(**options) == own.get(mode, "attacked")
        assert (options["auxiliary_at"] is None) == (options["attack_class_weight"] is None) == (mode in own)
    for mode in ("sum", "stronger"):
        assert place_of(**checked_options(**{**GIVEN, "mode": mode, "auxiliary_at": "clean"})) == "clean"


def test_resolved_options_are_options():
    for mode in MODES:
        options = checked_options(**{**GIVEN, "mode": mode, "class_weight": 2})
        assert checked_options(**options) == options


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "sums"}, "`mode` is not known (did you mean 'sum'?)"),
        ({"copies": "all"}, "`copies` is not known"),
        ({"weight": -0.1}, "`weight` is no weight. Expected: a number >= 0. Received: weight=-0.1"),
        ({"weight": float("nan")}, "`weight` is no weight"),
        ({"attack_weight": -1}, "`attack_weight` is no weight"),
        ({"weight": 0.0, "attack_weight": 2.0}, "The attack would climb the loss of a head that is never trained"),
        ({"attack_weight": float("inf")}, "`attack_weight` is no weight"),
        *(
            ({"mode": mode, name: value}, f"`{name}` means nothing to mode={mode!r}, whose attack climbs no sum")
            for mode in ("plain", "clean", "attacked", "own")
            for name, value in (("attack_weight", 1.0), ("attack_class_weight", 1.0), ("auxiliary_at", "clean"))
        ),
        ({"class_weight": 0}, "`class_weight` is no weight. Expected: a number > 0"),
        ({"class_weight": "1"}, "`class_weight` is no weight"),
        ({"attack_class_weight": -1.0}, "`attack_class_weight` is no weight"),
        ({"auxiliary_at": "own"}, "`auxiliary_at` is not known"),
        ({"attack_weight": 0, "attack_class_weight": 0}, "The attack of mode='sum' has nothing to climb"),
        ({"weight": 0, "attack_class_weight": 0}, "The attack of mode='sum' has nothing to climb"),
        (
            {"mode": "stronger", "attack_weight": 0, "attack_class_weight": 0},
            "The attack of mode='stronger' has nothing to climb",
        ),
        ({"mode": "stronger", "weight": 0}, "would climb the loss of a head that is never trained"),
        ({"copies": "stack", "auxiliary_at": "clean"}, "A stack is attacked as one, and learned as it was attacked"),
        *(({"mode": mode, "copies": "stack"}, "A stack is attacked as one") for mode in ("clean", "own", "stronger")),
    ],
)
def test_an_option_that_is_none_is_refused(changes, words):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        checked_options(**{**GIVEN, **changes})


class Posed(RobustModel):
    """A task that can neither be rendered nor solved by itself."""

    def __init__(self, encoder):
        super().__init__(encoder, loss_weights={"loss": 1.0})
        self.built = True


@pytest.mark.parametrize(
    ("made", "options", "words"),
    [
        (lambda encoder: keras.layers.Dense(3), {}, "`auxiliary` is not a pretext model"),
        (lambda encoder: Rotation(keras.models.clone_model(encoder)), {}, "`auxiliary` is on another encoder"),
        (lambda encoder: Rotation(encoder, attack=ATTACK), {}, "`auxiliary` has an attack"),
        (lambda encoder: Rotation(encoder, eval_attack=ATTACK), {}, "with eval_attack=None"),
        (lambda encoder: Rotation(encoder, clean_weight=0.1), {}, "`auxiliary` has a `clean_weight`, which has no"),
        (
            lambda encoder: Jigsaw(encoder, grid=2, num_permutations=3, identity_share=0.1),
            {"copies": "stack"},
            "Expected: a pretext model with identity_share=0.0. Received: auxiliary: identity_share=0.1",
        ),
        (
            lambda encoder: Jigsaw(encoder, grid=2, num_permutations=3, balanced=False),
            {"copies": "stack"},
            "Expected: a pretext model with balanced=True. Received: auxiliary: balanced=False",
        ),
        (Posed, {"mode": "clean"}, "Expected: a pretext model with ['solve']"),
        (Posed, {}, "Expected: a pretext model with ['solve', 'render']"),
        (
            lambda encoder: Selfie(encoder, num_layers=1, num_heads=1),
            {"copies": "stack"},
            "Expected: a pretext model with ['head', 'num_answers']",
        ),
        (SimCLR, {"copies": "stack"}, "Expected: a pretext model with ['head', 'num_answers']"),
        *(
            (
                lambda encoder, method=method: method(encoder, attack=ATTACK),
                {"mode": mode},
                "`auxiliary` is an attack on views by definition, and beside the classes one attack moves both heads. "
                "Expected: a pretext model without one, such as SimCLR(encoder); or pretrain with it, and start from "
                f"its encoder. Received: auxiliary: a {method.__name__}",
            )
            for method in (ACL, RoCL)
            for mode in ("sum", "plain")
        ),
        (lambda encoder: EnsemblePretraining(encoder, attack=ATTACK, **PAIR), {}, "`auxiliary` has an attack"),
        (
            lambda encoder: EnsemblePretraining(encoder, diversity_weight=0.5, **PAIR),
            {},
            "`auxiliary` has a `diversity_weight`, which is of an attack of its own",
        ),
        (
            lambda encoder: EnsemblePretraining(
                encoder, tasks=({"kind": "rotation", "clean_weight": 0.1}, *PAIR["tasks"][1:])
            ),
            {},
            "`auxiliary` has a `clean_weight`, which has no meaning beside the classes",
        ),
        (
            lambda encoder: SimCLR(encoder, views=("strong", "high_frequency")),
            {"mode": "own"},
            "`auxiliary` has a view of high frequencies, which are no pixels, and mode='own' attacks the views",
        ),
    ],
)
def test_a_pretext_model_that_cannot_stand_beside_the_classes_is_refused(made, options, words, tiny_encoder):
    with pytest.raises(InvalidInput, match=re.escape(words)):
        checked_auxiliary(made(tiny_encoder), tiny_encoder, **{"mode": "sum", "copies": "drawn", **options})


def test_a_task_that_reads_frozen_layers_alone_is_refused(tiny_encoder):
    rotation = Rotation(tiny_encoder)
    checked_auxiliary(rotation, tiny_encoder, mode="sum", copies="drawn")
    tiny_encoder.trainable = False
    with pytest.raises(InvalidInput, match="would teach the encoder nothing"):
        checked_auxiliary(rotation, tiny_encoder, mode="sum", copies="drawn")


@pytest.mark.parametrize(("shared", "taught"), [("trunk", False), ("encoder", True)])
def test_an_ensemble_teaches_what_its_tasks_share(shared, taught, tiny_encoder):
    for name in ("stem_conv", "stem_norm", "stage1_conv", "stage1_norm"):
        tiny_encoder.get_layer(name).trainable = False
    boundary = {"boundary": "stage1"} if shared == "trunk" else {}
    task = EnsemblePretraining(tiny_encoder, shared=shared, **boundary, **PAIR)
    if taught:
        checked_auxiliary(task, tiny_encoder, mode="sum", copies="drawn")
        return
    with pytest.raises(InvalidInput, match="would teach the encoder nothing"):
        checked_auxiliary(task, tiny_encoder, mode="sum", copies="drawn")


@pytest.mark.parametrize("mode", ["attacked", "sum", "stronger", "clean"])
def test_high_frequencies_of_attacked_images_are_views_like_others(mode, tiny_encoder):
    simclr = SimCLR(tiny_encoder, views=("strong", "high_frequency"))
    checked_auxiliary(simclr, tiny_encoder, mode=mode, copies="drawn")


def test_a_mode_without_the_task_asks_nothing_of_it(tiny_encoder):
    checked_auxiliary(Posed(tiny_encoder), tiny_encoder, mode="plain", copies="drawn")
