"""What every attack keeps: its config, its threat, and the passes that it says it costs."""

from __future__ import annotations

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import (
    L2,
    Attack,
    AutoPGD,
    FastAdaptiveBoundary,
    FastGradient,
    Judged,
    Linf,
    ProjectedGradientDescent,
    SquareAttack,
    Threat,
)
from advss_tf.errors import InvalidInput
from advss_tf.randomness import seed_for

SEED = seed_for(0, 0, "attack")
ATTACKS = [
    ProjectedGradientDescent(L2(0.5), num_steps=3, step_size=0.1, num_restarts=2, keep="best", batch_norm="training"),
    FastGradient(Linf("8/255"), random_start=True, batch_norm="training"),
    AutoPGD(L2(0.5), num_steps=7, num_restarts=2, rho=0.5, eot_samples=3),
    FastAdaptiveBoundary(L2(0.5), num_steps=7, num_restarts=2, alpha_max=0.2, overshoot=1.1, backward=0.8),
    SquareAttack(L2(0.5), num_queries=70, p_init=0.3, num_restarts=2),
]
EACH_ATTACK = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)


# Configs --------------------------------------------------------------------------------------------------------------


@EACH_ATTACK
def test_the_arguments_are_the_attributes_are_the_keys_of_the_config(attack):
    names = list(inspect.signature(type(attack)).parameters)
    config = attack.get_config()
    assert list(config) == names
    assert config["threat"] == {"norm": attack.threat.norm, "epsilon": attack.threat.epsilon}
    assert all(config[name] == getattr(attack, name) for name in names if name != "threat")


@EACH_ATTACK
def test_an_attack_comes_back_from_its_config(attack):
    config = attack.get_config()
    copy = type(attack).from_config(config)
    assert type(copy) is type(attack) and type(copy.threat) is type(attack.threat)
    assert copy.get_config() == attack.get_config() == config and repr(copy) == repr(attack)


@EACH_ATTACK
def test_keras_saves_an_attack_under_the_name_of_the_package(attack):
    saved = keras.saving.serialize_keras_object(attack)
    assert saved["registered_name"] == f"advss_tf>{type(attack).__name__}"
    assert repr(keras.saving.deserialize_keras_object(saved)) == repr(attack)


def test_the_format_of_a_config_stays_what_it_is():
    """Written out, so that a change is seen: recipes and saved models hold it."""
    pgd = {
        "threat": {"norm": "l2", "epsilon": 0.5}, "num_steps": 3, "step_size": 0.1, "random_start": True,
        "num_restarts": 2, "keep": "best", "batch_norm": "training",
    }  # fmt: skip
    fast = {"threat": {"norm": "linf", "epsilon": 8 / 255}, "random_start": True, "batch_norm": "training"}
    for attack, config in zip(ATTACKS, (pgd, fast), strict=False):
        assert attack.get_config() == config
        assert type(attack).from_config(config).get_config() == config
    assert repr(ATTACKS[1]) == "FastGradient(threat=Linf(epsilon=0.0313725), random_start=True, batch_norm='training')"


class _Ascent(Attack):
    norms = ("linf",)


def test_a_norm_that_an_attack_does_not_know_is_refused():
    assert _Ascent(Linf(0.1)).threat.epsilon == 0.1
    for threat in (L2(0.5), "linf"):
        with pytest.raises(InvalidInput, match=r"`norm` is not known.*one of \['linf'\]"):
            _Ascent(threat)


def test_an_attack_may_leave_the_norm_open():
    class Odd(Threat):
        norm = "l1"

    assert ProjectedGradientDescent(Odd(0.1)).threat.norm == "l1"


def test_an_attack_without_passes_says_so():
    with pytest.raises(TypeError, match="_Ascent does not say its passes"):
        _Ascent(Linf(0.1)).passes()


# Passes ---------------------------------------------------------------------------------------------------------------


class Counted:
    """Three logits of an image, of which the first is far above the others; passes are counted as the graph runs."""

    def __init__(self):
        self.forward, self.backward = (tf.Variable(0, trainable=False) for _ in range(2))
        self.weights = np.random.default_rng(0).normal(size=(192, 3)).astype(np.float32)

    def logits(self, inputs):
        @tf.custom_gradient
        def counted(images):
            def gradient(upstream):
                self.backward.assign_add(1)
                return upstream

            return tf.identity(images), gradient

        self.forward.assign_add(1)
        flat = tf.reshape(counted(inputs["images"]), (-1, 192))
        return flat @ self.weights + [1000.0, 0.0, 0.0]

    def passes(self, attack, goal, images, **options):
        """What one compiled call costs: (forward, backward)."""
        tf.function(lambda images: attack(goal, {"images": images}, SEED, **options))(images)
        return int(self.forward), int(self.backward)


@pytest.fixture
def counted():
    return Counted()


def rivals(counted, columns):
    """The last `columns` logits minus the first."""

    def differences(inputs):
        logits = counted.logits(inputs)
        return logits[:, -columns:] - logits[:, :1]

    return differences


@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.5)], ids=repr)
@pytest.mark.parametrize(
    ("kind", "options", "passes"),
    [
        (ProjectedGradientDescent, {"num_steps": 4}, (4, 4)),
        (ProjectedGradientDescent, {"num_steps": 4, "keep": "best"}, (5, 4)),
        (FastGradient, {}, (1, 1)),
        (AutoPGD, {"num_steps": 6}, (7, 7)),
        (AutoPGD, {"num_steps": 2, "eot_samples": 5}, (15, 15)),
    ],
)
def test_an_ascent_costs_what_it_says(threat, kind, options, passes, counted, tiny_images):
    attack = kind(threat, **options)
    assert attack.passes() == passes
    assert counted.passes(attack, lambda inputs: counted.logits(inputs)[:, 1], tiny_images) == passes


@pytest.mark.parametrize("own_verdict", [False, True])
@pytest.mark.parametrize("columns", [1, 2])
def test_the_boundary_attack_costs_two_forward_passes_a_step_and_one_backward_a_column(
    columns, own_verdict, counted, tiny_images
):
    attack = FastAdaptiveBoundary(Linf(0.1), num_steps=5)
    assert attack.passes() == (11, 5)
    fooled = {"fooled": lambda inputs: tf.argmax(counted.logits(inputs), 1) != 0} if own_verdict else {}
    assert counted.passes(attack, rivals(counted, columns), tiny_images, **fooled) == (11, 5 * columns)


def test_the_square_attack_costs_a_forward_pass_a_query_and_two_more(counted, tiny_images):
    attack = SquareAttack(Linf(0.1), num_queries=20)
    assert attack.passes() == (22, 0)
    never = lambda inputs: counted.logits(inputs)[:, 1] - 1000.0  # noqa: E731
    assert counted.passes(attack, never, tiny_images) == (22, 0)


@pytest.mark.parametrize(
    ("attack", "looks_once"),
    [
        (ProjectedGradientDescent(Linf(0.1), num_steps=4, num_restarts=3), 0),
        (AutoPGD(Linf(0.1), num_steps=4, num_restarts=3), 0),
        (SquareAttack(Linf(0.1), num_queries=4, num_restarts=3), 1),
    ],
    ids=repr,
)
def test_every_start_costs_a_run_but_for_the_look_at_the_image(attack, looks_once, counted, tiny_images):
    never = lambda inputs: counted.logits(inputs)[:, 1] - 1000.0  # noqa: E731
    forward, backward = attack.passes()
    assert counted.passes(attack, never, tiny_images) == (3 * forward - 2 * looks_once, 3 * backward)


def test_restarts_of_the_boundary_attack_cost_a_run_each_but_for_the_look_at_the_image(counted, tiny_images):
    attack = FastAdaptiveBoundary(L2(0.5), num_steps=4, num_restarts=3)
    forward, backward = attack.passes()
    assert counted.passes(attack, rivals(counted, 1), tiny_images) == (3 * forward - 2, 3 * backward)


def test_the_passes_are_a_bound_where_all_images_are_fooled_at_once(counted, tiny_images):
    """Auto-PGD looks at its start; Square looks at the images and, before it sees that none is left, at its start."""

    def won(inputs):
        values = counted.logits(inputs)[:, 0]
        return Judged(values, tf.ones_like(values, tf.bool))

    assert counted.passes(AutoPGD(Linf(0.1)), won, tiny_images) == (1, 1)
    counted.forward.assign(0)
    square = SquareAttack(Linf(0.1))
    assert counted.passes(square, lambda inputs: counted.logits(inputs)[:, 0], tiny_images)[0] == 2
    assert square.passes() == (5002, 0)
