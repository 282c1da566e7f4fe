"""The strict hand-off: every variable arrives, or nothing does; and a description runs no code."""

from __future__ import annotations

import copy
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from advss_tf.encoders.description import describe, rebuild
from advss_tf.encoders.handoff import (
    assign_strictly,
    load_encoder,
    origin_of,
    origin_of_model,
    read_provenance,
    read_variables,
    variables_by_path,
)
from advss_tf.encoders.normalization import BranchedBatchNormalization
from advss_tf.encoders.stages import reset_after
from advss_tf.errors import InvalidInput
from advss_tf.serving import export_encoder
from advss_tf.training.averages import copied

CARD = "assets.extra/advss/encoder.json"


def network(name: str = "small") -> keras.Model:
    """8x8x3 -> 6 features, with batch norm, dropout, a regularizer, an activation function and a bare `+`."""
    images = keras.Input((8, 8, 3), name="images")
    x = keras.layers.Conv2D(6, 3, kernel_regularizer="l2", name="stem_conv")(images)
    x = keras.layers.BatchNormalization(name="stem_norm")(x)
    x = x + keras.layers.Conv2D(6, 3, padding="same", activation=keras.activations.silu, name="stage1_conv")(x)
    x = keras.layers.Dropout(0.5, name="stage1_dropout")(x)
    x = keras.layers.Dropout(0.5, name="stage2_dropout")(x)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D(name="features")(x), name=name)


def randomised(model: keras.Model) -> keras.Model:
    numbers = np.random.default_rng(0)
    for variable in model.variables:
        if "seed_generator" not in variable.path:
            variable.assign(numbers.uniform(0.1, 1.0, variable.shape))
    return model


@pytest.fixture(scope="module")
def encoder():
    return randomised(network())


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    provenance = {"recipe": {"epochs": 2}, "seed": 7, "pretext_accuracy": 0.5}
    return export_encoder(encoder, tmp_path_factory.mktemp("export") / "encoder", provenance=provenance)


@pytest.fixture
def damaged(exported, tmp_path):
    """A copy of the export that a test may damage, and a function that edits its encoder.json."""
    folder = tmp_path / "encoder"
    shutil.copytree(exported, folder)

    def edit(change):
        card = json.loads((folder / CARD).read_text())
        change(card)
        (folder / CARD).write_text(json.dumps(card))
        return folder

    return edit


# Loading ----------------------------------------------------------------------------------------------------


def test_loaded_encoder_computes_what_was_exported(encoder, exported, tiny_images):
    loaded = load_encoder(exported)
    np.testing.assert_allclose(loaded(tiny_images), encoder(tiny_images), atol=1e-6)
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in encoder.layers]


def test_every_variable_arrives_with_its_value__moving_averages_and_seed_states_too(encoder, exported):
    loaded, original = variables_by_path(load_encoder(exported)), variables_by_path(encoder)
    assert {"stem_norm/moving_variance", "seed_generator_1/seed_generator_state"} < set(loaded)
    assert set(loaded) == set(original)
    for path, variable in original.items():
        np.testing.assert_array_equal(loaded[path], variable)


def test_loaded_encoder_trains(exported, tiny_images):
    loaded = load_encoder(exported)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(loaded(tiny_images, training=True) ** 2)
    gradients = tape.gradient(loss, loaded.trainable_variables)
    assert loaded.trainable_variables[0].path == "stem_conv/kernel"
    assert len(gradients) == 6
    assert float(tf.norm(gradients[0])) > 0


def test_encoder_exported_frozen_is_loaded_trainable(tmp_path):
    frozen = network()
    frozen.trainable = False
    assert len(load_encoder(export_encoder(frozen, tmp_path / "encoder")).trainable_variables) == 6


def test_provenance_is_what_was_given_and_the_versions(exported):
    provenance = read_provenance(exported)
    assert (provenance["seed"], provenance["recipe"], provenance["pretext_accuracy"]) == (7, {"epochs": 2}, 0.5)
    assert provenance["versions"]["tensorflow"] == tf.__version__
    assert set(provenance["versions"]) == {"advss_tf", "tensorflow", "keras"}


# Refusals of folders ----------------------------------------------------------------------------------


def test_variable_lacking_in_the_list_is_named(damaged):
    folder = damaged(lambda card: card["variables"].pop(0))
    with pytest.raises(InvalidInput, match=r"does not list the variables.*missing: stem_conv/kernel\."):
        load_encoder(folder)


def test_all_differences_are_named_at_once(damaged):
    def change(card):
        card["variables"][0]["shape"] = [3, 3, 3, 5]
        card["variables"][1]["path"] = "stem_conv/offset"
        card["variables"][-1]["dtype"] = "float32"

    with pytest.raises(InvalidInput) as refusal:
        load_encoder(damaged(change))
    for part in (
        "missing: stem_conv/bias",
        "unused: stem_conv/offset",
        "mis-shaped: stem_conv/kernel (3, 3, 3, 5) for (3, 3, 3, 6)",
        "of another type: seed_generator_1/seed_generator_state float32 for",
    ):
        assert part in str(refusal.value)


def test_network_that_lacks_a_stored_variable_is_refused(damaged):
    def without_bias(card):
        next(row for row in card["config"]["config"]["layers"] if row["name"] == "stem_conv")["config"]["use_bias"] = (
            False
        )
        card["variables"] = [row for row in card["variables"] if row["path"] != "stem_conv/bias"]

    with pytest.raises(InvalidInput, match=r"arrays do not match.*unused: stem_conv/bias\."):
        load_encoder(damaged(without_bias))


def test_truncated_changed_or_missing_variables_are_refused(damaged):
    folder = damaged(lambda card: None)
    file = folder / "variables" / "variables.data-00000-of-00001"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with pytest.raises(InvalidInput, match="missing or damaged"):
        load_encoder(folder)
    file.write_bytes(bytes(byte ^ 1 for byte in whole))
    with pytest.raises(InvalidInput, match="missing or damaged"):
        load_encoder(folder)
    (folder / "variables" / "variables.index").unlink()
    with pytest.raises(InvalidInput, match="missing or damaged"):
        load_encoder(folder)


def test_newer_format_is_refused(damaged):
    folder = damaged(lambda card: card.update(format_version=2))
    with pytest.raises(InvalidInput, match=r"newer format.*format_version <= 1.*format_version=2"):
        load_encoder(folder)


def test_broken_json_is_refused(damaged):
    folder = damaged(lambda card: None)
    (folder / CARD).write_text('{"format_version": 1')
    with pytest.raises(InvalidInput, match=r"no readable encoder\.json"):
        load_encoder(folder)
    (folder / CARD).write_text("[]")
    with pytest.raises(InvalidInput, match=r"encoder\.json is not complete"):
        load_encoder(folder)


@pytest.mark.parametrize("row", [{"shape": [1]}, "stem", {"path": "a", "shape": [1], "dtype": "no such type"}])
def test_damaged_list_of_variables_is_refused(damaged, row):
    folder = damaged(lambda card: card["variables"].append(row))
    with pytest.raises(InvalidInput, match="list of variables in the export is damaged"):
        load_encoder(folder)


@pytest.mark.parametrize("read", [load_encoder, read_provenance, read_variables])
def test_path_that_is_no_export_is_refused_with_what_it_lacks(tmp_path, read):
    with pytest.raises(InvalidInput, match="nothing there"):
        read(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="a file"):
        read(tmp_path / "file")
    with pytest.raises(InvalidInput, match=r"no saved_model\.pb, no assets\.extra/advss/encoder\.json"):
        read(tmp_path)


def test_foreign_saved_model_is_refused(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "foreign"))
    with pytest.raises(InvalidInput, match=r"not an encoder or classifier exported by advss_tf.*\(no assets\.extra"):
        load_encoder(tmp_path / "foreign")


# assign_strictly ----------------------------------------------------------------------------------------------------


def arrays_of(model):
    return {path: variable.numpy() for path, variable in variables_by_path(model).items()}


def test_assign_strictly_gives_every_variable_its_array(encoder):
    model = network()
    assign_strictly(model, arrays_of(encoder))
    for path, array in arrays_of(encoder).items():
        np.testing.assert_array_equal(variables_by_path(model)[path], array)


def test_assign_strictly_changes_nothing_if_one_variable_is_wrong(encoder):
    model, arrays = network(), arrays_of(encoder)
    before = arrays_of(model)
    arrays["stem_norm/gamma"] = arrays["stem_norm/gamma"][:3]
    del arrays["stem_norm/beta"]
    arrays["other/kernel"] = np.zeros(3)
    with pytest.raises(InvalidInput) as refusal:
        assign_strictly(model, arrays)
    for part in ("missing: stem_norm/beta", "unused: other/kernel", "mis-shaped: stem_norm/gamma (3,) for (6,)"):
        assert part in str(refusal.value)
    for path, array in before.items():
        np.testing.assert_array_equal(variables_by_path(model)[path], array)


def test_assign_strictly__skip_leaves_what_begins_with_it(encoder):
    model = network()
    fresh = arrays_of(model)["stage1_conv/kernel"]
    arrays = {path: array for path, array in arrays_of(encoder).items() if path != "stage1_conv/bias"}
    assign_strictly(model, arrays, skip=["stage1_"])
    np.testing.assert_array_equal(variables_by_path(model)["stage1_conv/kernel"], fresh)
    np.testing.assert_array_equal(variables_by_path(model)["stem_conv/kernel"], arrays["stem_conv/kernel"])


def test_assign_strictly__skip_that_matches_nothing_is_refused(encoder):
    with pytest.raises(InvalidInput, match="'head/' in `skip` is the beginning of no variable path"):
        assign_strictly(network(), arrays_of(encoder), skip="head/")


def test_assign_strictly__floats_are_not_put_into_integers(encoder):
    arrays = arrays_of(encoder)
    arrays["seed_generator/seed_generator_state"] = np.array([0.5, 1.5])
    with pytest.raises(InvalidInput, match="of another type: seed_generator/seed_generator_state float64 for"):
        assign_strictly(network(), arrays)


def test_two_variables_with_one_path_are_refused():
    images = keras.Input((8, 8, 3))
    twins = keras.Model(images, network("one")(images) + network("other")(images))
    with pytest.raises(InvalidInput, match=r"same path.*'stem_conv/kernel' twice"):
        variables_by_path(twins)


# Descriptions ----------------------------------------------------------------------------------------------------


def test_description_is_json_and_rebuilds_the_same_layers(encoder):
    description = json.loads(json.dumps(describe(encoder)))
    twin = rebuild(description)
    assert describe(twin) == description
    assert list(variables_by_path(twin)) == list(variables_by_path(encoder))


def test_description_leaves_out_what_the_encoder_was_compiled_with():
    model = network()
    model.compile("sgd", "mse")
    assert "compile_config" not in json.dumps(describe(model))


def test_registered_layers_of_this_library_are_allowed(tiny_images):
    images = keras.Input((8, 8, 3))
    x = BranchedBatchNormalization(name="stem_norm")(images)
    model = keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))
    twin = rebuild(describe(model))
    assert isinstance(twin.get_layer("stem_norm"), BranchedBatchNormalization)


def test_models_without_a_layer_by_layer_config_are_refused(encoder):
    class Subclassed(keras.Model):
        pass

    for other in (Subclassed(), keras.Sequential()):
        with pytest.raises(InvalidInput, match="built Functional or Sequential"):
            describe(other)
    with pytest.raises(InvalidInput, match="one batch of images to one tensor"):
        describe(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))


def test_lambda_layers_are_refused_when_described_already():
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, keras.layers.Lambda(lambda x: x + 1)(images))
    with pytest.raises(InvalidInput, match="not allowed: 'Lambda'"):
        describe(model)


@keras.saving.register_keras_serializable(package="another")
class Foreign(keras.layers.Layer):
    """A layer that another program registered."""


MALICIOUS = [
    {"class_name": "Lambda", "module": "keras.layers", "registered_name": None, "config": {"function": "x"}},
    {"class_name": "TFSMLayer", "module": "keras.layers", "registered_name": None, "config": {"filepath": "x"}},
    {"class_name": "TorchModuleWrapper", "module": "keras.layers", "registered_name": None, "config": {}},
    {"class_name": "StringLookup", "module": "keras.layers", "config": {"vocabulary": "/etc/passwd"}},
    {"class_name": "Lambda", "module": "keras.src.layers.core.lambda_layer", "config": {}},
    {"class_name": "layers.Lambda", "module": "keras", "registered_name": None, "config": {}},
    {"class_name": "system", "module": "os", "registered_name": None, "config": {"command": "true"}},
    {"class_name": "function", "module": "os", "registered_name": "system", "config": "system"},
    {"class_name": "function", "module": "builtins", "registered_name": "eval", "config": "eval"},
    {"class_name": "function", "module": "keras.utils", "registered_name": "get_file", "config": "get_file"},
    {"class_name": "load_model", "module": "keras.models", "registered_name": None, "config": {}},
    {"class_name": "Foreign", "module": "x", "registered_name": "another>Foreign", "config": {}},
    {"class_name": "another>Foreign", "module": "keras.layers", "config": {}},
    {"class_name": "advss_tf>NoSuchLayer", "module": "advss_tf.stages", "config": {}},
    {"class_name": "__lambda__", "config": {"value": "x"}},
    {"class_name": "__typespec__", "module": "os", "spec_name": "x", "registered_name": None, "config": []},
    {"class_name": "Conv2D", "config": {}},  # no module: Keras' older reader
    {"module": "os", "registered_name": None, "config": {}},
    {"class_name": "Conv2D", "module": "keras.layers", "config": {}, "compile_config": {"loss": "mse"}},
    "another>Foreign",
]


@pytest.mark.parametrize("part", MALICIOUS, ids=lambda part: str(part)[:60])
@pytest.mark.parametrize("place", ["layer", "activation"])
def test_malicious_part_of_a_description_is_refused_before_keras_sees_it(encoder, monkeypatch, part, place):
    description = copy.deepcopy(describe(encoder))
    layer = description["config"]["layers"][1]
    if place == "activation":
        layer["config"]["activation"] = part
    elif isinstance(part, dict):
        layer.clear()
        layer.update({**part, "name": "stem_conv", "inbound_nodes": []})
    else:
        description["config"]["layers"][1] = part
    monkeypatch.setattr(keras.saving, "deserialize_keras_object", lambda *_, **__: pytest.fail("Keras saw it"))
    with pytest.raises(InvalidInput, match=r"not allowed|not the form|did not register"):
        rebuild(description)


def test_malicious_export_is_refused(damaged):
    def change(card):
        card["config"]["config"]["layers"][1].update({"module": "os", "class_name": "system"})

    with pytest.raises(InvalidInput, match=r"not allowed: 'system'.*module='os'"):
        load_encoder(damaged(change))


@pytest.mark.parametrize("description", [{}, [], {"config": {}}, None])
def test_something_that_is_no_description_is_refused(description):
    with pytest.raises(InvalidInput, match="not that of a network"):
        rebuild(description)


def test_description_that_keras_cannot_build_is_refused(encoder):
    description = describe(encoder)
    del description["config"]["layers"][1]["config"]["filters"]
    with pytest.raises(InvalidInput, match="Keras cannot rebuild the network"):
        rebuild(description)
    layer = describe(encoder)["config"]["layers"][1]
    with pytest.raises(InvalidInput, match="not that of a network"):
        rebuild({key: layer[key] for key in ("class_name", "module", "registered_name", "config")})


def test_a_loaded_encoder_remembers_where_it_is_from_and_so_do_its_copies_and_exports(encoder, tmp_path):
    assert origin_of_model(encoder) is None
    export_encoder(encoder, tmp_path / "told", provenance={"data": {"name": "photographs"}, "external": "labels"})
    loaded = load_encoder(tmp_path / "told")
    assert origin_of_model(loaded) == origin_of(tmp_path / "told")
    assert origin_of_model(loaded)["external"] == "labels" and origin_of_model(loaded)["labels"] is False
    assert origin_of_model(copied(loaded)) == origin_of_model(reset_after(loaded, "stage1")) == origin_of_model(loaded)
    words = []
    for said in (None, {"external": "more labels"}, {"external": "texts"}):
        export_encoder(loaded, tmp_path / "again", provenance=said)
        words.append(read_provenance(tmp_path / "again")["external"])
    assert words == ["labels", "more labels", "texts; labels"]
