"""A batch in parts makes the step of the whole, where the images do not see each other, and is refused elsewhere."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.finetune import RobustClassifier
from advss_tf.pretext import ACL, DeACL
from advss_tf.training.micro_batches import check_exact
from advss_tf.training.strategy import get_strategy

# Without a random start no part draws anything.
ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=2, random_start=False)


def _trained(
    encoder, parts, images, labels, *, strategy=None, weights=None, jit_compile=False, train="full", norm=None
):
    with (strategy or tf.distribute.get_strategy()).scope():
        model = RobustClassifier(encoder(), 3, attack=ATTACK, train=train)
        model.compile(optimizer=keras.optimizers.SGD(1.0), jit_compile=jit_compile)
    model.micro_batches, model.micro_batch_norm = parts, norm
    given = (images, labels) if weights is None else (images, labels, weights)
    history = model.fit(tf.data.Dataset.from_tensors(given).repeat(2), verbose=0).history
    return model.get_weights(), history


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_the_step_is_that_of_the_whole_batch(parts, two_stages, tiny_images, tiny_labels):
    whole, split = (_trained(two_stages, count, tiny_images, tiny_labels) for count in (1, parts))
    assert (
        max(np.abs(one - other).max() for one, other in zip(whole[0], two_stages().get_weights(), strict=False)) > 0.1
    )
    for one, other in zip(whole[0], split[0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert whole[1].keys() == split[1].keys()
    for name in whole[1]:
        np.testing.assert_allclose(whole[1][name], split[1][name], rtol=1e-4, err_msg=name)


def _penalised(two_stages):
    encoder = two_stages()
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.Conv2D):
            layer.kernel.regularizer = keras.regularizers.L2(0.05)
    return encoder


def test_penalties_of_weights_count_once_however_many_parts(two_stages, tiny_images, tiny_labels):
    whole, split = (_trained(lambda: _penalised(two_stages), n, tiny_images, tiny_labels) for n in (1, 4))
    free = _trained(two_stages, 1, tiny_images, tiny_labels)
    assert max(np.abs(one - other).max() for one, other in zip(whole[0], free[0], strict=True)) > 0.01
    for one, other in zip(whole[0], split[0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def _norm(**options):
    return keras.layers.BatchNormalization(momentum=0.5, **options)


def test_weights_of_examples_are_kept_and_frozen_batch_norm_is_exact(two_stages, tiny_images, tiny_labels):
    weights = np.linspace(0.0, 2.0, 8, dtype=np.float32)
    found = [
        _trained(lambda: two_stages(_norm), count, tiny_images, tiny_labels, weights=weights, train="linear")
        for count in (1, 4)
    ]
    for one, other in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_two_replicas_split_their_shares(two_stages, tiny_images, tiny_labels):
    one = _trained(two_stages, 1, tiny_images, tiny_labels)
    two = _trained(two_stages, 2, tiny_images, tiny_labels, strategy=get_strategy("mirrored"))
    for ours, theirs in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_batch_norm_that_is_trained_is_refused_unless_it_may_be_of_the_part(two_stages, tiny_images, tiny_labels):
    def trained(parts, **options):
        return _trained(lambda: two_stages(_norm), parts, tiny_images, tiny_labels, **options)[0]

    for train in ("full", "partial"):
        with pytest.raises(InvalidInput, match=r"normalise each part.*micro_batch_norm='per_part'.*micro_batches=4, "):
            trained(4, train=train)
    weights, alone = trained(4, norm="per_part"), trained(1)
    assert all(np.isfinite(weight).all() for weight in weights)
    difference = max(np.abs(one - other).max() for one, other in zip(weights, alone, strict=True))
    assert difference > 1e-3, "running statistics have moved once a part"


def test_a_student_with_batch_norm_is_refused_and_its_teacher_may_have_it(two_stages):
    for norm, refused in ((_norm, True), (None, False)):
        student, teacher = two_stages(norm), two_stages(_norm)
        model = DeACL(student, teacher=teacher, attack=ATTACK, start="own")
        model.micro_batches = 2
        if refused:
            with pytest.raises(InvalidInput, match=r"DeACL has batch norms.*2 batch norms such as 'stage1_norm'"):
                check_exact(model)
        else:
            check_exact(model)


def test_what_cannot_be_split_is_refused(two_stages, tiny_images, tiny_labels):
    with pytest.raises(InvalidInput, match="compares the images"):
        ACL(two_stages(), attack=ATTACK).micro_batches = 2
    model = RobustClassifier(two_stages(), 3, attack=ATTACK)
    with pytest.raises(InvalidInput, match=r"`micro_batch_norm` is not known.*per_part.*whole"):
        model.micro_batch_norm = "whole"
    for count in (0, 1.5, True):
        with pytest.raises(InvalidInput, match="no count"):
            model.micro_batches = count
    with pytest.raises(InvalidInput, match="shared evenly"):
        _trained(two_stages, 3, tiny_images, tiny_labels)
