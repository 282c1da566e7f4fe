"""`advss-evaluate`: measures a saved model.

Synopsis:

    advss-evaluate runs/digits --suite=full --epsilons=0.05,0.1 --out=record.json        # a run, on its own images
    advss-evaluate classifier.keras --data=cifar10 --suite=full --out=record.json
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advss_tf.cli.runs import classifier_file, images_of, is_run, run_of
from advss_tf.cli.starting import command, quiet_import, show_record, start
from advss_tf.errors import InvalidInput
from advss_tf.workdir import Workdir

_SPLIT = (
    "what is measured; held_out is the part of train that this library cuts off by default at --seed, and may hold "
    "images that the model was trained on, if that was with another cut or elsewhere"
)


def evaluate() -> None:
    """Console entry point `advss-evaluate`."""
    start(main, flags)


def flags() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = command(
        "advss-evaluate",
        "Measures any saved Keras model or SavedModel that gives logits, clean and under attack. "
        "Killed, the same command goes on.",
    )
    parser.add_argument("model", metavar="MODEL", help="a .keras file, a SavedModel folder, or a run's folder")
    parser.add_argument(
        "--data", help="digits, a tfds name, an image folder, a .npz file, or the folder of a run for the images that "
        "its recipe names; by default those of the run that MODEL is from",
    )  # fmt: skip
    parser.add_argument("--data_dir", help="where prepared tfds data sets lie")
    parser.add_argument("--split", default="test", choices=("test", "held_out"), help=_SPLIT)
    parser.add_argument(
        "--suite", default="quick",
        help="quick (PGD-20), standard (and PGD-50), full (and AutoAttack), black_box (Square), corruptions (those of "
        "CIFAR-10-C), or unforeseen (attacks over a distortion's parameters)",
    )  # fmt: skip
    # These have no default here, so that a suite that does not heed them can refuse them; see `_suite`.
    parser.add_argument("--autoattack", metavar="VERSION", help="of --suite=full: standard (by default), plus, or rand")
    parser.add_argument("--norm", choices=("linf", "l2"), help="norm of the ball, by default linf")
    parser.add_argument("--epsilons", help="radii in pixels of [0, 1], such as 4/255,8/255; by default 8/255")
    parser.add_argument("--num_steps", metavar="N,N", help="steps of PGD, one attack for each; by default 20,50")
    parser.add_argument("--step_size", help="length of PGD's steps in pixels; by default 2.5 epsilon / steps")
    parser.add_argument("--num_restarts", type=int, help="random starts of each attack, by default 1")
    parser.add_argument("--source", metavar="MODEL", help="the attacks see this model; their examples are transferred")
    parser.add_argument("--save_attacked", metavar="FOLDER", help="write the attacked images there, one .npz a batch")
    parser.add_argument("--baseline", metavar="RECORD", help="record of another model's corruptions, for mCE")
    parser.add_argument("--published", action="store_true", help="corrupted images of tfds cifar10_corrupted")
    parser.add_argument("--frost", metavar="FOLDER", help="photographs for the corruption frost; else it is generated")
    parser.add_argument("--batch_size", type=int, default=256, help="images a batch")
    parser.add_argument("--limit", type=int, help="measure a stratified subset of this size")
    parser.add_argument(
        "--seed",
        type=int,
        help="seed of random starts, and of splits where no run says them; by default the run's, else 0",
    )
    parser.add_argument("--out", default="record.json", metavar="FILE", help="where the record is written")
    return parser


def main(args: argparse.Namespace) -> int:
    """Does what the flags ask for; returns the exit code."""
    with quiet_import():
        from advss_tf import finetune, pretext  # noqa: F401 - registers the classes that a .keras file may name
        from advss_tf.evaluation import Record, load_model_for_evaluation
        from advss_tf.staging import external_of
        from advss_tf.training.strategy import local_strategy
    from advss_tf.screen import Screen

    _check_suite(args)
    file, screen = _model_file(args.model), Screen()
    data, seed, info = _images(args, file)
    strategy = local_strategy()
    with strategy.scope():
        model, _ = load_model_for_evaluation(file)
    images = getattr(data, args.split)(args.batch_size)
    options = {
        "batch_size": args.batch_size, "limit": args.limit, "seed": seed, "model_name": _name_of(file),
        "data_info": {**info, "external": external_of(file)},
        "partial": Path(args.out).with_suffix(".partial"), "progress": lambda event: screen.say(str(event)),
    }  # fmt: skip
    run = _suite(args, strategy=strategy, side=min(data.image_shape[:2]), say=screen.say)
    record = run(model, images, **options)
    record.save(args.out)
    if isinstance(record, Record):
        show_record(screen, record)
    else:
        screen.say(str(record))
    screen.say(f"Record: {args.out}")
    return 0


def _model_file(model: str) -> Path:
    """The file or folder that holds the model."""
    file = classifier_file(model)
    if is_run(model) and not file.is_file():
        raise InvalidInput(
            f"{model} holds no finetuned classifier.", expected=f"a finished run, with {file} in it", received=model
        )
    return file


def _name_of(file: Path) -> str:
    """What the record calls the model: the file's name, and where that is the same in every run the run's."""
    run = run_of(file)
    return file.stem if run is None else run.root.name


def _images(args: argparse.Namespace, file: Path) -> tuple[Any, int, dict[str, Any]]:
    """The images that are meant, the seed of random starts, and what the record says of the images."""
    from advss_tf.data import load_data
    from advss_tf.measuring import data_info

    elsewhere = {"data_dir": args.data_dir} if args.data_dir else {}
    run = run_of(file) if args.data is None else Workdir(args.data) if is_run(args.data) else None
    if run is not None:
        recipe, data = images_of(run, **elsewhere)
        return data, recipe.seed if args.seed is None else args.seed, data_info(recipe, data, split=args.split)
    if args.data is None:
        raise InvalidInput(
            "Nothing says which images are meant.",
            expected="--data, or a MODEL that is a run or lies in one",
            received=f"{args.model} without --data",
        )
    seed = args.seed or 0
    data = load_data(args.data, seed=seed, **elsewhere)
    return data, seed, data_info(None, data, split=args.split)


def _check_suite(args: argparse.Namespace) -> None:
    """Refuses a suite that is not known, and flags that the suite would not heed."""
    from advss_tf.errors import one_of
    from advss_tf.evaluation.attempts import SUITES

    one_of("suite", args.suite, (*SUITES, "corruptions", "unforeseen"))
    attacked = ("source", "save_attacked", "epsilons", "norm", "num_restarts")
    heeding: dict[str, tuple[str, ...]] = dict.fromkeys(("baseline", "published", "frost"), ("corruptions",))
    heeding |= dict.fromkeys(("num_steps", "step_size"), ("quick", "standard", "full"))
    heeding |= dict.fromkeys(attacked, SUITES)
    heeding["autoattack"] = ("full",)
    for flag, suites in heeding.items():
        value = getattr(args, flag)
        if value is not None and value is not False and args.suite not in suites:
            raise InvalidInput(
                f"`--{flag}` means nothing to this suite.",
                expected=f"--suite={'|'.join(suites)}, or no --{flag}",
                received=f"--suite={args.suite}",
            )


def _suite(args: argparse.Namespace, *, strategy: Any, side: int, say: Callable[[str], None]) -> Callable[..., Any]:
    """What the flags ask to measure, as a function of the model and the images."""
    from advss_tf import evaluation
    from advss_tf.attacks import pixels
    from advss_tf.data import corrupted_catalogue
    from advss_tf.data.corruptions import frost_photographs

    if args.suite == "unforeseen":
        return functools.partial(evaluation.evaluate_unforeseen, strategy=strategy)
    if args.suite == "corruptions":
        return functools.partial(
            evaluation.evaluate_corruptions,
            source=corrupted_catalogue(data_dir=args.data_dir) if args.published else None,
            frost_images=frost_photographs(args.frost, side=side) if args.frost else None,
            baseline=evaluation.DistortionRecord.load(args.baseline) if args.baseline else None,
        )
    epsilons = "8/255" if args.epsilons is None else args.epsilons
    return functools.partial(
        evaluation.evaluate,
        suite=args.suite,
        autoattack_version="standard" if args.autoattack is None else args.autoattack,
        norm="linf" if args.norm is None else args.norm,
        num_steps=(20, 50) if args.num_steps is None else _counts(args.num_steps),
        step_size=None if args.step_size is None else pixels(args.step_size, name="step_size"),
        epsilons=tuple(pixels(text, name="epsilons") for text in epsilons.split(",")),
        num_restarts=1 if args.num_restarts is None else args.num_restarts,
        source=evaluation.load_model_for_evaluation(args.source)[0] if args.source else None,
        strategy=strategy,
        save_attacked=args.save_attacked,
        announce=lambda estimate: say(str(estimate)),
    )


def _counts(text: str) -> tuple[int, ...]:
    """The numbers of steps that a flag lists."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InvalidInput(
            "`--num_steps` is no list of steps.", expected="whole numbers >= 1, such as 20,50", received=text
        )
    return tuple(map(int, parts))
