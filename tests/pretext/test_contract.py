"""What every pretext task keeps: replicas, precision, modes of the attack, branches, hand-off, saving, resuming."""

from __future__ import annotations

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.data import load_data
from advss_tf.encoders import BranchedBatchNormalization, branches, load_encoder, norm_branch
from advss_tf.pretext import CONTRASTIVE, MEMBERS, TASKS
from advss_tf.serving import export_encoder
from advss_tf.training import SGD, Batch
from advss_tf.training.callbacks import read_history
from advss_tf.training.loop import Saving, train
from advss_tf.training.strategy import get_strategy

ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=2)
# What makes a task small enough for these tests.
PROJECTION = {"projection": (8,), "projection_norms": "none"}
SCHEDULE = {"epochs": 3, "steps_per_epoch": 2, "period": 1}
OPTIONS = {
    **dict.fromkeys(CONTRASTIVE, PROJECTION),
    "a_infonce": {**PROJECTION, "annealing": SCHEDULE},
    "deacl": {},
    "dynacl": {**PROJECTION, "annealing": SCHEDULE},
    "ensemble": {"tasks": ("rotation", {"kind": "jigsaw", "num_permutations": 3})},
    "selfie": {"num_layers": 1, "num_heads": 2},
}
WITH_NEGATIVES = sorted(set(CONTRASTIVE) - {"deacl"})
KINDS = sorted(TASKS)
# Forms that take long, or show little that no other one does, are put through these tests by `bin/test --slow`.
LATER = (
    "a_infonce",
    "advcl with clusters",
    "acl",
    "acl_air",
    "dynacl",
    "ensemble",
    "ensemble with selfie",
    "rocl",
    "simclr",
    "jigsaw faithful",
    "selfie faithful",
)
# Where whole trainings are compared, these do as well.
LATER_TRAINED = (*LATER, "advcl", "deacl", "jigsaw", "selfie")


def _each(forms, later=LATER):
    """A test for each `(kind, form)` by its name, some methods among the slow ones."""
    marks = dict.fromkeys(later, pytest.mark.slow)
    cases = [pytest.param(*form, id=name, marks=marks.get(name, ())) for name, form in forms.items()]
    return pytest.mark.parametrize(("kind", "form"), cases)


# In an ensemble Selfie has batch norms of its own.
WITH_SELFIE = ("ensemble", {"tasks": ("rotation", {"kind": "selfie", **OPTIONS["selfie"]})})
# With pseudo-labels AdvCL has heads, a perturbation and a stream more.
WITH_CLUSTERS = ("advcl", {"pseudo_sizes": (2, 3)})
METHODS = {
    **{kind: (kind, {}) for kind in KINDS},
    "advcl with clusters": WITH_CLUSTERS,
    "ensemble with selfie": WITH_SELFIE,
}
EACH_METHOD = _each(METHODS)
EACH_TRAINED_METHOD = _each(METHODS, later=LATER_TRAINED)
# Puzzles are learned without an attack as well (P2), by another path through the step.
CLEAN = {f"{kind} clean": (kind, {"attack": None}) for kind in (*MEMBERS, "ensemble")}
LATER_CLEAN = (*LATER_TRAINED, *CLEAN)
EACH_GOING_ON = _each({**METHODS, **CLEAN}, later=LATER_CLEAN)
EACH_HANDED_OVER = _each({**METHODS, **CLEAN}, later=(*LATER, *(set(CLEAN) - {"rotation clean"})))
# Where the draw or the loss of the reference code could go another way, its form is tested as well.
FORMS = {
    **METHODS,
    "jigsaw faithful": ("jigsaw", {"faithful": True, "num_permutations": 3}),
    "selfie faithful": ("selfie", {"faithful": True}),
}
EACH_FORM = _each(FORMS)
EACH_TRAINED_FORM = _each(FORMS, later=LATER_TRAINED)
# An ensemble poses its members' puzzles, and draws and renders none of its own.
OF_ONE = {name: form for name, form in FORMS.items() if form[0] in MEMBERS}
EACH_FORM_OF_ONE = _each(OF_ONE)


def task(kind, encoder, *, optimizer=None, **options):
    options = {"attack": ATTACK, **OPTIONS.get(kind, {}), **options}
    if kind == "simclr":
        options["attack"] = None
    if kind == "deacl":
        options["teacher"] = keras.models.clone_model(encoder) if not branches(encoder) else options["teacher"]
    model = TASKS[kind](encoder, **options)
    model.compile(optimizer=optimizer or SGD(0.05, momentum=0.9, weight_decay=1e-3))
    return model


def examples(form, images):
    """What a form learns from: images, and for heads the clusters of each."""
    numbers = np.arange(len(images))
    return (images, np.stack([numbers % 2, numbers % 3], axis=1)) if "pseudo_sizes" in form else (images,)


def batches(form, images, size):
    found = examples(form, images)
    return tf.data.Dataset.from_tensor_slices(found if len(found) > 1 else images).batch(size)


@EACH_TRAINED_FORM
def test_two_replicas_end_with_the_weights_of_one(kind, form, tiny_images, two_stages):
    """Same global batches, so only the order of additions differs: after three steps 1e-5 (weights are about 0.1)."""
    data = batches(form, tiny_images, 8).repeat(3)

    # Inside its loop an attack sees the negatives of its replica alone, so here it moves nothing that counts.
    local = ("attack_at_bound", "attack_climb", "retrieval", "robust_retrieval") if kind in WITH_NEGATIVES else ()
    still = {"attack": ProjectedGradientDescent(Linf(1e-8), num_steps=1)} if kind in WITH_NEGATIVES else {}

    def trained(strategy):
        with strategy.scope():
            model = task(kind, two_stages(), **still, **form)
        history = model.fit(data, epochs=1, verbose=0).history
        return model.get_weights(), history, model.evaluate(data, verbose=0, return_dict=True)

    one, two = trained(tf.distribute.get_strategy()), trained(get_strategy("mirrored"))
    for ours, theirs in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for ours, theirs in zip(one[1:], two[1:], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - set(local):
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-3, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_two_replicas_keep_norms_that_an_ensemble_s_member_has_of_its_own(tiny_images, two_stages):
    """Synchronised norms see the global batch; running statistics are about 0.1 and 1."""
    norm = functools.partial(keras.layers.BatchNormalization, synchronized=True)
    weights = []
    for strategy in (tf.distribute.get_strategy(), get_strategy("mirrored")):
        with strategy.scope():
            model = task(WITH_SELFIE[0], two_stages(norm), **WITH_SELFIE[1])
        norms = [puzzle.encoder.get_layer("stage1_norm") for puzzle in model.puzzles.values()]
        assert norms[0] is not norms[1]
        before = norms[1].moving_mean.numpy()
        model.fit(tf.data.Dataset.from_tensor_slices(tiny_images).batch(8), verbose=0)
        assert (norms[1].moving_mean.numpy() != before).all()
        weights.append(model.get_weights())
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "kind", ["rotation", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("simclr", "acl"))]
)
def test_two_replicas_validate_every_held_out_image_whatever_the_last_batch_is(kind, two_stages):
    """Seventeen images in batches of eight: from the data set eight, five and four, and of any other one remains."""
    images = np.random.default_rng(2).random((100, 8, 8, 3), np.float32)
    data = load_data((images, np.arange(100) % 2), held_out=17)
    with get_strategy("mirrored").scope():
        model = task(kind, two_stages(keras.layers.BatchNormalization))
    for validation in (data.held_out(8), data.held_out().unbatch().batch(8)):
        logs = model.fit(data.unlabelled(8, num_steps=1), validation_data=validation, verbose=0).history
        counts = {tracker.name: tf.convert_to_tensor(tracker.count.value).numpy() for tracker in model.metrics}
        assert counts["loss"] == data.num_held_out == 17
        measured = [name for name in logs if name.startswith("val_")]
        assert "val_loss" in measured and all(np.isfinite(logs[name]).all() for name in measured)


@EACH_FORM
def test_under_mixed_precision_losses_and_scores_are_float32(kind, form, tiny_images, two_stages):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = task(kind, two_stages(keras.layers.BatchNormalization), **form)
    finally:
        keras.config.set_dtype_policy("float32")
    found = examples(form, tiny_images)
    assert np.isfinite(model.train_on_batch(*found, return_dict=True)["loss"])
    answers = keras.tree.flatten(model.predict(tiny_images, verbose=0))
    assert {answer.dtype for answer in answers} == {np.dtype(np.float32)}
    puzzle = model.share(model.pose(Batch(*map(tf.constant, found)), tf.constant([0, 1])), training=True)
    assert {values.dtype for values in model.descend(puzzle.inputs, puzzle, training=True).values()} == {tf.float32}
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@EACH_TRAINED_METHOD
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_an_attack_in_either_mode_moves_no_running_statistics(mode, kind, form, tiny_images, two_stages):
    """Steps too short to matter: what is left to move them are the clean and the attacked pass, each once."""
    moved = []
    for num_steps in (1, 4):
        attack = ProjectedGradientDescent(Linf(1e-7), num_steps=num_steps, batch_norm=mode)
        model = task(kind, two_stages(keras.layers.BatchNormalization), attack=attack, **form)
        model.train_on_batch(*examples(form, tiny_images))
        moved.append([v.numpy() for v in model.encoder.non_trainable_variables])
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@EACH_HANDED_OVER
def test_an_encoder_with_branches_is_trained_in_both_and_handed_over_with_one(
    kind, form, tiny_images, tmp_path, two_stages
):
    if kind == "deacl":
        form = {"teacher": two_stages(keras.layers.BatchNormalization)}
    clean = kind == "simclr" or form.get("attack", ATTACK) is None
    streams = ("clean",) if clean else ("clean", "adversarial")
    streams += ("pseudo",) if "pseudo_sizes" in form else ()
    encoder = two_stages(functools.partial(BranchedBatchNormalization, streams))
    before = {variable.path: variable.numpy() for variable in encoder.variables}
    model = task(kind, encoder, **form)
    model.train_on_batch(*examples(form, tiny_images))
    moved = {variable.path for variable in encoder.variables if (variable.numpy() != before[variable.path]).any()}
    assert {f"stage1_norm/{branch}/moving_mean" for branch in streams} <= moved
    delivered = "adversarial" if "adversarial" in streams else "clean"
    assert model.delivered_branch == delivered
    handed = load_encoder(export_encoder(model, tmp_path / "encoder"))
    with norm_branch(delivered):
        np.testing.assert_allclose(handed(tiny_images), model.delivered_encoder(tiny_images), atol=1e-5)


@EACH_GOING_ON
def test_saved_and_loaded_it_goes_on_the_same(kind, form, tiny_encoder, tiny_images, tmp_path):
    model = task(kind, tiny_encoder, seed=3, **form)
    model.fit(*examples(form, tiny_images), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, loaded):
        one.fit(*examples(form, tiny_images), shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@EACH_GOING_ON
def test_a_run_cut_at_a_step_ends_with_the_same_bits(kind, form, tiny_images, tmp_path, two_stages):
    def make_dataset(*, start_step, num_steps, **_):
        return batches(form, tiny_images, 4).repeat().skip(start_step).take(num_steps)

    best = "val_robust_accuracy" if form.get("attack", ATTACK) else "val_accuracy"

    def run(folder, stop_at):
        moments = [stop_at]

        def advance(done, logs, seconds_left):
            if done in moments:
                moments.clear()
                raise KeyboardInterrupt

        while True:
            model = task(kind, two_stages(keras.layers.BatchNormalization), **form)
            try:
                train(
                    model, make_dataset, steps_per_epoch=2, epochs=3, batch_size=4, folder=folder,
                    validation=tf.data.Dataset.from_tensor_slices(tiny_images).batch(8),
                    monitor=getattr(model, "monitor", best), saving=Saving(every_steps=1),
                    say=lambda line: None, advance=advance,
                )  # fmt: skip
                return model
            except KeyboardInterrupt:
                continue

    whole, cut = run(tmp_path / "whole", None), run(tmp_path / "cut", 3)
    for one, other in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [line["epoch"] for line in read_history(tmp_path / "cut" / "history.jsonl")] == [1, 2, 3]


@EACH_FORM_OF_ONE
def test_posing_is_drawing_and_rendering_and_the_gradient_flows_through(kind, form, tiny_encoder, tiny_images):
    """What is made of an image moves with it: each pixel comes to a place of the puzzle, and keeps its value."""
    model, images, seed = task(kind, tiny_encoder, **form), tf.constant(tiny_images), tf.constant([3, 4])
    posed, drawn = model.pose(Batch(images), seed), model.draw(8, seed)
    assert drawn.inputs == {}
    tf.nest.map_structure(np.testing.assert_array_equal, posed[1:], drawn[1:])
    with tf.GradientTape() as tape:
        tape.watch(images)
        rendered = model.render(images, posed)
        height = tf.reduce_sum(tf.reshape(tf.range(tf.size(rendered), dtype=tf.float32), rendered.shape) * rendered)
    np.testing.assert_array_equal(rendered, posed.inputs["images"])
    gradient = np.asarray(tape.gradient(height, images)).reshape(8, -1)
    for number, (values, weights) in enumerate(zip(tiny_images.reshape(8, -1), gradient, strict=True)):
        places = (weights - number * values.size).astype(int)
        assert sorted(places) == list(range(values.size))
        np.testing.assert_array_equal(np.asarray(rendered[number]).ravel()[places], values)


# The second derivatives of an ensemble take XLA many minutes on a CPU, and are left out.
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["advcl", "deacl", "dynacl", "jigsaw", "rotation", "selfie"])
def test_a_step_can_be_compiled_by_xla(kind, tiny_images, two_stages):
    """As Keras does by default where there is one GPU."""
    model = task(kind, two_stages())
    model.compile(optimizer=SGD(0.05), jit_compile=True)
    before = model.get_weights()
    model.fit(tf.data.Dataset.from_tensor_slices(tiny_images).batch(8), verbose=0)
    assert any(np.abs(one - other).max() > 1e-4 for one, other in zip(before, model.get_weights(), strict=True))
    assert np.isfinite(model.evaluate(tiny_images, verbose=0, return_dict=True)["loss"])


@EACH_FORM
def test_what_it_says_of_itself_is_json(kind, form, tiny_encoder):
    model = task(kind, tiny_encoder, **form)
    if hasattr(model, "provenance"):
        assert json.loads(json.dumps(model.provenance)) == model.provenance
        assert kind in CONTRASTIVE or 0 < model.chance < 1
