"""Ensemble pretraining against a step written by hand, the signs of its regulariser, what is shared and reported."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import L2, Linf, ProjectedGradientDescent
from advss_tf.encoders import fused, load_encoder
from advss_tf.errors import InvalidInput
from advss_tf.pretext import EnsemblePretraining, ensemble
from advss_tf.pretext.members import part_of
from advss_tf.serving import export_encoder
from advss_tf.training import Batch
from advss_tf.training.reporting import headlines

PAIR = ("rotation", {"kind": "jigsaw", "grid": 2, "num_permutations": 3})
SELFIE = {"kind": "selfie", "grid": 2, "num_masked": 2, "num_layers": 1, "num_heads": 2, "dropout": 0.0}
ATTACK = ProjectedGradientDescent(Linf(0.1), num_steps=1)
RATE = 0.5


def network():
    """tanh and no batch norm, (B, 8, 8, 3) -> (B, 32): what a step by hand can repeat."""

    def convolution(channels, name, seed):
        start = keras.initializers.HeNormal(seed=seed)
        return keras.layers.Conv2D(channels, 3, 2, "same", activation="tanh", kernel_initializer=start, name=name)

    images = keras.Input((8, 8, 3), name="images")
    x = convolution(8, "stage2_conv", 2)(convolution(4, "stage1_conv", 1)(images))
    return keras.Model(images, keras.layers.Flatten(name="features")(x))


def ensemble_of(encoder=None, *, tasks=PAIR, attack=ATTACK, **options):
    model = EnsemblePretraining(encoder or network(), tasks=tasks, attack=attack, **options)
    model.compile(optimizer=keras.optimizers.SGD(RATE))
    return model


def posed(model, images, seed=0):
    return model.pose(Batch(tf.constant(images)), tf.constant([seed, 1]))


def stepped(model, images):
    """What a training step reports, without tracing it first."""
    model.optimizer.build(model.trainable_variables)
    return model.train_step(tf.constant(images))


# A step by hand -------------------------------------------------------------------------------------------------------


def by_hand_loss(weights, kind, images, labels):
    """Cross-entropy of one task, from the equation of the network alone: `(batch,)`."""
    x = images
    for stage in (("trunk", "conv"), (kind, "conv")):
        x = tf.tanh(tf.nn.conv2d(x, weights[(*stage, "kernel")], 2, "SAME") + weights[(*stage, "bias")])
    logits = tf.reshape(x, (x.shape[0], -1)) @ weights[kind, "head", "kernel"] + weights[kind, "head", "bias"]
    return -tf.gather(tf.nn.log_softmax(logits), labels, batch_dims=1)


def by_hand_diversity(gradients):
    columns = [tf.reshape(gradient, (gradient.shape[0], -1)) for gradient in gradients]
    units = tf.stack([column / (tf.norm(column, axis=1, keepdims=True) + 1e-10) for column in columns], axis=2)
    return tf.linalg.slogdet(tf.matmul(units, units, transpose_a=True) + 1e-5 * tf.eye(len(gradients)))[1]


def by_hand_attack(weights, inputs, labels, *, num_steps, epsilon, step_size, weight):
    """Steepest ascent on Σ L_i + weight · h in an L2 ball around each task's images."""
    points = dict(inputs)
    for _ in range(num_steps):
        with tf.GradientTape() as outer:
            outer.watch(points)
            with tf.GradientTape() as inner:
                inner.watch(points)
                losses = [by_hand_loss(weights, kind, points[kind], labels[kind]) for kind in points]
                total = tf.add_n(losses)
            height = by_hand_diversity(list(inner.gradient(total, points).values()))
            climbed = total + weight * height
        slopes = outer.gradient(climbed, points)
        for kind, point in points.items():
            move = step_size * tf.math.l2_normalize(slopes[kind], axis=(1, 2, 3), epsilon=1e-30)
            away = point + move - inputs[kind]
            length = tf.norm(tf.reshape(away, (away.shape[0], -1)), axis=1)
            away *= tf.reshape(tf.minimum(1.0, epsilon / length), (-1, 1, 1, 1))
            points[kind] = tf.clip_by_value(inputs[kind] + away, 0.0, 1.0)
    return points


def weights_of(model):
    """The weights of the pair by what they are for; the trunk is the encoder's."""
    layers = {("trunk", "conv"): model.encoder.get_layer("stage1_conv")}
    for kind, puzzle in model.puzzles.items():
        layers |= {(kind, "conv"): puzzle.encoder.get_layer("stage2_conv"), (kind, "head"): puzzle.head}
    return {(*key, name): getattr(layer, name).value for key, layer in layers.items() for name in ("kernel", "bias")}


def test_a_step_is_the_one_written_by_hand(tiny_images):
    """Two tasks, two steps of the attack, λ = 0.5: all weights after a step of SGD."""
    images, settings = 0.4 + 0.2 * tiny_images, {"num_steps": 2, "step_size": 0.2}
    attack = ProjectedGradientDescent(L2(0.3), random_start=False, **settings)
    model = ensemble_of(attack=attack, diversity_weight=0.5)
    weights = {key: tf.identity(value) for key, value in weights_of(model).items()}
    puzzles = []
    model.pose = lambda batch, seed: puzzles.append(EnsemblePretraining.pose(model, batch, seed)) or puzzles[-1]
    reported = stepped(model, images)

    labels = puzzles[0].targets
    clean = {kind: puzzles[0].inputs[f"{kind}_images"] for kind in labels}
    attacked = by_hand_attack(weights, clean, labels, epsilon=0.3, weight=0.5, **settings)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        with tf.GradientTape() as inner:
            inner.watch(attacked)
            adversarial = [by_hand_loss(weights, kind, attacked[kind], labels[kind]) for kind in labels]
            total = tf.add_n(adversarial)
        height = by_hand_diversity(list(inner.gradient(total, attacked).values()))
        losses = [by_hand_loss(weights, kind, clean[kind], labels[kind]) for kind in labels] + adversarial
        loss = tf.reduce_mean(tf.add_n(losses) / len(losses) + 0.5 * height)
    slopes = tape.gradient(loss, weights)

    assert float(reported["loss"]) == pytest.approx(float(loss), rel=1e-4)
    assert float(reported["diversity"]) == pytest.approx(float(tf.reduce_mean(height)), rel=1e-3)
    for key, value in weights_of(model).items():
        np.testing.assert_allclose(value, weights[key] - RATE * slopes[key], atol=2e-5, err_msg=str(key))
        assert np.abs(slopes[key]).max() > 1e-4, key


# The regulariser ------------------------------------------------------------------------------------------------------


def heights(model, inputs, puzzle):
    return model.descend(inputs, puzzle, training=True)["diversity"].numpy()


def test_the_attack_raises_the_diversity_and_the_weights_lower_it(tiny_images):
    """λ so large that the losses hardly count: the attack turns gradients apart, a step of the weights aligns them."""
    attack = ProjectedGradientDescent(L2(0.5), num_steps=5, step_size=0.1, random_start=False)
    model = ensemble_of(attack=attack, diversity_weight=1000.0)
    # Aligned to begin with: the same puzzle in all but name.
    model.puzzles["jigsaw"].encoder.set_weights(model.puzzles["rotation"].encoder.get_weights())
    puzzle = posed(model, tiny_images)
    puzzle.inputs["jigsaw_images"] = puzzle.inputs["rotation_images"] + 0.0

    context = model.context(puzzle, training=False)
    attacked = attack(lambda x: model.climb(x, puzzle, context, training=False), puzzle.inputs, tf.constant([0, 0]))
    before, after = heights(model, puzzle.inputs, puzzle), heights(model, attacked, puzzle)
    assert (after > before).all() and after.mean() > 0.8 * before.mean()

    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model.total(model.descend(attacked, puzzle, training=True)))
    for variable, slope in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(2e-5 * slope)
    assert heights(model, attacked, puzzle).mean() < after.mean() - 1e-4


def test_a_weight_of_zero_pays_for_no_second_derivative(monkeypatch, tiny_images):
    def refused(gradients):
        raise AssertionError("computed for nothing")

    def operations(weight):
        model = ensemble_of(diversity_weight=weight)
        traced = tf.function(model.train_step).get_concrete_function(tf.TensorSpec((8, 8, 8, 3)))
        functions = traced.graph.as_graph_def().library.function
        nodes = [*traced.graph.as_graph_def().node, *(node for function in functions for node in function.node_def)]
        return sum(node.op.startswith("Conv2D") for node in nodes)

    paid = operations(0.1)
    monkeypatch.setattr(ensemble, "diversity", refused)
    assert operations(0.0) < 0.75 * paid
    assert "diversity" not in stepped(ensemble_of(diversity_weight=0.0), tiny_images)


def test_without_an_attack_there_is_no_diversity(tiny_images):
    model = ensemble_of(attack=None, eval_attack=ATTACK)
    assert set(model.loss_weights.items()) == {("rotation_clean_loss", 0.5), ("jigsaw_clean_loss", 0.5)}
    assert model.provenance["diversity_weight"] == 0.0 and ensemble_of().provenance["diversity_weight"] == 0.1
    logs = model.test_step(tf.constant(tiny_images))
    assert "diversity" not in logs and {"accuracy", "robust_accuracy", "jigsaw_robust_accuracy"} <= logs.keys()


def test_the_terms_are_the_mean_of_the_tasks_and_the_weight_of_the_diversity():
    model = ensemble_of(tasks=({"kind": "rotation", "clean_weight": 0.25}, PAIR[1]), diversity_weight=0.2)
    assert model.loss_weights == {
        "rotation_clean_loss": 0.125, "rotation_adversarial_loss": 0.375,
        "jigsaw_clean_loss": 0.25, "jigsaw_adversarial_loss": 0.25, "diversity": 0.2,
    }  # fmt: skip


# Evaluation -----------------------------------------------------------------------------------------------------------


def test_evaluation_attacks_each_task_as_if_it_were_alone(tiny_images):
    model = ensemble_of(diversity_weight=100.0)
    attack = ProjectedGradientDescent(L2(0.5), num_steps=3, random_start=False)
    puzzle = posed(model, tiny_images)
    context, seed = model.context(puzzle, training=False), tf.constant([0, 0])
    jointly = attack(lambda x: model.probe(x, puzzle, context, training=False), puzzle.inputs, seed)
    for kind, task in model.puzzles.items():
        own = part_of(kind, puzzle)
        alone = attack(lambda x, t=task, p=own: t.probe(x, p, None, training=False), own.inputs, seed)
        np.testing.assert_allclose(jointly[f"{kind}_images"], alone["images"], atol=1e-5)


def test_what_is_reported_is_each_task_and_the_mean(tiny_images):
    model = ensemble_of(tasks=(*PAIR, SELFIE))
    trained = {name: float(value) for name, value in stepped(model, tiny_images).items()}
    model.reset_metrics()
    for logs in (trained, model.test_step(tf.constant(tiny_images))):
        for name in ("accuracy", "robust_accuracy"):
            found = [float(logs[f"{kind}_{name}"]) for kind in model.puzzles]
            assert float(logs[name]) == pytest.approx(sum(found) / 3, abs=1e-6)
        assert float(logs["diversity"]) < 1e-4
    assert model.chance == pytest.approx((1 / 4 + 1 / 4 + 1 / 2) / 3)
    assert model.provenance["tasks"][0] == {"task": "rotation", "chance": 0.25}


def test_where_evaluation_attacks_nothing_it_reports_nothing_as_robust(tiny_images):
    logs = ensemble_of(eval_attack=None).test_step(tf.constant(tiny_images))
    of_each = {f"{kind}_{name}" for kind in ("rotation", "jigsaw") for name in ("clean_loss", "accuracy")}
    assert logs.keys() == {"loss", "accuracy", *of_each}
    clean = [float(logs[f"{kind}_clean_loss"]) for kind in ("rotation", "jigsaw")]
    assert float(logs["loss"]) == pytest.approx(sum(clean) / 2, rel=1e-6)


@pytest.mark.parametrize("attack", [None, ATTACK], ids=["P2", "P3"])
def test_evaluation_attacks_and_measures_the_branch_that_is_handed_over(attack, scattered_branches, tiny_images):
    """What the attack climbed at its start is the sum of the clean losses that are reported."""
    from_the_images = ProjectedGradientDescent(Linf(0.1), num_steps=1, random_start=False)
    model = ensemble_of(scattered_branches(), attack=attack, eval_attack=from_the_images, diversity_weight=0.0)
    logs = model.test_step(tf.constant(tiny_images))
    clean = [float(logs[f"{kind}_clean_loss"]) for kind in ("rotation", "jigsaw")]
    assert float(logs["attack_climb"]) == pytest.approx(sum(clean), rel=1e-4)


def test_the_puzzles_of_one_step_are_drawn_from_different_seeds(tiny_images):
    first, other = posed(ensemble_of(), tiny_images), posed(ensemble_of(tasks=PAIR[::-1]), tiny_images)
    assert set(first.inputs) == {"rotation_images", "jigsaw_images"} == set(other.inputs)
    assert (first.targets["rotation"] != other.targets["rotation"]).numpy().any()


# What is shared and handed over ---------------------------------------------------------------------------------------


def moved_layers(encoder, before):
    return {layer.name for layer, old in zip(encoder.layers, before, strict=True) if _moved(layer, old)}


def _moved(layer, old):
    return any((new != start).any() for new, start in zip(layer.get_weights(), old, strict=True))


@pytest.mark.parametrize(
    ("shared", "tasks", "expected"),
    [
        ("trunk", PAIR, {"stage1_conv"}),
        ("trunk", (PAIR[0], SELFIE), {"stage1_conv"}),
        # Selfie goes on behind the trunk, in layers of its own.
        ("trunk", (PAIR[0], {**SELFIE, "boundary": "stage2", "faithful": True}), {"stage1_conv"}),
        ("encoder", PAIR, {"stage1_conv", "stage2_conv"}),
        ("encoder", (PAIR[0], SELFIE), {"stage1_conv", "stage2_conv"}),
    ],
)
def test_what_is_handed_over_has_been_trained_as_far_as_it_is_shared(shared, tasks, expected, tiny_images, tmp_path):
    encoder = network()
    before = [layer.get_weights() for layer in encoder.layers]
    own_norms = False if "boundary" in tasks[-1] else None
    model = ensemble_of(encoder, tasks=tasks, shared=shared, diversity_weight=0.0, own_norms=own_norms)
    stepped(model, tiny_images)
    assert moved_layers(encoder, before) == expected
    handed = load_encoder(export_encoder(model, tmp_path / "encoder"))
    assert moved_layers(handed, before) == expected
    np.testing.assert_allclose(handed(tiny_images), encoder(tiny_images), atol=1e-5)


def test_every_layer_of_every_task_is_trained_and_each_variable_once():
    model = ensemble_of(tasks=(*PAIR, SELFIE))
    (rotation, jigsaw, selfie), trunk = model.puzzles.values(), model.encoder.get_layer("stage1_conv")
    own = [puzzle.encoder.get_layer("stage2_conv") for puzzle in (rotation, jigsaw)]
    layers = [trunk, *own, rotation.head, jigsaw.head, selfie.pooling, selfie.positions]
    expected = [id(variable) for layer in layers for variable in layer.variables]
    assert sorted(id(variable) for variable in model.trainable_variables) == sorted(expected)
    assert len(set(expected)) == len(expected) > 20
    assert len(model.networks) == 3 and model.networks[2] is model.puzzles["selfie"].patch_network


def test_what_is_loaded_has_the_same_tasks_and_a_call_answers_each(tiny_images, tmp_path):
    model = ensemble_of(tasks=(PAIR[0], SELFIE), diversity_weight=0.3, faithful=True, seed=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.tasks == model.tasks and (loaded.diversity_weight, loaded.shared) == (0.3, "trunk")
    assert loaded.puzzles["selfie"].mask_per == "batch"
    ours, theirs = (one(tf.constant(tiny_images)) for one in (model, loaded))
    assert {kind: values.shape for kind, values in ours.items()} == {"rotation": (8, 4), "selfie": (8, 2, 2)}
    for kind in ours:
        np.testing.assert_allclose(ours[kind], theirs[kind], atol=1e-6)


def normed(norm, *, nested=0):
    """A network with a norm behind its first stage, inside of so many models."""
    images = x = keras.Input((8, 8, 3), name="images")
    x = keras.layers.Conv2D(4, 3, 2, "same", name="stage1_conv")(x)
    for number in range(nested):
        inner = keras.Input(x.shape[1:])
        norm = keras.Model(inner, norm(inner), name=f"stage1_inside{number}")
    x = keras.layers.Conv2D(6, 3, 2, "same", name="stage2_conv")(norm(x))
    return keras.Model(images, keras.layers.Flatten(name="features")(x))


def norms():
    return {
        "group": keras.layers.GroupNormalization(2, name="stage1_norm"),
        "layer": keras.layers.LayerNormalization(name="stage1_norm"),
        "batch": keras.layers.BatchNormalization(name="stage1_norm"),
        "batch over rows": keras.layers.BatchNormalization(axis=1, name="stage1_norm"),
        "frozen over rows": keras.layers.BatchNormalization(axis=1, name="stage1_norm", trainable=False),
    }


@pytest.mark.parametrize("nested", [0, 2])
@pytest.mark.parametrize("kind", ["group", "layer", "batch over rows"])
def test_a_norm_whose_second_derivatives_are_wrong_is_refused_where_they_are_needed(kind, nested):
    sentence = (
        r"second derivatives.*plain batch norm of images, or diversity_weight=0\. Received: the layer 'stage1_norm'"
    )
    with pytest.raises(InvalidInput, match=sentence):
        ensemble_of(normed(norms()[kind], nested=nested))
    assert ensemble_of(normed(norms()[kind], nested=nested), diversity_weight=0.0).diversity_weight == 0
    assert "diversity" not in ensemble_of(normed(norms()[kind], nested=nested), attack=None).loss_weights
    for right in ("batch", "frozen over rows"):
        assert "diversity" in ensemble_of(normed(norms()[right], nested=nested)).loss_weights


@pytest.mark.parametrize(
    ("kind", "exact"), [("group", False), ("layer", False), ("batch", True), ("batch over rows", False)]
)
def test_the_norms_that_are_refused_are_those_whose_second_derivatives_are_wrong(kind, exact):
    """The slope of u · ∂(w · y)/∂x along one direction of the pixels, against differences; u and it sum to no zero."""
    rng = np.random.default_rng(0)
    norm = norms()[kind]
    norm.build((None, 3, 3, 4))
    x, weights = (tf.constant(rng.normal(size=(2, 3, 3, 4)), tf.float32) for _ in range(2))
    u, along = (tf.constant(rng.random(size=(2, 3, 3, 4)), tf.float32) for _ in range(2))
    call = fused(keras.Sequential([keras.Input((3, 3, 4)), norm])) if "batch" in kind else norm

    def height_along_u(point):
        with tf.GradientTape() as tape:
            tape.watch(point)
            height = tf.reduce_sum(weights * call(point))
        return tf.reduce_sum(u * tape.gradient(height, point))

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = height_along_u(x)
    slope = float(tf.reduce_sum(tape.gradient(value, x) * along))
    differences = float(height_along_u(x + 0.01 * along) - height_along_u(x - 0.01 * along)) / 0.02
    assert (abs(slope - differences) < 0.01 * abs(differences)) == exact, (slope, differences)


@pytest.mark.parametrize(("asked", "options", "compiled"), [
    ("auto", {}, False), (True, {}, True), (False, {}, False), ("auto", {"diversity_weight": 0.0}, True),
])  # fmt: skip
def test_xla_is_asked_for_where_there_are_second_derivatives(asked, options, compiled, monkeypatch):
    """As on one GPU, where Keras compiles unless told otherwise."""
    monkeypatch.setattr(EnsemblePretraining, "_resolve_auto_jit_compile", lambda model: True, raising=False)
    model = ensemble_of(**options)
    model.compile(keras.optimizers.SGD(RATE), jit_compile=asked)
    assert model.jit_compile is compiled


def test_a_loaded_one_is_compiled_as_it_was(tiny_images, tmp_path):
    model = ensemble_of()
    stepped(model, tiny_images)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.compiled and loaded.jit_compile is False and float(loaded.optimizer.learning_rate) == RATE
    assert int(loaded.optimizer.iterations) == 1


def test_each_task_s_accuracy_stands_beside_what_guessing_it_reaches():
    model = ensemble_of(tasks=(*PAIR, SELFIE))
    own = {"rotation": 0.25, "jigsaw": 0.25, "selfie": 0.5}
    of_each = {f"{kind}_{name}": chance for kind, chance in own.items() for name in ("accuracy", "robust_accuracy")}
    mean = pytest.approx(1 / 3)
    assert model.chances == {"accuracy": mean, "robust_accuracy": mean, **of_each}
    logs = {"loss": 1.0, "rotation_clean_loss": 1.0, "accuracy": 0.4, "selfie_accuracy": 0.6, "diversity": -1.0}
    shown = headlines({**logs, "val_jigsaw_robust_accuracy": 0.25}, model.chances)
    assert shown == [
        "loss 1.000", "accuracy 40.0 % (chance 33.3 %)", "selfie_accuracy 60.0 % (chance 50.0 %)",
        "val_jigsaw_robust_accuracy 25.0 % (chance 25.0 %)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shared": "head"}, "`shared` is not known"),
        ({"boundary": "stage9"}, "bears this mark"),
        ({"diversity_weight": -0.1}, "`diversity_weight` turns the sign"),
        ({"diversity_weight": float("nan")}, "`diversity_weight` turns the sign"),
        ({"diversity_weight": -0.1, "attack": None}, "`diversity_weight` turns the sign"),
        ({"shared": "encoder", "boundary": "stage1"}, "`boundary` ends a trunk, and with shared='encoder' there is"),
        ({"tasks": ["rotation"]}, "`tasks` make no ensemble"),
        ({"encoder": keras.Sequential()}, "`encoder` is not a model of images"),
    ],
)
def test_what_it_cannot_use_is_refused(options, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        ensemble_of(**options)


def test_batch_norms_of_images_are_not_moved_by_patches_unless_faithful(tiny_encoder, tiny_images):
    """Selfie goes through the trunk last: where it has no norms of its own, its patches move those of the encoder."""
    norm = tiny_encoder.get_layer("stem_norm")
    assert [ensemble_of(tiny_encoder, faithful=faithful).own_norms for faithful in (False, True)] == [True, False]
    for own_norms in (True, False):
        model = ensemble_of(tiny_encoder, tasks=(PAIR[0], SELFIE), own_norms=own_norms, diversity_weight=0.0)
        puzzle = posed(model, tiny_images)
        before = norm.moving_mean.numpy()
        selfie = model.puzzles["selfie"]
        selfie.descend(puzzle.inputs | {"images": tf.constant(tiny_images)}, part_of("selfie", puzzle), training=True)
        assert (norm.moving_mean.numpy() == before).all() == own_norms
