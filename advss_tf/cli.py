"""The command line: `advss-train`, `advss-evaluate`, `advss-report`. Flags are read here and nowhere else.

TensorFlow is imported after the flags and the recipe have been read, so that `--help` and a mistake answer at once.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import app, logging
from absl.flags import argparse_flags

from advss_tf.errors import InvalidInput
from advss_tf.quiet import closed_error_stream
from advss_tf.version import __version__

_INVALID, _INTERRUPTED = 2, 130


def train() -> None:
    """Console entry point `advss-train`."""
    _start(_train, _train_flags)


def evaluate() -> None:
    """Console entry point `advss-evaluate`."""
    _start(_evaluate, _evaluate_flags)


def report() -> None:
    """Console entry point `advss-report`."""
    _start(_report, _report_flags)


def _start(main: Callable[[argparse.Namespace], int], flags: Callable[[], argparse.ArgumentParser]) -> None:
    app.run(lambda args: _refusing(main, args), flags_parser=lambda argv: flags().parse_args(argv[1:]))


def _refusing(main: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Runs a command; what it refuses is one readable message on the error stream, and a code of 2."""
    logging.set_verbosity(logging.ERROR)  # TensorFlow logs through absl, and at length
    try:
        return main(args)
    except InvalidInput as refusal:
        print(refusal, file=sys.stderr)
        return _INVALID
    except OSError as error:
        print(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr)
        return _INVALID
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on from the last checkpoint.", file=sys.stderr)
        return _INTERRUPTED


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Imports TensorFlow fast and quiet; what the user has set in the environment stays.

    oneDNN's kernels, which TensorFlow leaves off on some processors, save time (benchmarks/README.md). Some start-up
    messages are written before any level is read, straight to the error stream, so that is closed while importing.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with closed_error_stream():
        yield


# advss-train ---------------------------------------------------------------------------------------------------------


def _train_flags() -> argparse.ArgumentParser:
    parser = argparse_flags.ArgumentParser(
        prog="advss-train",
        description="Runs a recipe: pretrain, finetune, evaluate, export, report; or a grid of recipes, one after the "
        "other. Killed, the same command goes on.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--config", metavar="RECIPE.yaml", help="the recipe, such as configs/digits.yaml")
    parser.add_argument("--grid", metavar="GRID.yaml", help="a base recipe and axes, such as configs/grid_digits.yaml")
    parser.add_argument("--only", action="append", default=[], metavar="AXIS=A,B", help="only these cells of the grid")
    parser.add_argument("--workdir", metavar="FOLDER", help="the run's folder, such as runs/digits")
    parser.add_argument("--stages", metavar="A,B", help="only these of pretrain,finetune,evaluate,export,report")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", dest="overrides",
        help="change a field of the recipe, such as pretrain.attack.num_steps=5; can be repeated",
    )  # fmt: skip
    parser.add_argument("--schema", metavar="FILE", help="write the JSON schema of a recipe, for editors, and stop")
    return parser


def _train(args: argparse.Namespace) -> int:
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
    with _quiet_import():
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
    with _quiet_import():
        from advss_tf.grid import run_grid
    return 1 if run_grid(grid, args.workdir, cells=cells) else 0


def _show_result(workdir: Any) -> None:
    from advss_tf.evaluation import Record
    from advss_tf.screen import Screen

    screen = Screen()
    if workdir.record.is_file():
        _show_record(screen, Record.load(workdir.record))
    page = workdir.report / "index.html"
    if page.is_file():
        screen.say(f"Report: {page}")


def _show_record(screen: Any, record: Any) -> None:
    """The accuracies of one record; what is the same in every row stands in the title, for a narrow terminal."""
    from advss_tf.evaluation import result_table

    columns, rows = result_table([record])
    model, data, images = rows[0][:3]
    title = f"Accuracy of {model} on {data}, {images} images, with 95 % intervals"
    screen.table(title, columns[3:], [row[3:] for row in rows])


# advss-evaluate ------------------------------------------------------------------------------------------------------


def _evaluate_flags() -> argparse.ArgumentParser:
    parser = argparse_flags.ArgumentParser(
        prog="advss-evaluate",
        description="Measures any saved Keras model or SavedModel that gives logits, clean and under attack. "
        "Killed, the same command goes on.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("model", metavar="MODEL", help="a .keras file or a SavedModel folder")
    parser.add_argument("--data", required=True, help="digits, a tfds name, an image folder, or a .npz file")
    parser.add_argument("--data_dir", help="where prepared tfds data sets lie")
    parser.add_argument("--split", default="test", choices=("test", "held_out"), help="what is measured")
    parser.add_argument(
        "--suite", default="quick",
        help="quick (PGD-20), standard (and PGD-50), full (and AutoAttack), black_box (Square), corruptions (those of "
        "CIFAR-10-C), or unforeseen (attacks over a distortion's parameters)",
    )  # fmt: skip
    parser.add_argument("--autoattack", default="standard", metavar="VERSION", help="standard, plus, or rand")
    parser.add_argument("--norm", default="linf", choices=("linf", "l2"), help="norm of the ball")
    parser.add_argument("--epsilons", default="8/255", help="radii in pixels of [0, 1], such as 4/255,8/255")
    parser.add_argument("--num_restarts", type=int, default=1, help="random starts of each attack")
    parser.add_argument("--source", metavar="MODEL", help="the attacks see this model; their examples are transferred")
    parser.add_argument("--save_attacked", metavar="FOLDER", help="write the attacked images there, one .npz a batch")
    parser.add_argument("--baseline", metavar="RECORD", help="record of another model's corruptions, for mCE")
    parser.add_argument("--published", action="store_true", help="corrupted images of tfds cifar10_corrupted")
    parser.add_argument("--frost", metavar="FOLDER", help="photographs for the corruption frost; else it is generated")
    parser.add_argument("--batch_size", type=int, default=256, help="images a batch")
    parser.add_argument("--limit", type=int, help="measure a stratified subset of this size")
    parser.add_argument("--seed", type=int, default=0, help="seed of splits and random starts")
    parser.add_argument("--out", default="record.json", metavar="FILE", help="where the record is written")
    return parser


def _evaluate(args: argparse.Namespace) -> int:
    with _quiet_import():
        from advss_tf import finetune, pretext  # noqa: F401 - registers the classes that a .keras file may name
        from advss_tf.data import load_data
        from advss_tf.evaluation import Record, load_model_for_evaluation
        from advss_tf.training.strategy import local_strategy
    from advss_tf.screen import Screen

    _check_suite(args)
    screen = Screen()
    strategy = local_strategy()
    with strategy.scope():
        model, _ = load_model_for_evaluation(args.model)
    data = load_data(args.data, seed=args.seed, **({"data_dir": args.data_dir} if args.data_dir else {}))
    images = getattr(data, args.split)(args.batch_size)
    options = {
        "batch_size": args.batch_size, "limit": args.limit, "seed": args.seed, "model_name": Path(args.model).stem,
        "data_info": {
            "name": data.name, "split": args.split, "fingerprint": data.fingerprint, "class_names": data.class_names
        },
        "partial": Path(args.out).with_suffix(".partial"), "progress": lambda event: screen.say(str(event)),
    }  # fmt: skip
    run = _suite(args, strategy=strategy, side=min(data.image_shape[:2]), say=screen.say)
    record = run(model, images, **options)
    record.save(args.out)
    if isinstance(record, Record):
        _show_record(screen, record)
    else:
        screen.say(str(record))
    screen.say(f"Record: {args.out}")
    return 0


def _check_suite(args: argparse.Namespace) -> None:
    """Refuses a suite that is not known, and flags that the suite would not heed."""
    from advss_tf.errors import one_of
    from advss_tf.evaluation.attempts import SUITES

    one_of("suite", args.suite, (*SUITES, "corruptions", "unforeseen"))
    corruptions, attacks = ("baseline", "published", "frost"), ("source", "save_attacked")
    heeded = {"corruptions": corruptions, "unforeseen": ()}.get(args.suite, attacks)
    for flag in (*corruptions, *attacks):
        if getattr(args, flag) and flag not in heeded:
            where = "corruptions" if flag in corruptions else "|".join(SUITES)
            raise InvalidInput(
                f"`--{flag}` means nothing to this suite.",
                expected=f"--suite={where}, or no --{flag}",
                received=f"--suite={args.suite}",
            )


def _suite(args: argparse.Namespace, *, strategy: Any, side: int, say: Callable[[str], None]) -> Callable[..., Any]:
    """What the flags ask to measure, as a function of the model and the images."""
    from advss_tf import evaluation
    from advss_tf.attacks import pixels
    from advss_tf.data import corrupted_catalogue
    from advss_tf.data.corruptions import frost_photographs

    if args.suite == "unforeseen":
        return evaluation.evaluate_unforeseen
    if args.suite == "corruptions":
        return functools.partial(
            evaluation.evaluate_corruptions,
            source=corrupted_catalogue(data_dir=args.data_dir) if args.published else None,
            frost_images=frost_photographs(args.frost, side=side) if args.frost else None,
            baseline=evaluation.DistortionRecord.load(args.baseline) if args.baseline else None,
        )
    return functools.partial(
        evaluation.evaluate,
        suite=args.suite,
        autoattack_version=args.autoattack,
        norm=args.norm,
        epsilons=tuple(pixels(text, name="epsilons") for text in args.epsilons.split(",")),
        num_restarts=args.num_restarts,
        source=evaluation.load_model_for_evaluation(args.source)[0] if args.source else None,
        strategy=strategy,
        save_attacked=args.save_attacked,
        announce=lambda estimate: say(str(estimate)),
    )


# advss-report --------------------------------------------------------------------------------------------------------


def _report_flags() -> argparse.ArgumentParser:
    parser = argparse_flags.ArgumentParser(
        prog="advss-report", description="Turns records into one self-contained HTML page and a Markdown file."
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("records", nargs="+", metavar="RECORD", help="record files, or folders that hold some")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where the report is written")
    parser.add_argument("--title", help="the heading")
    return parser


def _report(args: argparse.Namespace) -> int:
    with _quiet_import():
        from advss_tf.evaluation import load_record, write_report

    records = [load_record(path) for path in _record_files(args.records)]
    print(f"Report: {write_report(records, args.out, title=args.title)}")
    return 0


def _record_files(paths: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for path in map(Path, paths):
        files = sorted(path.rglob("record*.json")) if path.is_dir() else [path]
        if not files:
            raise InvalidInput(
                f"{path} holds no record.", expected="a folder with record*.json files", received=str(path)
            )
        found += files
    # A file that is named by itself and by its folder is one record.
    return list({path.resolve(): path for path in found}.values())
