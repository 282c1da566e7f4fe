"""The order of the house: who may import whom, how long a file may be, and what no file may hold.

The rules are those of CONTRIBUTING.md. They are read from the source with `ast`, so they hold for code that no other
test runs.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import statistics
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from advss_tf.config import load_grid, load_recipe

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "advss_tf"
DOOR = "advss_tf"

# The floor of every room and of every loose module. A module imports lower floors and its own room, nothing else.
FLOORS = {
    "errors": 0,
    "quiet": 0,
    "randomness": 0,
    "timing": 0,
    "version": 0,
    "workdir": 0,
    "config": 1,
    "attacks": 2,
    "data": 2,
    "encoders": 2,
    "losses": 2,
    "training": 3,
    "evaluation": 4,
    "finetune": 4,
    "pretext": 4,
    "serving": 4,
    "assembly": 5,
    "clustering": 5,
    "measuring": 5,
    "outside": 5,
    "refining": 5,
    "refusing": 5,
    "screen": 5,
    "runner": 5,
    "stages": 5,
    "staging": 5,
    "grid": 6,
    "cli": 7,
    "": 8,  # the public door, advss_tf/__init__.py
}

LONGEST_FILE = 300
MEDIAN_BODY, LONG_BODY, SHARE_OF_SHORT_BODIES = 10, 30, 0.9

# Modules whose tests are not in the file that mirrors their path, and where these are instead.
TESTED_ELSEWHERE = {
    "advss_tf/cli/evaluating.py": "tests/integration/test_command_line.py",
    "advss_tf/evaluation/report/grid_numbers.py": "tests/evaluation/report/test_grid_table.py",
    "advss_tf/evaluation/report/grid_scatter.py": "tests/evaluation/report/test_grid_figures.py",
    "advss_tf/finetune/joint_terms.py": "tests/finetune/test_joint.py",
    "advss_tf/cli/reporting.py": "tests/integration/test_command_line.py",
    "advss_tf/cli/starting.py": "tests/integration/test_command_line.py",
    "advss_tf/cli/training.py": "tests/integration/test_command_line.py",
    "advss_tf/measuring.py": "tests/integration/test_command_line.py",
    "advss_tf/runner.py": "tests/integration/test_command_line.py",
    "advss_tf/stages.py": "tests/integration/test_command_line.py",
    "advss_tf/training/callbacks.py": "tests/training/test_loop.py",
    "advss_tf/training/averages.py": "tests/pretext/test_dynacl.py",
    "advss_tf/training/attacking.py": "tests/training/test_robust_model.py",
    "advss_tf/training/reporting.py": "tests/training/test_robust_model.py",
    "advss_tf/training/puzzle.py": "tests/training/test_robust_model.py",
    "advss_tf/training/checks.py": "tests/training/test_robust_model.py",
    "advss_tf/__init__.py": "tests/test_public_door.py",
    "advss_tf/attacks/threat.py": "tests/attacks/test_pgd.py",
    "advss_tf/config/auxiliary_rules.py": "tests/config/test_auxiliary.py",
    "advss_tf/config/contrastive_rules.py": "tests/config/test_contrastive.py",
    "advss_tf/config/contrastive_tasks.py": "tests/config/test_contrastive.py",
    "advss_tf/config/evaluation.py": "tests/config/test_schema.py",
    "advss_tf/config/faults.py": "tests/config/test_loading.py",
    "advss_tf/config/kinds.py": "tests/config/test_schema.py",
    "advss_tf/config/parts.py": "tests/config/test_schema.py",
    "advss_tf/config/pseudo_rules.py": "tests/config/test_pseudo.py",
    "advss_tf/config/rules.py": "tests/config/test_schema.py",
    "advss_tf/config/task_rules.py": "tests/config/test_schema.py",
    "advss_tf/config/tasks.py": "tests/config/test_schema.py",
    "advss_tf/encoders/blocks.py": "tests/encoders/test_networks.py",
    "advss_tf/encoders/description.py": "tests/encoders/test_handoff.py",
    "advss_tf/encoders/registry.py": "tests/encoders/test_networks.py",
    "advss_tf/encoders/resnet.py": "tests/encoders/test_networks.py",
    "advss_tf/encoders/resnet50v2.py": "tests/encoders/test_networks.py",
    "advss_tf/encoders/wide_resnet.py": "tests/encoders/test_networks.py",
    "advss_tf/evaluation/report/figures.py": "tests/evaluation/report/test_writer.py",
    "advss_tf/evaluation/records/header.py": "tests/evaluation/records/test_record.py",
    "advss_tf/evaluation/report/page.py": "tests/evaluation/report/test_writer.py",
    "advss_tf/evaluation/report/pictures.py": "tests/evaluation/report/test_writer.py",
    "advss_tf/evaluation/run.py": "tests/evaluation/test_evaluators.py",
    "advss_tf/evaluation/summary.py": "tests/evaluation/test_evaluators.py",
    "advss_tf/evaluation/report/svg.py": "tests/evaluation/report/test_writer.py",
    "advss_tf/evaluation/report/tables.py": "tests/evaluation/report/test_writer.py",
    "advss_tf/evaluation/tally.py": "tests/evaluation/test_evaluators.py",
    "advss_tf/pretext/ensemble_options.py": "tests/pretext/test_ensemble.py",
    "advss_tf/serving/cards.py": "tests/serving/test_export.py",
    "advss_tf/serving/plain_tensorflow.py": "tests/serving/test_verify.py",
    "advss_tf/serving/signatures.py": "tests/serving/test_export.py",
    "advss_tf/version.py": "tests/test_public_door.py",
}

# Methods of Keras' own grammar: the docstring of the class says what they take and give.
KERAS_GRAMMAR = {"build", "call", "compute_output_shape", "from_config", "get_config"}

MODULES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in MODULES}


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


EACH_MODULE = pytest.mark.parametrize("path", MODULES, ids=_shown)


# Imports --------------------------------------------------------------------------------------------------------------


def _name_of(path: Path) -> str:
    """`advss_tf/data/images.py` as `advss_tf.data.images`, a room's `__init__.py` as the room."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {_name_of(path): path for path in MODULES}


def _imports(path: Path, *, inside: ast.AST | None = None, for_types: bool = True) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, with the line: at the top, in functions, and, if asked, for type checkers."""
    for node in ast.iter_child_nodes(inside or TREES[path]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((name, node.lineno) for name in _imported_from(path, node))
        elif not isinstance(node, ast.If) or for_types or ast.unparse(node.test) != "TYPE_CHECKING":
            yield from _imports(path, inside=node, for_types=for_types)


def _imported_from(path: Path, node: ast.ImportFrom) -> list[str]:
    """The modules that `from … import …` names: what is imported, if that is a module, else what it is taken from."""
    base = node.module or ""
    if node.level:
        package = list(path.relative_to(ROOT).parts[:-1])
        base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
    inner = [f"{base}.{alias.name}" for alias in node.names]
    return [name if name in PATHS else base for name in inner]


def _room_of(module: str) -> str:
    """The room, or the loose module, that a module of the package belongs to; "" for the public door."""
    return module.split(".")[1] if "." in module else ""


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == DOOR


def _may_import(importer: str, imported: str) -> bool:
    """Lower floors and the own room; the loose modules of one floor are one room."""
    here, there = _room_of(importer), _room_of(imported)
    loose = all((PACKAGE / f"{room}.py").is_file() for room in (here, there))
    return here == there or FLOORS[there] < FLOORS[here] or (loose and FLOORS[there] == FLOORS[here])


def test_every_room_and_every_loose_module_has_a_floor():
    assert {_room_of(name) for name in PATHS} == set(FLOORS)


@EACH_MODULE
def test_a_module_imports_only_lower_floors_and_its_own_room(path):
    name = _name_of(path)
    for imported, line in _imports(path):
        if _is_ours(imported):
            assert _may_import(name, imported), f"{_shown(path)}:{line} imports {imported}, which is not below it"


def test_the_rule_of_the_floors_can_be_broken():
    """What the rule is there to refuse, it refuses."""
    assert not _may_import("advss_tf.pretext.rotation", "advss_tf.finetune.classifier")
    assert not _may_import("advss_tf.attacks.pgd", "advss_tf.losses")
    assert not _may_import("advss_tf.data.images", "advss_tf.training")
    assert not _may_import("advss_tf.stages", "advss_tf")
    assert _may_import("advss_tf.stages", "advss_tf.assembly")


def test_imports_are_read_from_functions_and_from_relative_names():
    found = dict(_imports(PACKAGE / "cli" / "training.py"))
    assert {"advss_tf.config", "advss_tf.runner", "advss_tf.workdir"} <= set(found)
    assert {"advss_tf.errors", "advss_tf.config.parts"} <= set(dict(_imports(PACKAGE / "config" / "faults.py")))


@functools.cache
def _imported_by(module: str, for_types: bool) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in _imports(PATHS[module], for_types=for_types)))


def _reached(module: str, *, for_types: bool = False) -> dict[str, str]:
    """Every module that importing one brings in, each with the module that imports it."""
    reached: dict[str, str] = {}
    waiting = [module]
    while waiting:
        importer = waiting.pop()
        if importer in PATHS:
            new = {name: importer for name in _imported_by(importer, for_types) if name not in reached}
            reached |= new
            waiting += new
    return reached


def test_no_modules_import_each_other_in_a_circle():
    for name in PATHS:
        reached = _reached(name)
        assert name not in reached, f"{name} imports {reached[name]}, which imports {name}"


def test_recipes_are_read_without_tensorflow():
    reached = {name.partition(".")[0]: by for name, by in _reached("advss_tf.config").items()}
    for heavy in ("cleverhans", "keras", "tensorflow", "tensorflow_datasets"):
        assert heavy not in reached, f"{heavy} is imported by {reached[heavy]}"


# What no file may hold ------------------------------------------------------------------------------------------------

_PICKLES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
_ENVIRONMENT = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "sys.argv"}
_FLAGS = {"argparse", "optparse", "getopt", "absl.app", "absl.flags", "click", "fire"}


def _dotted(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""


def _is_keyword(node: ast.AST, name: str, value: object) -> bool:
    return (
        isinstance(node, ast.keyword)
        and node.arg == name
        and isinstance(node.value, ast.Constant)
        and node.value.value is value
    )


def _forbidden(node: ast.AST) -> str | None:
    """What is wrong with a piece of code wherever it stands, or None."""
    if isinstance(node, ast.Assert):
        return "`assert`: raise InvalidInput, `python -O` drops assertions"
    if isinstance(node, ast.Call) and _dotted(node.func) in {"eval", "exec", "compile", "yaml.load"}:
        return f"`{_dotted(node.func)}` runs what a file says"
    if isinstance(node, ast.Attribute) and node.attr == "enable_unsafe_deserialization":
        return "loading that runs code"
    if _is_keyword(node, "allow_pickle", True) or _is_keyword(node, "safe_mode", False):
        return "loading that runs code"
    if isinstance(node, ast.keyword) and node.arg == "typ" and ast.unparse(node.value) not in {"'rt'", "'safe'"}:
        return "loading YAML that runs code"
    return None


def _reads_the_command_line(node: ast.AST) -> bool:
    """Whether a piece of code reads the environment or the arguments of the process."""
    if isinstance(node, ast.ImportFrom) and node.module in {"os", "sys"}:
        return any(f"{node.module}.{alias.name}" in _ENVIRONMENT for alias in node.names)
    return isinstance(node, ast.Attribute) and _dotted(node) in _ENVIRONMENT


@EACH_MODULE
def test_a_module_holds_nothing_that_is_forbidden(path):
    for node in ast.walk(TREES[path]):
        reason = _forbidden(node)
        assert reason is None, f"{_shown(path)}:{getattr(node, 'lineno', '?')}: {reason}"
    for imported, line in _imports(path):
        assert imported.partition(".")[0] not in _PICKLES | {"yaml"}, f"{_shown(path)}:{line} imports {imported}"


@EACH_MODULE
def test_flags_and_environment_are_read_by_the_command_line_alone(path):
    if path.parent == PACKAGE / "cli":
        return
    for node in ast.walk(TREES[path]):
        assert not _reads_the_command_line(node), f"{_shown(path)}:{getattr(node, 'lineno', '?')}: {ast.unparse(node)}"
    for imported, line in _imports(path):
        assert not any(imported == flags or imported.startswith(f"{flags}.") for flags in _FLAGS), (
            f"{_shown(path)}:{line} imports {imported}"
        )


@pytest.mark.parametrize(
    "line",
    [
        "assert images.shape",
        "eval(text)",
        "exec(text)",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
        "keras.models.load_model(path, safe_mode=False)",
        "keras.config.enable_unsafe_deserialization()",
        "YAML(typ='unsafe')",
    ],
)
def test_what_is_forbidden_is_found(line):
    assert any(_forbidden(node) for node in ast.walk(ast.parse(line)))


@pytest.mark.parametrize("line", ["os.environ['A']", "os.getenv('A')", "from os import environ", "sys.argv[1:]"])
def test_reading_the_environment_is_found(line):
    assert any(_reads_the_command_line(node) for node in ast.walk(ast.parse(line)))


# Size and words -------------------------------------------------------------------------------------------------------

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _body_lines(function: Function) -> int:
    """The lines of a function's body without its docstring; 0 where there is nothing else."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def _functions() -> dict[str, int]:
    return {
        f"{_shown(path)}:{node.lineno} {node.name}": _body_lines(node)
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, Function)
    }


@EACH_MODULE
def test_a_file_is_read_in_one_sitting(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_FILE


def test_function_bodies_are_short():
    functions = _functions()
    longest = sorted(functions, key=lambda name: functions[name], reverse=True)[:10]
    assert statistics.median(functions.values()) <= MEDIAN_BODY
    short = sum(lines <= LONG_BODY for lines in functions.values()) / len(functions)
    assert short >= SHARE_OF_SHORT_BODIES, "the longest: " + ", ".join(f"{name} {functions[name]}" for name in longest)


@EACH_MODULE
def test_a_module_says_what_it_holds(path):
    assert ast.get_docstring(TREES[path])


@EACH_MODULE
def test_every_public_class_function_and_method_has_a_docstring(path):
    module = importlib.import_module(_name_of(path))
    own = [value for name, value in vars(module).items() if _is_public_and_defined_in(module, name, value)]
    missing = [value.__qualname__ for value in own if not _own_docstring(value)]
    for cls in filter(inspect.isclass, own):
        missing += [f"{cls.__qualname__}.{name}" for name in _methods(cls) if not inspect.getdoc(getattr(cls, name))]
    assert not missing, f"{_shown(path)}: no docstring: {', '.join(missing)}"


def _is_public_and_defined_in(module: ModuleType, name: str, value: Any) -> bool:
    defined = inspect.isclass(value) or inspect.isfunction(value)
    return defined and not name.startswith("_") and value.__module__ == module.__name__


def _own_docstring(value: Any) -> str | None:
    # A dataclass and a named tuple without a docstring are given one, their signature, by Python.
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    return None if text and text.startswith(f"{value.__name__}(") else text


def _methods(cls: type) -> list[str]:
    """The public methods and properties that a class defines; `getdoc` finds the docstring of what they override."""
    kinds = (property, classmethod, staticmethod)
    return [
        name
        for name, value in vars(cls).items()
        if (inspect.isfunction(value) or isinstance(value, kinds))
        and not name.startswith("_")
        and name not in KERAS_GRAMMAR
    ]


@EACH_MODULE
def test_no_module_is_left_half_written(path):
    for word in ("TODO", "FIXME", "XXX", "NotImplementedError"):
        assert word not in path.read_text(encoding="utf-8")


# Doors, tests and recipes ---------------------------------------------------------------------------------------------


@EACH_MODULE
def test_every_name_that_a_module_offers_exists(path):
    module = importlib.import_module(_name_of(path))
    names = getattr(module, "__all__", [])
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("*/__init__.py")), ids=_shown)
def test_the_door_of_a_room_says_what_it_offers(path):
    names = getattr(importlib.import_module(_name_of(path)), "__all__", [])
    imported = [
        alias.asname or alias.name
        for node in TREES[path].body
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    ]
    assert names and set(imported) <= set(names)


def _mirror(path: Path) -> Path:
    """`advss_tf/data/images.py` → `tests/data/test_images.py`."""
    inner = path.relative_to(PACKAGE)
    return ROOT / "tests" / inner.parent / f"test_{inner.name}"


@EACH_MODULE
def test_every_module_has_its_tests(path):
    elsewhere = TESTED_ELSEWHERE.get(_shown(path))
    if elsewhere is not None:
        assert (ROOT / elsewhere).is_file(), f"{elsewhere} is not there"
        assert not _mirror(path).is_file(), f"{_shown(_mirror(path))} is there: TESTED_ELSEWHERE need not name it"
    elif path.name != "__init__.py":
        assert _mirror(path).is_file(), f"{_shown(_mirror(path))} is not there"


def test_no_exception_outlives_its_module():
    assert [name for name in TESTED_ELSEWHERE if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_loads(path):
    load = load_grid if path.stem.startswith("grid_") else load_recipe
    assert load(path).name == path.stem
