"""The README is a test: its programs run, its commands parse, its recipes load, and what it names is there."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import advss_tf as advss
from advss_tf import config, runner
from advss_tf.cli import ensembling, evaluating, reporting, training

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
LINES = README.read_text(encoding="utf-8").splitlines()
PAGES = ("README.md", "RESULTS.md", "CONTRIBUTING.md", "CHANGELOG.md")

PARSERS: dict[str, Callable[[], ArgumentParser]] = {
    "advss-train": training.flags,
    "advss-evaluate": evaluating.flags,
    "advss-report": reporting.flags,
    "advss-ensemble": ensembling.flags,
}


def _blocks(language: str, lines: Sequence[str] = LINES) -> Iterator[tuple[int, list[str]]]:
    """The fenced blocks of exactly this language: the number of lines before the block, and its lines."""
    start, opened = 0, ""
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened:
            if opened == f"```{language}":
                yield start, list(lines[start:number])
            opened = ""
        else:
            start, opened = number + 1, line.strip()


def _program() -> str:
    """All Python blocks as one program, each on the lines that it has in the README, so that errors name these."""
    lines = [""] * len(LINES)
    for start, block in _blocks("python"):
        lines[start : start + len(block)] = block
    return "\n".join(lines) + "\n"


def _commands(page: str) -> list[str]:
    """The commands of a page, one a line, without comments: those of bash blocks, and ours that stand in the text."""
    written = (ROOT / page).read_text(encoding="utf-8")
    text = "\n".join("\n".join(block) for _, block in _blocks("bash", written.splitlines()))
    lines = re.sub(r"(\\|\|)\n\s*", r"\1 ", text).splitlines()
    outside = re.sub(r"^```.*?^```", "", written, flags=re.DOTALL | re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]
    told = [span for span in spans if span.startswith(tuple(f"{tool} " for tool in PARSERS))]
    return [line for line in (*lines, *told) if shlex.split(line, comments=True)]


def _of(tool: str) -> list[list[str]]:
    """The arguments of every call of one tool, on README.md and RESULTS.md."""
    commands = [line for page in ("README.md", "RESULTS.md") for line in _commands(page)]
    split = [shlex.split(line, comments=True) for line in commands]
    return [words[1:] for words in split if words[0] == tool]


OURS = [(tool, args) for tool in PARSERS for args in _of(tool)]
EACH_COMMAND = pytest.mark.parametrize(("tool", "args"), OURS, ids=lambda part: part if isinstance(part, str) else "")


# Python ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_programs_run_in_order_in_one_process(tmp_path):
    program = f"exec(compile({_program()!r}, 'README.md', 'exec'))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "clean" in done.stdout and "Linf 0.1" in done.stdout
    for written in ("encoder/saved_model.pb", "served/1/saved_model.pb", "request.json", "digit.png"):
        assert (tmp_path / written).is_file()


def test_the_first_program_is_inside_the_first_screen_and_short():
    start, block = next(_blocks("python"))
    assert start <= 24
    assert len([line for line in block if line]) <= 15


def _calls() -> list[ast.Call]:
    """The calls `advss.….name(…)` of the README's programs."""
    found = [node for node in ast.walk(ast.parse(_program())) if isinstance(node, ast.Call)]
    return [call for call in found if ast.unparse(call.func).startswith("advss.")]


@pytest.mark.parametrize("call", _calls(), ids=ast.unparse)
def test_a_call_names_what_is_there_with_arguments_that_it_takes(call):
    target: object = advss
    for name in ast.unparse(call.func).split(".")[1:]:
        target = getattr(target, name)
    assert callable(target)
    named = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    inspect.signature(target).bind(*[None] * len(call.args), **named)


def test_every_name_of_the_package_in_the_text_is_there():
    for name in re.findall(r"`advss\.(\w+)`", "\n".join(LINES)):
        assert name in advss.__all__


# Commands -------------------------------------------------------------------------------------------------------------


def test_the_commands_are_found():
    assert {tool for tool, _ in OURS} == set(PARSERS)
    assert len(OURS) >= 8


@EACH_COMMAND
def test_a_command_parses(tool, args, capsys):
    try:
        PARSERS[tool]().parse_args(args)
    except SystemExit:
        pytest.fail(f"{tool} {' '.join(args)}: {capsys.readouterr().err}")


def test_a_flag_that_is_not_known_would_be_found(capsys):
    with pytest.raises(SystemExit):
        training.flags().parse_args(["--confg=configs/digits.yaml"])
    assert "--confg" in capsys.readouterr().err


@pytest.mark.parametrize("args", _of("advss-train"), ids=" ".join)
def test_a_recipe_loads_with_its_changes(args):
    flags = training.flags().parse_args(args)
    if flags.config:
        recipe = advss.load_recipe(ROOT / flags.config, flags.overrides)
        assert runner.planned(recipe, flags.stages.split(",") if flags.stages else None)
    if flags.grid:
        grid = config.load_grid(ROOT / flags.grid, flags.overrides)
        assert grid.only(flags.only)


def test_the_stages_that_the_text_names_are_those_of_a_run():
    recipe = advss.load_recipe(ROOT / "configs" / "digits.yaml")
    assert f"({', '.join(runner.planned(recipe))})" in " ".join(LINES)
    for names in re.findall(r"--stages=([\w,]+)", "\n".join(LINES)):
        assert runner.planned(recipe, names.split(",")) == names.split(",")


# What is named --------------------------------------------------------------------------------------------------------

_TOP = ("advss_tf", "benchmarks", "bin", "configs", "docs", "tests")


def _named_paths(page: str) -> set[str]:
    """The files and folders of the repository that a page names: in code, in commands, and as links."""
    text = (ROOT / page).read_text(encoding="utf-8")
    links = {link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    paths = re.findall(rf"(?<![\w/.-])((?:{'|'.join(_TOP)})/[\w./-]*)", text)
    return {path.rstrip(".") for path in paths} | {link for link in links if link}


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    assert [path for path in sorted(_named_paths(page)) if not (ROOT / path).exists()] == []


def test_the_file_map_has_every_room_and_no_recipe_is_missing_in_the_table():
    named = _named_paths("README.md")
    rooms = {f"advss_tf/{path.parent.name}/" for path in (ROOT / "advss_tf").glob("*/__init__.py")}
    recipes = {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    assert rooms | recipes <= named


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_table_says_what_the_head_of_the_recipe_says_was_measured(path):
    row = next(line for line in LINES if line.startswith(f"| `configs/{path.name}`"))
    head = path.read_text(encoding="utf-8").partition("\nname:")[0]
    measured = head.partition("# We measured:")[2].partition("\n# ")[0]
    assert ("not yet run" in measured) == ("not yet run" in row.split("|")[-2])


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.svg")), ids=lambda path: path.stem)
def test_a_figure_brings_the_colours_that_it_names(path):
    """Outside a report's page nothing else says what `var(--ink)` is, and its lines would not be drawn."""
    text = path.read_text(encoding="utf-8")
    named, said = set(re.findall(r"var\((--[\w-]+)\)", text)), set(re.findall(r"(--[\w-]+): #", text))
    assert named and named <= said
