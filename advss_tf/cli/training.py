"""`advss-train`: runs a recipe, or a grid of recipes.

Synopsis:

    advss-train --config=configs/digits.yaml --workdir=runs/digits
    advss-train --grid=configs/grid_digits.yaml --workdir=runs/grid_digits
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from advss_tf.cli.starting import command, quiet_import, show_record, start
from advss_tf.errors import InvalidInput

_GRID = (
    "a base recipe and axes, such as configs/grid_digits.yaml; small networks on a machine of several GPUs: "
    "--set strategy=single"
)


def train() -> None:
    """Console entry point `advss-train`."""
    start(main, flags)


def flags() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = command(
        "advss-train",
        "Runs a recipe: pretrain, cluster, refine, finetune, evaluate, export, report, as far as it has "
        "them; or a grid of recipes, in one process on the devices of one machine, one cell after the other. Killed, "
        "the same command goes on.",
    )
    parser.add_argument("--config", metavar="RECIPE.yaml", help="the recipe, such as configs/digits.yaml")
    parser.add_argument("--grid", metavar="GRID.yaml", help=_GRID)
    parser.add_argument("--only", action="append", default=[], metavar="AXIS=A,B", help="only these cells of the grid")
    parser.add_argument("--workdir", metavar="FOLDER", help="the run's folder, such as runs/digits")
    parser.add_argument(
        "--stages", metavar="A,B", help="only these of pretrain,cluster,refine,finetune,evaluate,export,report"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", dest="overrides",
        help="change a field of the recipe, such as pretrain.attack.num_steps=5; can be repeated",
    )  # fmt: skip
    parser.add_argument("--schema", metavar="FILE", help="write the JSON schema of a recipe, for editors, and stop")
    return parser


def main(args: argparse.Namespace) -> int:
    """Does what the flags ask for; returns the exit code."""
    from advss_tf import config

    if args.schema:
        Path(args.schema).write_text(json.dumps(config.json_schema(), indent=2) + "\n")
        return 0
    for flag in ("grid" if args.grid else "config", "workdir"):
        if not getattr(args, flag):
            raise InvalidInput(f"`--{flag}` is missing.", expected=f"--{flag} {flag.upper()}", received="nothing")
    if args.grid:
        return _train_grid(args)
    if args.only:
        raise InvalidInput("`--only` chooses cells of a grid.", expected="--grid GRID.yaml", received="--config")
    recipe = config.load_recipe(Path(args.config), args.overrides)
    chosen = args.stages.split(",") if args.stages is not None else None
    with quiet_import():
        from advss_tf import runner
    from advss_tf.workdir import Workdir

    workdir = Workdir(args.workdir)
    runner.run(recipe, workdir, stages=chosen)
    _show_result(workdir)
    return 0


def _train_grid(args: argparse.Namespace) -> int:
    from advss_tf import config

    for flag in ("config", "stages"):
        if getattr(args, flag) is not None:
            expected = "--grid alone; its `base` names the recipe, and a cell runs all its stages"
            raise InvalidInput(f"`--{flag}` does not go with `--grid`.", expected=expected, received=f"--{flag}")
    grid = config.load_grid(args.grid, args.overrides)
    cells = grid.only(args.only)
    with quiet_import():
        from advss_tf.grid import run_grid
    return 1 if run_grid(grid, args.workdir, cells=cells) else 0


def _show_result(workdir: Any) -> None:
    from advss_tf.evaluation import Record
    from advss_tf.screen import Screen

    screen = Screen()
    if workdir.record.is_file():
        show_record(screen, Record.load(workdir.record))
    page = workdir.report / "index.html"
    if page.is_file():
        screen.say(f"Report: {page}")
