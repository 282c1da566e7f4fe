"""`advss-ensemble`: makes one SavedModel of several finished classifiers.

Synopsis:

    advss-ensemble runs/rotation runs/jigsaw runs/selfie --out=runs/ensemble
    advss-ensemble runs/rotation runs/jigsaw runs/selfie --out=runs/faithful --faithful    # as Chen et al. 2020
    advss-evaluate runs/ensemble --data=digits
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from advss_tf.cli.runs import run_of
from advss_tf.cli.starting import command, quiet_import, start
from advss_tf.errors import InvalidInput
from advss_tf.workdir import Workdir

_FAITHFUL = (
    "combine as the code of Chen et al. 2020 does: the ensemble is the mean of the probabilities, not its logarithm; "
    "the SavedModel serves both, its cards say which"
)
_CLASS_NAMES = "one name per class, A,B,…; by default those that the runs say"


def ensemble() -> None:
    """Console entry point `advss-ensemble`."""
    start(main, flags)


def flags() -> argparse.ArgumentParser:
    """The flags of the command."""
    parser = command(
        "advss-ensemble",
        "Makes one SavedModel of several finetuned classifiers: the mean of their probabilities, whose "
        "logarithm are the logits.",
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a run's folder, or a .keras file of a classifier")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the SavedModel to write, a new folder")
    parser.add_argument("--faithful", action="store_true", help=_FAITHFUL)
    parser.add_argument("--class_names", metavar="A,B", help=_CLASS_NAMES)
    return parser


def main(args: argparse.Namespace) -> int:
    """Does what the flags ask for; returns the exit code."""
    files, out = _files(args.models), _free(args.out)
    with quiet_import():
        from advss_tf.finetune.ensemble import RobustEnsemble
        from advss_tf.serving import export_ensemble

    names = _class_names(files) if args.class_names is None else args.class_names.split(",")
    models = [_loaded(file) for file in files]
    # Of a classifier that was trained beside a puzzle, the classifier alone.
    model = RobustEnsemble([getattr(each, "supervised", each) for each in models], faithful=args.faithful)
    about = [_about(file, each) for file, each in zip(files, models, strict=True)]
    combined = {"combine": model.combine, "faithful": model.faithful}
    provenance = {"members": about, **combined, **_external(files)}
    export_ensemble(model, out, class_names=names, provenance=provenance)
    print(f"Ensemble of {len(files)} classifiers: {out}")
    return 0


def _files(models: Sequence[str]) -> list[Path]:
    """The classifier's file of each model."""
    if len(models) < 2:
        raise InvalidInput(
            "An ensemble needs several models.", expected="two or more MODELs", received=" ".join(models) or "none"
        )
    files = [Workdir(path).classifier if Path(path).is_dir() else Path(path) for path in models]
    for model, file in zip(models, files, strict=True):
        if not file.is_file() or file.suffix != ".keras":
            what = "holds no finetuned classifier" if file.exists() or Path(model).exists() else "does not exist"
            expected = "a run's folder with finetune/classifier.keras in it, or a .keras file"
            raise InvalidInput(f"{model} {what}.", expected=expected, received=model)
    if len({file.resolve() for file in files}) < len(files):
        raise InvalidInput(
            "A model is named twice.", expected="each MODEL once", received=" ".join(str(file) for file in files)
        )
    return files


def _free(out: str) -> Path:
    path = Path(out)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise InvalidInput("There is something where the ensemble is to be.", expected="a new folder", received=out)
    return path


def _loaded(file: Path) -> Any:
    from advss_tf import finetune, pretext  # noqa: F401 - registers the classes that a .keras file may name
    from advss_tf.evaluation import load_model_for_evaluation

    return load_model_for_evaluation(file)[0]


def _class_names(files: Sequence[Path]) -> list[str] | None:
    """The names that the runs' records and exports give the classes; None where none says any.

    Raises:
        InvalidInput: if they differ.
    """
    found = {str(file): names for file in files if (names := _names_of(file)) is not None}
    if len({tuple(names) for names in found.values()}) > 1:
        raise InvalidInput(
            "The runs do not have the same classes.",
            expected="runs on one data set, or --class_names for what the classes are all the same",
            received="; ".join(f"{file}: {','.join(names)}" for file, names in found.items()),
        )
    return next(iter(found.values()), None)


def _names_of(file: Path) -> list[str] | None:
    from advss_tf.encoders.handoff import read_card
    from advss_tf.evaluation import load_record

    run = run_of(file)
    if run is not None and run.served.is_dir():
        return list(read_card(run.served, "classifier")["class_names"])
    return list(load_record(run.record).class_names) if run is not None and run.record.is_file() else None


def _about(file: Path, model: Any) -> dict[str, Any]:
    """What the export says of a member: its run, and the puzzle beside its classes."""
    run, more = run_of(file), getattr(model, "provenance", {})
    if run is None:
        return {"name": file.stem, **more}
    recipe = run.recipe.read_text(encoding="utf-8")
    return {"name": run.root.name, "recipe": recipe, "finetuned": {**(run.finished("finetune") or {}), **more}}


def _external(files: Sequence[Path]) -> dict[str, str]:
    """What the members have learned from outside their data, which every record of the ensemble is to repeat."""
    from advss_tf.staging import external_of

    words = dict.fromkeys(words for file in files if (words := external_of(file)) is not None)
    return {"external": "; ".join(words)} if words else {}
