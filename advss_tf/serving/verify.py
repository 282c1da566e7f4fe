"""Does an export work where this library is not? Tried in processes that have TensorFlow alone.

Synopsis:

    export_classifier(classifier, "served/1")
    found = verify_export("served/1", images=images, expected=classifier)
    found["differences"]        # {"logits": 2e-7, "batch of 1": 1e-7, …, "saved_model_cli": 0.0}
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from advss_tf.encoders.handoff import is_ensemble, read_card
from advss_tf.errors import InvalidInput
from advss_tf.serving import plain_tensorflow
from advss_tf.serving.export import network_of
from advss_tf.serving.plain_tensorflow import largest_difference, lost_probability, output_difference

TOLERANCES = {"float32": 1e-5, "float16": 2.0**-9, "bfloat16": 2.0**-6}
"""By the coarsest numbers that an export computes with, in units of the largest output where that is above 1."""


class VerificationFailed(InvalidInput):
    """An export that does not do, without this library, what it should."""


def verify_export(
    path: str | os.PathLike[str],
    *,
    images: np.ndarray,
    expected: keras.Model | np.ndarray | Mapping[str, np.ndarray] | None = None,
    timeout: float = 300.0,
) -> dict[str, Any]:
    """Loads an export in a process that cannot import `advss_tf`, runs it, and runs `saved_model_cli` on it.

    Compared, on the CPU: the outputs with `expected`; batches of 1, 3 and 7 with the full batch; the loaded object
    called directly; PNG files with the same pixels; the outputs of `saved_model_cli run`, which loads the model as a
    server does. Each may differ by 1e-5, relative to the largest expected value where that is above 1 (probabilities:
    to half the largest logit), and a class by so much of its probability.

    An export that computes in float16 or bfloat16 may differ by twice the spacing of these numbers at 1, 2^-9 or
    2^-6: what is rounded after each layer depends on the order of the sums before it. Measured on a ResNet-20 and a
    ResNet-18 of width 16 with random weights, in units of the spacing: images that are moved by a millionth, which
    is no more than another order, move the logits by 0.4 to 0.7; computing in float32 moves them by 0.7 to 1.7.

    Args:
        path: A folder that `export_encoder`, `export_classifier` or `export_ensemble` wrote.
        images: (B, H, W, C) float32 in [0, 1].
        expected: The model that was exported, which is then called on the CPU; or what it gives for the images: an
            array of logits (classifier) or features (encoder), or a dict with any of `logits`, `probabilities`,
            `classes` and `features`. GPUs multiply float32 with 10 bits by default (TensorFloat-32): numbers from
            there differ by more than is allowed. None compares the export with itself alone.
        timeout: Seconds after which the whole verification gives up.

    Returns:
        A dict: `differences` (by what was compared), `tolerance`, `signatures`, `computes_in` (the coarsest numbers),
        `versions` (of the trying process), `advss_tf_blocked` (True).

    Raises:
        InvalidInput: if the path is no export or the images do not fit it.
        VerificationFailed: if the export does not load, does not run, or gives something else.
    """
    # An ensemble has several encoders, and no card of one.
    several = is_ensemble(path)
    card = read_card(path, "ensemble" if several else "encoder")
    _check_images(images, card["input_shape"])
    if isinstance(expected, keras.Model):
        expected = outputs_on_cpu(expected.logits if several else expected, images)
    deadline = time.monotonic() + timeout
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        np.savez(work / "images.npz", images=images)
        report = _try_plainly(Path(path).resolve(), work, deadline)
        outputs = dict(np.load(work / "outputs.npz"))
        report["tolerance"] = TOLERANCES[report["computes_in"]]
        for name, values in _by_output(expected, outputs).items():
            report["differences"][name] = _difference(name, values, outputs)
        _refuse_differences(report, path)
        report["differences"]["saved_model_cli"] = _try_cli(Path(path).resolve(), work, outputs, deadline)
    _refuse_differences(report, path)
    return report


def outputs_on_cpu(model: Callable[..., Any], images: np.ndarray) -> np.ndarray:
    """What a model gives for images (B, H, W, C) in inference mode, float32, computed where an export is tried.

    Its variables stay where they are, such as on a GPU or on several.
    """
    with tf.device("/CPU:0"):
        return network_of(model)(tf.constant(images)).numpy()


def _try_plainly(export: Path, work: Path, deadline: float) -> dict[str, Any]:
    request = {
        "folder": str(export),
        "images": str(work / "images.npz"),
        "outputs": str(work / "outputs.npz"),
        "report": str(work / "report.json"),
        "search_path": [place for place in sys.path if place],
    }
    # -I: no variable of the user's environment and no file of the current folder takes part.
    command = [sys.executable, "-I", plain_tensorflow.__file__]
    _run(command, "load and run the export without advss_tf", deadline, text=json.dumps(request))
    return json.loads((work / "report.json").read_text(encoding="utf-8"))


def _try_cli(export: Path, work: Path, outputs: Mapping[str, np.ndarray], deadline: float) -> float:
    """Runs `serving_default` with TensorFlow's own tool, as a server does; how far its numbers are from `outputs`."""
    found = shutil.which("saved_model_cli", path=str(Path(sys.executable).parent))
    tool = [found] if found else [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"]
    chosen = ["--dir", str(export), "--tag_set", "serve", "--signature_def", "serving_default"]
    files = ["--inputs", f"images={work / 'images.npz'}[images]", "--outdir", str(work / "cli")]
    _run([*tool, "run", *chosen, *files], "run the export with saved_model_cli", deadline)
    written = [file for file in (work / "cli").glob("*.npy") if outputs[file.stem].dtype.kind != "S"]
    return largest_difference({file.stem: np.load(file) for file in written}, outputs) if written else float("inf")


def _run(command: Sequence[str], purpose: str, deadline: float, *, text: str | None = None) -> str:
    """What a command prints on its standard output; nothing of it reaches the user's screen."""
    # `putenv` in a small process of its own: the environment of this process is neither read nor changed.
    quiet = (
        "import os; os.putenv('TF_CPP_MIN_LOG_LEVEL', '3'); os.putenv('CUDA_VISIBLE_DEVICES', '-1'); "
        f"os.execv({command[0]!r}, {list(command)!r})"
    )
    seconds = max(0.0, deadline - time.monotonic())
    started = [sys.executable, "-I", "-c", quiet]
    try:
        done = subprocess.run(started, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise VerificationFailed(
            f"There was not enough time to {purpose}.", expected="a larger `timeout`", received=f"{error.timeout:.0f} s"
        ) from error
    if done.returncode:
        raise VerificationFailed(
            f"It was not possible to {purpose}.",
            expected="exit status 0",
            received=f"exit status {done.returncode}, {done.stderr.strip()[-600:]!r}",
        )
    return done.stdout


def _check_images(images: Any, shape: Sequence[int | None]) -> None:
    fits = isinstance(images, np.ndarray) and images.dtype == np.float32 and images.ndim == 4 and len(images) > 0
    if fits:
        sizes = zip(images.shape[1:], shape, strict=True)
        fits = all(wanted in (None, size) for size, wanted in sizes) and bool(np.all((images >= 0) & (images <= 1)))
    if not fits:
        described = f"{getattr(images, 'dtype', type(images).__name__)} {getattr(images, 'shape', '')}"
        raise InvalidInput(
            "`images` do not fit the export.",
            expected=f"a float32 array of shape (B, {', '.join(map(str, shape))}) in [0, 1], B >= 1",
            received=f"images={described}",
        )


def _by_output(expected: Any, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if expected is None:
        return {}
    main = "logits" if "logits" in outputs else "features"
    named = dict(expected) if isinstance(expected, Mapping) else {main: expected}
    numbers = sorted(name for name, value in outputs.items() if value.dtype.kind != "S")
    if unknown := sorted(set(named) - set(numbers)):
        raise InvalidInput("`expected` names no output.", expected=f"some of {numbers}", received=f"{unknown}")
    return {name: np.asarray(values) for name, values in named.items()}


def _difference(name: str, values: np.ndarray, outputs: Mapping[str, np.ndarray]) -> float:
    if name == "classes":
        return lost_probability(values, outputs["probabilities"])
    return output_difference(name, outputs[name], {**outputs, name: values})


def _refuse_differences(report: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    if not report["advss_tf_blocked"]:
        raise VerificationFailed("advss_tf could be imported.", expected="a process without it", received=f"{path}")
    tolerance = report["tolerance"]
    large = {name: value for name, value in report["differences"].items() if not value <= tolerance}
    if large:
        raise VerificationFailed(
            "The export gives other values than it should.",
            expected=f"differences <= {tolerance:g}, computed in {report['computes_in']}",
            received=", ".join(f"{name}: {value:.3g}" for name, value in large.items()) + f" for {str(path)!r}",
        )
