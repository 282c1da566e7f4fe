"""SimCLR beside the classes: terms and attacks of every mode against NumPy, and what only comparing images brings.

The encoder is linear and the two views are an image and its half turn, so that all is known: the reference goes along
differences of the losses as they are written in the papers, in float64.
"""

from __future__ import annotations

import functools
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import L2, Linf, ProjectedGradientDescent
from advss_tf.encoders import BranchedBatchNormalization
from advss_tf.errors import InvalidInput
from advss_tf.finetune import JointClassifier
from advss_tf.pretext import Rotation, SimCLR
from advss_tf.training import Batch
from advss_tf.training.strategy import get_strategy

TEMPERATURE, WEIGHT, RADIUS = 0.4, 0.5, 0.1
RNG = np.random.default_rng(1)
IMAGES = RNG.uniform(0.3, 0.7, (3, 4))  # three grey images of 2 x 2 pixels
LABELS = np.array([0, 1, 1])
CLASSES, PROJECTION = RNG.normal(size=(4, 2)), RNG.normal(size=(4, 3))
THREATS = {"linf": Linf(RADIUS), "l2": L2(RADIUS)}


def views_of(points):
    """An image and its half turn, `(2, rows, 4)`."""
    return np.stack([points, points[:, ::-1]])


def cross_entropy(points):
    logits = points @ CLASSES
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(3), LABELS]


def similarities(views):
    units = (views @ PROJECTION).reshape(6, 3)
    units = units / np.linalg.norm(units, axis=1, keepdims=True)
    return units @ units.T


def nt_xent(views):
    """Equation 1 of SimCLR at `(2, rows, 4)`, the mean of an image's two anchors: `(rows,)`."""
    alike, found = similarities(views) / TEMPERATURE, np.zeros(6)
    for anchor in range(6):
        others = [other for other in range(6) if other != anchor]
        found[anchor] = np.log(np.exp(alike[anchor, others]).sum()) - alike[anchor, (anchor + 3) % 6]
    return found.reshape(2, 3).mean(axis=0)


def retrieved(views):
    alike = similarities(views) - 3 * np.eye(6)
    return (alike.argmax(axis=1) == (np.arange(6) + 3) % 6).reshape(2, 3).mean(axis=0)


def of_image(points):
    return nt_xent(views_of(points))


def stepped(height, points, norm):
    """One step of an attack on rows of four pixels along what `height(points)` sums up to, `(…, 4)`."""
    slope, moved = np.zeros_like(points), 1e-5
    for place in np.ndindex(points.shape):
        nudge = np.zeros_like(points)
        nudge[place] = moved
        slope[place] = (height(points + nudge).sum() - height(points - nudge).sum()) / (2 * moved)
    assert np.abs(slope).min() > 1e-2  # no sign hangs on rounding
    if norm == "linf":
        return points + RADIUS * np.sign(slope)
    return points + RADIUS * slope / np.linalg.norm(slope, axis=-1, keepdims=True)


def expected(mode, norm, attack_weight):
    """Where the classes are learned, where the task is, and what the attack has climbed: the last one an image each."""

    def both(points):
        return cross_entropy(points) + attack_weight * of_image(points)

    of_classes = stepped(cross_entropy, IMAGES, norm)
    if mode == "clean":
        return of_classes, views_of(IMAGES), cross_entropy(IMAGES)
    if mode == "attacked":
        return of_classes, views_of(of_classes), cross_entropy(IMAGES)
    if mode == "own":
        return of_classes, stepped(nt_xent, views_of(IMAGES), norm), cross_entropy(IMAGES) + of_image(IMAGES)
    if mode == "sum":
        found = stepped(both, IMAGES, norm)
        return found, views_of(found), both(IMAGES)
    of_task = stepped(of_image, IMAGES, norm)
    first, second = both(of_classes), both(of_task)
    found = np.where((second > first)[:, None], of_task, of_classes)
    # Each image takes its own: some images one head's candidate, some the other's.
    assert 0 < (second > first).sum() < 3
    return found, views_of(found), np.maximum(first, second)


def linear(threat, **options):
    """The joint classifier with these weights on the pixels, attacked by one step from the image itself."""
    images = keras.Input((2, 2, 1))
    encoder = keras.Model(images, keras.layers.Flatten()(images))
    simclr = SimCLR(encoder, temperature=TEMPERATURE, projection=(3,), projection_norms="none")
    simclr.drawn_views = lambda images, seed: (images, images[:, ::-1, ::-1])
    attack = ProjectedGradientDescent(threat, num_steps=1, step_size=RADIUS, random_start=False)
    model = JointClassifier(encoder, 2, auxiliary=simclr, weight=WEIGHT, attack=attack, **options)
    model.head.kernel.assign(CLASSES)
    for weights in simclr.projector.weights:
        weights.assign(PROJECTION if len(weights.shape) == 2 else np.zeros(3))
    model.compile(optimizer="sgd")
    model.build_optimizer()
    return model


BATCH = tf.constant(IMAGES.reshape(3, 2, 2, 1), tf.float32), tf.constant(LABELS)


@pytest.mark.parametrize("norm", THREATS)
@pytest.mark.parametrize(
    ("mode", "attack_weight"),
    [("clean", None), ("attacked", None), ("own", None), ("sum", 0.0), ("sum", 2.0), ("stronger", 0.6)],
)
def test_each_mode_takes_the_contrast_where_it_says(mode, attack_weight, norm):
    logs = linear(THREATS[norm], mode=mode, attack_weight=attack_weight).train_step(BATCH)
    points, views, climbed = expected(mode, norm, attack_weight)
    wanted = {
        "adversarial_loss": cross_entropy(points).mean(),
        "auxiliary_loss": nt_xent(views).mean(),
        "auxiliary_accuracy": retrieved(views).mean(),
        "loss": (cross_entropy(points) + WEIGHT * nt_xent(views)).mean(),
        "attack_climb": climbed.mean(),
    }
    assert {name: float(logs[name]) for name in wanted} == pytest.approx(wanted, rel=1e-4)


def test_evaluation_reports_the_contrast_of_the_clean_views():
    logs = linear(THREATS["linf"], mode="sum").test_step(BATCH)
    assert float(logs["auxiliary_loss"]) == pytest.approx(of_image(IMAGES).mean(), rel=1e-4)
    assert float(logs["adversarial_loss"]) == pytest.approx(
        cross_entropy(stepped(cross_entropy, IMAGES, "linf")).mean(), rel=1e-4
    )


def test_an_image_has_the_views_of_its_attacked_form_by_the_same_choices(two_stages, tiny_images):
    """The puzzle of T2, T4 and T5: at the images themselves what T1 and T3 pose."""
    simclr = SimCLR(two_stages(), views=("strong", "weak"), projection=(4,))
    puzzle = simclr.pose(Batch(tf.constant(tiny_images)), tf.constant([3, 4]))
    assert list(puzzle.inputs) == ["view0", "view1"]
    for name, views in simclr.render(tf.constant(tiny_images), puzzle).items():
        np.testing.assert_array_equal(views, puzzle.inputs[name])


@pytest.mark.parametrize("view", ["weak", "strong", "high_frequency"])
def test_the_gradient_flows_through_the_views_to_every_image(view, two_stages, tiny_images):
    simclr, images = SimCLR(two_stages(), views=(view, view), projection=(4,)), tf.constant(tiny_images)
    puzzle = simclr.pose(Batch(images), tf.constant([3, 4]))
    with tf.GradientTape() as tape:
        tape.watch(images)
        made = simclr.render(images, puzzle)
        loss, _ = simclr.solve(made, puzzle, training=False, stream="clean", attacking=True)
    gradient = tape.gradient(loss, images).numpy()
    assert np.isfinite(gradient).all() and (np.abs(gradient).max(axis=(1, 2, 3)) > 0).all()


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({"mode": "clean"}, {"clean"}),
        ({"mode": "own"}, {"adversarial"}),
        ({"mode": "sum", "auxiliary_at": "clean"}, {"clean"}),
    ],
)
def test_the_views_go_through_the_branch_of_the_images_that_the_task_is_learned_on(
    options, moved, two_stages, tiny_images, tiny_labels
):
    """That of the projection shows it, which no other head goes through."""
    streams = ("clean", "adversarial")
    encoder = two_stages(functools.partial(BranchedBatchNormalization, streams))
    simclr = SimCLR(encoder, projection=(5, 4), streams=streams)
    model = JointClassifier(
        encoder, 3, auxiliary=simclr, attack=ProjectedGradientDescent(Linf(0.1), num_steps=1), **options
    )
    model.compile(optimizer="sgd")
    model.build_optimizer()
    before = {v.path: v.numpy() for v in simclr.projector.variables}
    model.train_step((tf.constant(tiny_images), tf.constant(tiny_labels)))
    changed = [
        v.path for v in simclr.projector.variables if "moving_mean" in v.path and (v.numpy() != before[v.path]).any()
    ]
    assert {path.split("/")[-2] for path in changed} == moved


def test_branches_that_simclr_was_not_told_of_are_refused(two_stages):
    with pytest.raises(InvalidInput, match="branches are not the streams"):
        SimCLR(two_stages(functools.partial(BranchedBatchNormalization, ("clean", "adversarial"))))


def test_a_batch_whose_images_are_compared_is_not_parted(two_stages):
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=1)
    for mode in ("sum", "plain"):
        encoder = two_stages()
        model = JointClassifier(encoder, 3, auxiliary=SimCLR(encoder), mode=mode, attack=attack)
        if mode == "plain":
            model.micro_batches = 2
            continue
        with pytest.raises(InvalidInput, match="JointClassifier compares the images of a batch"):
            model.micro_batches = 2
    encoder = two_stages()
    JointClassifier(encoder, 3, auxiliary=Rotation(encoder), attack=attack).micro_batches = 2


def test_an_image_alone_has_nothing_to_be_told_from(two_stages, tiny_images, tiny_labels):
    encoder = two_stages()
    attack = ProjectedGradientDescent(Linf(0.1), num_steps=1)
    model = JointClassifier(encoder, 3, auxiliary=SimCLR(encoder), mode="clean", attack=attack)
    model.compile(optimizer="sgd")
    model.build_optimizer()
    with pytest.raises(InvalidInput, match=re.escape("`embeddings` has no negatives")):
        model.train_step((tf.constant(tiny_images[:1]), tf.constant(tiny_labels[:1])))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["attacked", "sum", "own", "stronger"])
def test_on_two_replicas_the_weights_see_all_negatives_and_the_attack_those_of_its_own(
    mode, two_stages, tiny_images, tiny_labels
):
    """T2's attack compares nothing, so its step is that of one replica; the others' take a step at all."""
    data = tf.data.Dataset.from_tensor_slices((tiny_images, tiny_labels)).repeat(2).batch(8)

    def trained(strategy):
        with strategy.scope():
            encoder = two_stages()
            simclr = SimCLR(encoder, projection=(6,), projection_norms="none")
            attack = ProjectedGradientDescent(Linf(0.1), num_steps=2)
            model = JointClassifier(encoder, 3, auxiliary=simclr, mode=mode, attack=attack)
            model.compile(optimizer=keras.optimizers.SGD(0.05))
        return model.fit(data, verbose=0).history, model.get_weights()

    (logs, one), (others, two) = trained(tf.distribute.get_strategy()), trained(get_strategy("mirrored"))
    assert np.isfinite(others["loss"]).all()
    gaps = [np.abs(ours - theirs).max() for ours, theirs in zip(one, two, strict=True)]
    assert max(gaps) < (1e-5 if mode == "attacked" else 0.05)
    if mode == "attacked":
        np.testing.assert_allclose(logs["auxiliary_loss"], others["auxiliary_loss"], rtol=1e-4)
