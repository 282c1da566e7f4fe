"""Recipes are read from files, written back, named by a fingerprint, and compared."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import pytest

from advss_tf.config import (
    RecipeError,
    difference,
    dump_recipe,
    json_schema,
    load_recipe,
    make_recipe,
    recipe_fingerprint,
)
from advss_tf.errors import InvalidInput

ATTACK = {"epsilon": "8/255", "num_steps": 5}
SGD = {"kind": "sgd", "learning_rate": 0.1}
VALUES = {
    "name": "tiny",
    "seed": 3,
    "data": {"kind": "digits", "labels_per_class": 5},
    "encoder": {"kind": "resnet20", "width": 4},
    "pretrain": {"task": {"kind": "rotation"}, "attack": ATTACK, "epochs": 10, "optimizer": SGD},
    "finetune": {
        "start": "pretrained", "train": "full", "how": "trades", "attack": ATTACK, "epochs": 4, "optimizer": SGD,
    },
}  # fmt: skip


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "recipe.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _refusal(path: Path | str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    (fault,) = caught.value.faults
    return fault


def test_a_dumped_recipe_loads_to_an_equal_recipe_and_writes_every_default(tmp_path):
    recipe = make_recipe(VALUES)
    text = dump_recipe(recipe)
    again = load_recipe(_write(tmp_path, text))
    assert again == recipe
    assert dump_recipe(again) == text
    for default in ("every_seconds: 60.0", "num_restarts: 1", "jit_compile: false", "label_fraction: null"):
        assert default in text


@pytest.mark.parametrize("title", ["no", "1e-4", "null", "010", "a: b # c", "é 漢\n", "2024-01-01", "'", "~", " x "])
def test_text_that_looks_like_something_else_survives_a_round_trip(tmp_path, title):
    recipe = make_recipe({**VALUES, "report": {"title": title}})
    assert load_recipe(_write(tmp_path, dump_recipe(recipe))).report.title == title


@pytest.mark.parametrize("epsilon", [8 / 255, 0.1, 1 / 3, 1e-7, 0, 1, 254 / 255, 0.1 + 0.2])
def test_an_epsilon_survives_a_round_trip_to_the_last_bit(tmp_path, epsilon):
    recipe = make_recipe({**VALUES, "evaluate": {"epsilons": [epsilon]}})
    assert load_recipe(_write(tmp_path, dump_recipe(recipe))).evaluate.epsilons == (epsilon,)


def test_pixels_are_written_as_a_fraction_of_255_where_they_are_one():
    text = dump_recipe(make_recipe({**VALUES, "evaluate": {"epsilons": [8 / 255, 0.1]}}))
    assert "  epsilons:\n  - 8/255\n  - 0.1\n" in text


def test_values_given_from_python_are_left_as_they_were():
    before = copy.deepcopy(VALUES)
    make_recipe(VALUES, ["pretrain.epochs=3", "encoder.kind=wide_resnet"])
    assert before == VALUES


def test_equal_recipes_have_equal_fingerprints_however_they_are_written(tmp_path):
    spelled_out = make_recipe(VALUES, ["pretrain.attack.epsilon=0.03137254901960784", "report.examples=8"])
    assert recipe_fingerprint(spelled_out) == recipe_fingerprint(make_recipe(VALUES))
    reordered = make_recipe(dict(reversed(VALUES.items())))
    assert recipe_fingerprint(reordered) == recipe_fingerprint(make_recipe(VALUES))
    assert len(recipe_fingerprint(reordered)) == 64


def test_another_value_gives_another_fingerprint():
    prints = {recipe_fingerprint(make_recipe(VALUES, [o])) for o in ("seed=3", "seed=4", "checkpoint.keep=3")}
    assert len(prints) == 3


def test_the_difference_of_two_recipes_is_one_line_a_field():
    old = make_recipe(VALUES)
    new = make_recipe(
        VALUES, ["pretrain.epochs=12", "pretrain.attack.epsilon=4/255", "data.flip=true", "finetune=null"]
    )
    assert difference(old, old) == []
    lines = difference(old, new)
    assert lines[:3] == [
        "data.flip: false -> true",
        "pretrain.epochs: 10 -> 12",
        "pretrain.attack.epsilon: 8/255 -> 4/255",
    ]
    assert len(lines) == 4 and lines[3].startswith("finetune: {") and lines[3].endswith(" -> null")


def test_the_difference_of_two_kinds_names_what_came_and_what_went():
    lines = difference(make_recipe(VALUES), make_recipe(VALUES, ["encoder.kind=wide_resnet"]))
    assert lines == ["encoder.kind: resnet20 -> wide_resnet", "encoder.depth: absent -> 28"]


def test_every_fault_is_reported_at_once_on_a_line_of_its_own():
    with pytest.raises(RecipeError) as caught:
        make_recipe({**VALUES, "seed": -1, "nmae": "x"}, ["pretrain.epoch=3", "encoder.width=0", "finetune.beta=x"])
    error = caught.value
    assert [fault.split(":")[0] for fault in error.faults] == [
        "pretrain.epoch", "seed", "encoder.width", "finetune.beta", "nmae",
    ]  # fmt: skip
    assert str(error).splitlines() == [
        "The recipe from Python has 5 faults:",
        *(f"  {fault}" for fault in error.faults),
    ]
    assert isinstance(error, InvalidInput)
    assert error.__cause__ is None and error.__suppress_context__  # no traceback of pydantic below it


def test_the_error_names_the_file(tmp_path):
    path = _write(tmp_path, "name: x\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml has 3 faults"):
        load_recipe(path)


def test_a_file_that_does_not_exist_is_refused_with_the_nearest_that_does(tmp_path):
    (tmp_path / "digits.yaml").write_text("")
    fault = _refusal(tmp_path / "digit.yaml")
    assert "digit.yaml: does not exist (did you mean" in fault and "digits.yaml'?). Expected: the path" in fault
    assert "does not exist. Expected" in _refusal(tmp_path / "nowhere" / "x.yaml")


def test_a_folder_is_refused(tmp_path):
    assert f"{tmp_path}: is a folder. Expected: the path of a YAML file." in _refusal(tmp_path)


def test_a_special_file_is_refused_unread():
    assert _refusal("/dev/zero").startswith("/dev/zero: is a special file. Expected:")


def test_a_file_that_is_not_utf8_is_refused_with_its_line(tmp_path):
    fault = _refusal(_write(tmp_path, b"name: x\ntitle: \xff\n"))
    assert "recipe.yaml:2: is not text in UTF-8. Expected: a file saved as UTF-8. Received: the byte 0xff." in fault


def test_a_huge_file_is_refused(tmp_path):
    assert "is too large. Expected: at most 1048576 bytes." in _refusal(_write(tmp_path, b"#" * (2**20 + 1)))


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "null", "{}"])
def test_an_empty_file_is_refused(tmp_path, text):
    assert "recipe.yaml: is empty. Expected: keys such as name" in _refusal(_write(tmp_path, text))


@pytest.mark.parametrize("text", ["- name: x\n", "[1, 2]", "just words", "3", "true"])
def test_anything_but_keys_at_the_top_is_refused(tmp_path, text):
    assert "recipe.yaml: must be a section with keys. Expected: keys such as name" in _refusal(_write(tmp_path, text))


def test_a_syntax_error_is_one_line_with_file_and_line(tmp_path):
    fault = _refusal(_write(tmp_path, "name: x\ndata: [1, 2\nseed: 3\n"))
    assert "recipe.yaml:3: is not YAML 1.2:" in fault and "\n" not in fault and "Received: 'seed: 3'." in fault


def test_a_mark_of_byte_order_and_windows_line_ends_are_read(tmp_path):
    text = "\ufeff" + dump_recipe(make_recipe(VALUES)).replace("\n", "\r\n")
    assert load_recipe(_write(tmp_path, text)) == make_recipe(VALUES)


def test_the_json_schema_describes_every_field_and_refuses_unknown_keys():
    schema = json_schema()
    sections = [schema, *schema["$defs"].values()]
    assert len(sections) > 15
    for section in sections:
        assert section["additionalProperties"] is False
        for name, field in section["properties"].items():
            # Beside a reference pydantic leaves out a description that is that of the section.
            described = field if "description" in field else schema["$defs"][field["$ref"].rpartition("/")[2]]
            assert described["description"].endswith("."), (section["title"], name)


def test_a_recipe_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        make_recipe(VALUES).seed = 4


def test_reading_recipes_needs_neither_tensorflow_nor_numpy_and_under_a_second():
    code = (
        "import sys, time; import advss_tf.config; "
        "print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules], time.process_time())"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    loaded, seconds = done.stdout.rsplit(maxsplit=1)
    assert loaded == "[]"
    assert float(seconds) < 1.0  # of the processor, so that a busy machine does not matter
