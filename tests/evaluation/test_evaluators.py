"""Robust accuracy against what can be worked out by hand, and against a plain loop in NumPy."""

from __future__ import annotations

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.errors import InvalidInput
from advss_tf.evaluation import evaluate, read_attacked
from advss_tf.evaluation.compiled import CompiledAttempt
from advss_tf.evaluation.flags import result_flags
from advss_tf.evaluation.records.record import Result
from advss_tf.randomness import batch_uniform, fold, seed_each, seed_for
from advss_tf.training.strategy import get_strategy


class Noise:
    """An attack that only draws: every pixel moves up or down by epsilon."""

    threat = Linf(0.1)

    def __call__(self, climb, inputs, seed, *, epsilon=None):
        images = inputs["images"]
        signs = tf.sign(batch_uniform(seed, images.shape, -1.0, 1.0))
        return {"images": tf.clip_by_value(images + epsilon * signs, 0.0, 1.0)}


def counts(record) -> dict[tuple[str, float], int]:
    return {(row.attack, row.eps): row.correct for row in record.results}


@pytest.mark.parametrize("norm,order,epsilons", [("linf", np.inf, (0.01, 0.03, 0.06)), ("l2", 2, (0.05, 0.1, 0.2))])
def test_a_linear_classifier_has_the_accuracy_worked_out_by_hand(linear, norm, order, epsilons):
    record = evaluate(
        linear,
        (linear.images, linear.labels),
        suite="standard",
        norm=norm,
        epsilons=epsilons,
        num_steps=(8, 16),
        step_size=epsilons[-1],  # cut to each radius: in an L2 ball the angle that is left halves with every such step
        batch_size=16,
    )
    assert record.result("clean").correct == (linear.margins > 0).sum()
    expected = [int(linear.robust(epsilon, order).sum()) for epsilon in epsilons]
    assert len(set(expected)) == 3, "the epsilons should tell the images apart"
    for attack in ("pgd-8", "pgd-16", "worst"):
        assert [record.result(attack, eps=epsilon).correct for epsilon in epsilons] == expected
    assert {row.total for row in record.results} == {50}


def test_the_counts_do_not_depend_on_how_the_images_are_batched(linear):
    found = [
        counts(evaluate(linear, (linear.images, linear.labels), num_steps=5, epsilons=0.03, batch_size=size))
        for size in (7, 50)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("size", [16, 50])
def test_survivors_are_those_of_a_plain_loop_over_restarts(linear, size):
    """Every restart draws from (seed, attack, restart, number of the image), and one failure is enough."""
    restarts, epsilon, seed = 3, 0.1, 5
    record = evaluate(
        linear,
        (linear.images, linear.labels),
        attacks={"noise": Noise()},
        epsilons=epsilon,
        num_restarts=restarts,
        batch_size=size,
        seed=seed,
    )
    robust, survivors_of_first = linear.margins > 0, 0
    for restart in range(restarts):
        draws = seed_each(fold(seed_for(seed, 0, "evaluate noise"), restart), tf.range(50))
        signs = np.sign([tf.random.stateless_uniform((4, 4, 1), draw, -1.0, 1.0, alg="philox") for draw in draws])
        attacked = np.clip(linear.images + epsilon * signs, 0, 1)
        robust &= linear(attacked).numpy().argmax(axis=1) == linear.labels
        survivors_of_first += int(robust.sum()) if restart == 0 else 0
    assert record.result("noise").correct == robust.sum()
    assert robust.sum() < survivors_of_first, "the restarts should matter"
    np.testing.assert_array_equal(record.examples.outcome_robust, robust)


def test_the_worst_case_is_over_attacks_image_by_image(linear):
    attacks = {"first": Noise(), "second": Noise()}
    record = evaluate(linear, (linear.images, linear.labels), attacks=attacks, epsilons=0.1)
    assert record.result("worst").correct < min(record.result(name).correct for name in attacks)


def test_the_same_seed_gives_the_same_record_and_another_seed_another(linear):
    def run(seed):
        return evaluate(linear, (linear.images, linear.labels), attacks={"noise": Noise()}, epsilons=0.1, seed=seed)

    first, second, other = run(3), run(3), run(4)
    assert counts(first) == counts(second)
    assert first.examples == second.examples
    assert not np.array_equal(first.examples.attacked, other.examples.attacked)


def test_an_attack_is_traced_once_however_many_epsilons_and_batches_there_are(linear):
    def calls(epsilons, batch_size):
        made = []

        def model(images):
            made.append(images)
            return linear(images)

        evaluate(model, (linear.images, linear.labels), num_steps=5, epsilons=epsilons, batch_size=batch_size)
        return len(made)

    assert calls((0.01, 0.02, 0.03), 7) == calls((0.01,), 50)


def test_passes_are_counted_where_they_happen(linear):
    """An image that is wrong cleanly, or that the first restart has fooled, is not attacked again."""
    record = evaluate(linear, (linear.images, linear.labels), num_steps=6, epsilons=0.01, num_restarts=2, batch_size=30)
    row, share = record.result("pgd-6", eps=0.01), (linear.margins > 0).mean() + linear.robust(0.01, np.inf).mean()
    assert linear.robust(0.01, np.inf).sum() < (linear.margins > 0).sum() < 50
    assert (row.forward_passes, row.backward_passes) == pytest.approx((7 * share, 6 * share))
    assert (record.forward_passes, record.backward_passes) == pytest.approx((1 + 7 * share, 6 * share))


def test_counts_of_the_classes_add_up(linear, record):
    assert record.class_totals == tuple(np.bincount(linear.labels))
    by_hand = np.bincount(linear.labels[linear.robust(8 / 255, np.inf)], minlength=2)
    assert record.result("worst").class_correct == tuple(by_hand)


def test_the_examples_are_the_first_of_each_class_and_stay_in_the_ball(linear, record):
    kept = record.examples
    assert kept.labels.tolist() == sorted(set(linear.labels), key=linear.labels.tolist().index)
    first = [linear.labels.tolist().index(label) for label in kept.labels]
    np.testing.assert_array_equal(kept.images, linear.images[first])
    assert np.abs(kept.attacked - kept.images).max() == pytest.approx(8 / 255, abs=1e-6)
    np.testing.assert_array_equal(kept.attacked_predictions, linear(kept.attacked).numpy().argmax(axis=1))
    expected = tf.nn.softmax(linear(linear.images)).numpy().max(axis=1)
    np.testing.assert_allclose(kept.outcome_confidences, expected, rtol=1e-5)


def test_what_an_image_is_taken_for_under_attack_is_kept_for_all(linear, record):
    kept, robust = record.examples, linear.robust(8 / 255, np.inf)
    right_cleanly = linear.margins > 0
    # Of two classes, an image that is fooled is taken for the other; one that was wrong already is not attacked.
    expected = np.where(robust, linear.labels, 1 - linear.labels)
    np.testing.assert_array_equal(kept.outcome_attacked_predictions, expected)
    np.testing.assert_array_equal(
        kept.outcome_attacked_confidences[~right_cleanly], kept.outcome_confidences[~right_cleanly]
    )
    assert np.all(kept.outcome_attacked_confidences[robust] < kept.outcome_confidences[robust])


def test_what_is_drawn_is_the_restart_that_fooled(linear):
    record = evaluate(
        linear, (linear.images, linear.labels), attacks={"noise": Noise()}, epsilons=0.1, num_restarts=8, batch_size=50
    )
    kept = record.examples
    first = [linear.labels.tolist().index(label) for label in kept.labels]
    right = kept.attacked_predictions == kept.labels
    np.testing.assert_array_equal(right, kept.outcome_robust[first])


def test_probabilities_are_found_out_and_give_the_same_numbers(linear, record):
    given = evaluate(
        lambda images: tf.nn.softmax(linear(images)),
        (linear.images, linear.labels),
        num_steps=5,
        epsilons=(0.02, 8 / 255),
    )
    assert given.output == "probabilities"
    assert "logarithm was attacked" in given.warnings[0]
    assert counts(given) == counts(record)
    assert (record.output, record.warnings) == ("logits", ())


def test_a_keras_model_is_called_in_inference_mode_and_left_as_it_was(tiny_encoder, tiny_images, tiny_labels):
    head = keras.layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(seed=1))
    model = keras.Sequential([tiny_encoder, keras.layers.Dropout(0.9), head], name="net")
    before = [weight.numpy() for weight in model.weights]
    record = evaluate(model, (tiny_images, tiny_labels), num_steps=3)
    expected = model(tiny_images, training=False).numpy().argmax(axis=1)
    assert record.result("clean").correct == (expected == tiny_labels).sum()
    assert record.name == record.architecture == "net"
    for weight, old in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_a_half_precision_model_is_read_as_float32(linear):
    record = evaluate(
        lambda images: tf.cast(linear(images), tf.float16), (linear.images, linear.labels), num_steps=5, epsilons=0.02
    )
    assert abs(record.result("worst").correct - linear.robust(0.02, np.inf).sum()) <= 1


def test_an_output_that_is_no_number_under_attack_counts_as_fooled(linear):
    def model(images):
        moved = tf.reduce_any(tf.abs(images - 0.5) > 1e-3, axis=[1, 2, 3])
        logits = linear(images) + tf.constant([0.0, 1.0])
        return tf.where(moved[:, None], float("nan"), logits)

    grey, ones = np.full((6, 4, 4, 1), 0.5, np.float32), np.ones(6, np.int64)
    record = evaluate(model, (grey, ones), num_steps=2)
    assert (record.result("clean").correct, record.result("worst").correct) == (6, 0)


def test_progress_tells_the_surviving_accuracy_and_the_time_left(linear):
    told = []
    record = evaluate(
        linear,
        (linear.images, linear.labels),
        num_steps=3,
        epsilons=(0.01, 0.02),
        num_restarts=2,
        batch_size=20,
        progress=told.append,
    )
    assert len(told) == 3 * 2
    assert [step.images for step in told] == [20] * 2 + [40] * 2 + [50] * 2
    assert told[-1].seconds_left == 0.0
    assert all(step.seconds_left > 0 for step in told[:-1])
    assert str(told[0]).startswith("20/50 images, pgd-3: clean ")
    assert (told[-1].clean_acc, told[-1].robust_acc) == (record.clean_acc, record.robust_acc)


def test_the_record_says_how_it_came_about(record):
    assert (record.name, record.dataset, record.split) == ("<b>linear</b> | $x_1$ & co", "made", "test")
    assert (record.threat, record.eps, record.training_eps, record.suite) == ("Linf", 8 / 255, 8 / 255, "quick")
    assert record.class_names == ("<no>", "yes")
    assert set(record.versions) == {"advss_tf", "tensorflow", "keras", "cleverhans", "numpy", "python"}
    assert len(record.images_fingerprint) == 64
    assert record.autoattack_acc is None


def test_a_subset_is_said_in_the_record(linear):
    record = evaluate(linear, (linear.images, linear.labels), num_steps=2, limit=10)
    assert (record.num_images, record.num_images_available) == (10, 50)
    assert "10 of 50 images" in record.subset


def test_an_attack_that_leaves_its_ball_is_refused(linear):
    class Cheat(Noise):
        def __call__(self, climb, inputs, seed, *, epsilon=None):
            return super().__call__(climb, inputs, seed, epsilon=1.5 * epsilon)

    with pytest.raises(InvalidInput, match="'cheat' left its ball"):
        evaluate(linear, (linear.images, linear.labels), attacks={"cheat": Cheat()}, epsilons=0.1)


def test_an_attack_that_leaves_the_range_of_pixels_is_refused(linear):
    class Dark(Noise):
        def __call__(self, climb, inputs, seed, *, epsilon=None):
            return {"images": inputs["images"] - epsilon}

    with pytest.raises(InvalidInput, match="range of pixels"):
        evaluate(linear, (linear.images * 0.1, linear.labels), attacks={"dark": Dark()}, epsilons=0.1)


@pytest.mark.parametrize(
    "model,sentence",
    [
        ("model.keras", "cannot be called"),
        (lambda images: tf.reduce_mean(images, axis=[1, 2]), "classes >= 2"),
        (lambda images: images, "one row of logits per image"),
        (lambda images: tf.fill((tf.shape(images)[0], 3), float("nan")), "not finite on clean images"),
    ],
)
def test_a_model_that_is_no_classifier_is_refused(linear, model, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        evaluate(model, (linear.images, linear.labels))


def test_a_label_without_a_logit_is_refused(linear):
    with pytest.raises(InvalidInput, match=r"every label in \[0, 2\)"):
        evaluate(linear, (linear.images, linear.labels + 1))


def test_an_accuracy_that_rises_with_the_ball_is_called_weak():
    rows = [
        Result.from_counts("pgd-1", correct, 10, threat="Linf", eps=eps, class_correct=(correct, 0))
        for eps, correct in ((0.1, 5), (0.2, 6), (0.3, 6))
    ]
    (warning,) = result_flags(rows)
    assert "too weak" in warning and "6 images robust at eps=0.2" in warning
    assert result_flags(rows[1:]) == ()


def test_given_attacks_are_run_at_other_epsilons_without_another_trace(linear):
    attack = ProjectedGradientDescent(Linf(0.03), num_steps=8)
    record = evaluate(linear, (linear.images, linear.labels), attacks=attack, epsilons=(0.01, 0.06))
    for epsilon in (0.01, 0.06):
        assert record.result("pgd-8", eps=epsilon).correct == linear.robust(epsilon, np.inf).sum()


def test_all_epsilons_share_the_calls_of_one(linear, monkeypatch):
    """The images that are right, in 4 balls, fill two batches of 100 rows; one ball after the other they would be 4."""
    calls, call = [], CompiledAttempt.__call__

    def counting(self, images, *args, **kwargs):
        calls.append(len(images))
        return call(self, images, *args, **kwargs)

    monkeypatch.setattr(CompiledAttempt, "__call__", counting)
    data, epsilons = (linear.images.repeat(2, axis=0), linear.labels.repeat(2)), (0.01, 0.02, 0.05, 0.1)
    record = evaluate(linear, data, attacks={"noise": Noise()}, epsilons=epsilons, batch_size=100)
    right = 2 * int((linear.margins > 0).sum())
    assert calls == [100] * (4 * right // 100) + [4 * right % 100] and right < 100
    for epsilon in epsilons:
        alone = evaluate(linear, data, attacks={"noise": Noise()}, epsilons=epsilon)
        assert record.result("noise", eps=epsilon).correct == alone.result("noise", eps=epsilon).correct


class Fickle(Noise):
    """Fools in small balls only, as an attack whose steps are too long does."""

    def __call__(self, climb, inputs, seed, *, epsilon=None):
        images = super().__call__(climb, inputs, seed, epsilon=epsilon)["images"]
        return {"images": tf.where(epsilon > 0.15, inputs["images"], images)}


def test_the_worst_case_never_rises_with_the_ball(linear):
    record = evaluate(linear, (linear.images, linear.labels), attacks={"fickle": Fickle()}, epsilons=(0.1, 0.2))
    small, large = (record.result("fickle", eps=eps).correct for eps in (0.1, 0.2))
    assert large > small and any("too weak" in warning for warning in record.warnings)
    assert record.result("worst", eps=0.2).correct == record.result("worst", eps=0.1).correct == small
    assert record.robust_acc == small / 50


def test_transferred_examples_are_made_on_the_source_and_judged_by_the_model(linear):
    """The source looks away from half of the pixels: its steepest step is the model's on the others alone."""
    mask = np.zeros((4, 4, 1), np.float32)
    mask[:, :2] = 1

    def source(images):
        return linear(images * mask)

    attack = ProjectedGradientDescent(Linf(0.05), num_steps=1, step_size=0.05, random_start=False)
    data = (linear.images, linear.labels)
    record = evaluate(linear, data, attacks=attack, source=source)
    fall = 0.05 * np.abs(linear.weights * mask).sum()
    assert record.result("pgd-1").correct == int((linear.margins > fall).sum())
    assert record.result("pgd-1").correct > evaluate(linear, data, attacks=attack).result("pgd-1").correct
    assert record.source == "source" and evaluate(linear, data, attacks=attack).source is None


def test_a_source_of_other_classes_is_refused(linear):
    with pytest.raises(InvalidInput, match="a source with 2 logits"):
        evaluate(linear, (linear.images, linear.labels), source=lambda images: tf.zeros((tf.shape(images)[0], 3)))


def test_the_black_box_suite_takes_no_gradient(linear):
    record = evaluate(linear, (linear.images, linear.labels), suite="black_box", epsilons=0.04, limit=20)
    assert record.attacks == ("square",) and record.suite == "black_box"
    assert record.backward_passes == 0 and record.forward_passes > 1
    assert record.robust_acc < record.clean_acc


def test_attacked_images_are_kept_batch_by_batch(linear, tmp_path):
    options = {"num_steps": 4, "epsilons": (0.02, 0.05), "batch_size": 20}
    record = evaluate(linear, (linear.images, linear.labels), save_attacked=tmp_path / "attacked", **options)
    batches = list(read_attacked(tmp_path / "attacked"))
    assert [len(batch["images"]) for batch in batches] == [20, 20, 10]
    images, labels, robust = (
        np.concatenate([batch[name] for batch in batches]) for name in ("images", "labels", "robust")
    )
    np.testing.assert_array_equal(labels, linear.labels)
    np.testing.assert_array_equal(robust, record.examples.outcome_robust)
    assert np.abs(images - linear.images).max() <= record.eps + 1e-6
    fooled = linear(images).numpy().argmax(axis=1) != labels
    np.testing.assert_array_equal(fooled, ~robust)
    told = []
    with pytest.raises(InvalidInput, match="mixed with something else"):
        evaluate(
            linear, (linear.images, linear.labels), save_attacked=tmp_path / "attacked", announce=told.append, **options
        )
    assert not told, "refused before anything is timed"


@pytest.mark.parametrize("suite", ["standard", pytest.param("black_box", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scope", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_replicas_find_what_one_finds(linear, suite, scope):
    options = {"suite": suite, "num_steps": (3, 5), "epsilons": (0.02, 0.04), "num_restarts": 2, "batch_size": 30}
    one, strategy = evaluate(linear, (linear.images, linear.labels), **options), get_strategy("mirrored")
    with strategy.scope() if scope else contextlib.nullcontext():
        two = evaluate(linear, (linear.images, linear.labels), strategy=None if scope else strategy, **options)
    assert one.results == tuple(
        row.model_copy(update={"seconds": same.seconds}) for row, same in zip(two.results, one.results, strict=True)
    )
    np.testing.assert_allclose(one.examples.attacked, two.examples.attacked, atol=1e-6)


def test_no_device_is_shown_more_than_its_share_of_a_batch(linear):
    def shown(strategy):
        sizes = []

        def model(images):
            sizes.append(images.shape[0])
            return linear(images)

        options = {"num_steps": 2, "epsilons": 0.02, "batch_size": 30, "strategy": strategy, "source": model}
        data = (linear.images, linear.labels)
        return sizes, evaluate(model, data, announce=lambda estimate: None, **options)

    sizes, one = shown(None)
    assert max(sizes) == 30
    sizes, two = shown(get_strategy("mirrored"))
    assert max(sizes) == 15
    assert counts(one) == counts(two) and one.warnings == two.warnings
