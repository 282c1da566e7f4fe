"""The public door: every name is there, nothing is imported before it is asked for, and a slip is answered."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import advss_tf as advss

DOOR = Path(advss.__file__)


def _in_a_fresh_process(program: str, *, folder: Path | None = None) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_importing_the_package_starts_no_tensorflow_and_takes_no_time():
    program = """
import sys, time
started = time.process_time()
import advss_tf
seconds = time.process_time() - started
heavy = {"tensorflow", "keras", "numpy", "pydantic", "advss_tf.data", "advss_tf.training"} & set(sys.modules)
print(sorted(heavy), seconds < 0.3)
"""
    assert _in_a_fresh_process(program) == "[] True"


def test_what_needs_no_tensorflow_starts_none():
    recipe = DOOR.parents[1] / "configs" / "digits.yaml"
    program = f"""
import sys
import advss_tf
advss_tf.load_recipe({str(recipe)!r}), advss_tf.Workdir("run"), advss_tf.InvalidInput, advss_tf.__version__
dir(advss_tf), hasattr(advss_tf, "nothing")
print(sorted({{"tensorflow", "keras"}} & set(sys.modules)))
"""
    assert _in_a_fresh_process(program) == "[]"


@pytest.mark.parametrize("name", advss.__all__)
def test_every_public_name_is_there(name):
    assert getattr(advss, name) is not None
    assert name in dir(advss)


@pytest.mark.parametrize(("module", "names"), advss._NAMES_OF.items(), ids=advss._NAMES_OF)
def test_a_public_name_is_the_one_that_its_room_gives(module, names):
    room = importlib.import_module(f"advss_tf.{module}")
    for name in names:
        assert getattr(advss, name) is getattr(room, name)
        assert name in getattr(room, "__all__", vars(room))


def test_the_encoders_are_a_module():
    assert advss.encoders is importlib.import_module("advss_tf.encoders")


def test_type_checkers_see_the_names_that_are_given():
    tree = ast.parse(DOOR.read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {
        alias.name: (node.module or "").removeprefix("advss_tf").removeprefix(".")
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {"encoders": "", **advss._MODULE_OF}
    assert sorted(advss.__all__) == sorted([*seen, "__version__"])


def test_importing_everything_gives_exactly_the_public_names():
    space: dict = {}
    exec("from advss_tf import *", space)
    assert set(space) - {"__builtins__"} == set(advss.__all__)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Rotatoin", r"module 'advss_tf' has no attribute 'Rotatoin' \(did you mean 'Rotation'\?\)$"),
        ("zzzzzz", r"module 'advss_tf' has no attribute 'zzzzzz'$"),
    ],
)
def test_an_unknown_name_is_refused_and_the_nearest_is_named(name, sentence):
    with pytest.raises(AttributeError, match=sentence):
        getattr(advss, name)
    with pytest.raises(ImportError, match=f"cannot import name '{name}'"):
        exec(f"from advss_tf import {name}")


def test_a_submodule_is_still_imported_by_its_name():
    assert _in_a_fresh_process("from advss_tf import config; print(config.__name__)") == "advss_tf.config"


def test_a_saved_classifier_is_loaded_by_a_process_that_has_imported_nothing_else(tiny_encoder, tiny_images, tmp_path):
    classifier = advss.RobustClassifier(tiny_encoder, num_classes=3, how="standard")
    classifier.save(tmp_path / "classifier.keras")
    program = """
import advss_tf
model, info = advss_tf.load_model_for_evaluation("classifier.keras")
print(type(model).__name__, model.num_classes)
"""
    assert _in_a_fresh_process(program, folder=tmp_path).endswith("RobustClassifier 3")
