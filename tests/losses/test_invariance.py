"""SIR and AIR against the paper's sums and against what the authors' code adds up; the first by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.losses import adversarial_invariance, standard_invariance

RNG = np.random.default_rng(2)


def drawn(count, batch=16, features=8):
    return [RNG.normal(size=(batch, features)) for _ in range(count)]


def tensors(arrays):
    return [tf.constant(array, tf.float32) for array in arrays]


def likeness(one, other, temperature):
    """Softmax over the batch of the cosine of each row with its own partner."""
    cosines = np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(one, other, strict=True)])
    scores = np.exp(cosines / temperature)
    return scores / scores.sum()


def equation(one, other):
    return sum(p * np.log(p / q) for p, q in zip(one, other, strict=True))


def code(one, other):
    """A divergence of logarithms, `exp(target) · (target - input)`, whose input is a probability."""
    return sum(np.exp(np.log(q)) * (np.log(q) - p) for p, q in zip(one, other, strict=True))


FORMS = pytest.mark.parametrize(("form", "summed"), [("equation", equation), ("code", code)])


@FORMS
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_the_mean_of_sir_is_the_sum_of_the_paper(form, summed, temperature):
    first, second, original = drawn(3)
    expected = summed(likeness(first, original, temperature), likeness(second, original, temperature))
    found = standard_invariance(*tensors([first, second, original]), temperature=temperature, form=form)
    assert found.shape == (16,) and found.dtype == tf.float32
    assert float(tf.reduce_mean(found)) == pytest.approx(expected, rel=1e-4)


@FORMS
def test_the_mean_of_air_is_the_sum_of_the_paper(form, summed):
    first, second, original, attacked_first, attacked_second = arrays = drawn(5)
    one = likeness(attacked_first, original, 0.5) * likeness(attacked_first, first, 0.5)
    other = likeness(attacked_second, original, 0.5) * likeness(attacked_second, second, 0.5)
    found = adversarial_invariance(*tensors(arrays), form=form)
    assert found.shape == (16,)
    assert float(tf.reduce_mean(found)) == pytest.approx(summed(one, other), rel=1e-4, abs=1e-7)


def test_the_code_s_form_is_near_minus_the_logarithm_of_the_batch():
    """With all likenesses equal, `p = 1/16`: `16 · 1/16 · (log 1/16 - 1/16)`."""
    same = tf.ones((16, 4))
    found = float(tf.reduce_mean(standard_invariance(same, same, same, form="code")))
    assert found == pytest.approx(-np.log(16) - 1 / 16, rel=1e-5)


def test_the_code_s_forms_are_negative_where_the_equations_are_next_to_nothing():
    """As the authors' code gave it: about -2.8 and -0.35, and 0.005 and 0.0006 by the equations.

    The first two are those of 16 images whose likenesses are nearly alike, `-log 16` and `-log(16²) / 16`; the others
    depend on the embeddings, here of independent directions in 1,024 dimensions.
    """
    rng = np.random.default_rng(0)
    arrays = tensors([rng.normal(size=(16, 1024)) for _ in range(5)])
    means = [
        float(tf.reduce_mean(term))
        for form in ("code", "equation")
        for term in (standard_invariance(*arrays[:3], form=form), adversarial_invariance(*arrays, form=form))
    ]
    np.testing.assert_allclose(means[:2], [-2.8, -0.35], atol=0.05)
    np.testing.assert_allclose(means[:2], [-np.log(16) - 1 / 16, -(np.log(256) + 1 / 256) / 16], atol=5e-3)
    np.testing.assert_allclose(means[2:], [0.005, 0.0006], rtol=0.2)


def test_sir_of_two_images_by_hand():
    """At T = 1 likenesses (1, 0) and (0, 1): p = (e, 1) / (e + 1) and its reverse."""
    right, up = [1.0, 0.0], [0.0, 1.0]
    found = standard_invariance(*tensors([[right, right], [up, up], [right, up]]), temperature=1.0)
    e = np.e
    np.testing.assert_allclose(found, [2 * e / (e + 1), -2 / (e + 1)], rtol=1e-5)


def test_views_that_are_equally_near_cost_nothing():
    first, _, original = drawn(3)
    found = standard_invariance(*tensors([first, 3.0 * first, original]))
    np.testing.assert_allclose(found, np.zeros(16), atol=1e-5)
    first, original, attacked = tensors(drawn(3))
    found = adversarial_invariance(first, first, original, attacked, attacked)
    np.testing.assert_array_equal(found, np.zeros(16))


def test_sir_is_positive_where_views_differ():
    for _ in range(10):
        assert float(tf.reduce_mean(standard_invariance(*tensors(drawn(3))))) > 1e-3


def test_the_gradient_of_air_is_that_of_finite_differences():
    arrays = drawn(5, batch=4, features=3)
    moved = tensors(arrays)
    with tf.GradientTape() as tape:
        tape.watch(moved)
        loss = tf.reduce_mean(adversarial_invariance(*moved, temperature=0.3))

    def value(first, second, original, attacked_first, attacked_second):
        one = likeness(attacked_first, original, 0.3) * likeness(attacked_first, first, 0.3)
        return equation(one, likeness(attacked_second, original, 0.3) * likeness(attacked_second, second, 0.3))

    for number, found in enumerate(tape.gradient(loss, moved)):
        for place in np.ndindex(4, 3):
            sides = []
            for by in (1e-5, -1e-5):
                other = [array.copy() for array in arrays]
                other[number][place] += by
                sides.append(value(*other))
            assert float(found[place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-3, abs=1e-5)


def test_half_precision_is_computed_in_float32():
    halves = [tf.cast(array, tf.bfloat16) for array in drawn(3)]
    found = standard_invariance(*halves)
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, standard_invariance(*[tf.cast(half, tf.float32) for half in halves]), rtol=1e-6)


def test_what_does_not_fit_is_refused():
    rows = tf.ones((4, 2))
    with pytest.raises(InvalidInput, match=r"`form` is not known.*'code', 'equation'"):
        standard_invariance(rows, rows, rows, form="paper")
    with pytest.raises(InvalidInput, match="`temperature` is no temperature"):
        adversarial_invariance(rows, rows, rows, rows, rows, temperature=0.0)
    with pytest.raises(InvalidInput, match=r"differ in shape.*'second': \(4, 3\)"):
        standard_invariance(rows, tf.ones((4, 3)), rows)
