"""The program that tries an export in a process where `advss_tf` cannot be imported; started by `verify_export`.

Synopsis:

    python -I plain_tensorflow.py < request.json         # writes what it found to the files that the request names

The request holds `folder` (the export), `images` (.npz with `images`), `outputs` (.npz to write), `report` (JSON to
write) and `search_path` (where to look for TensorFlow). This file imports nothing of its own package.
"""

from __future__ import annotations

import importlib
import importlib.abc
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

BATCH_SIZES = (1, 3, 7)


class Blocked(importlib.abc.MetaPathFinder):
    """Makes every import of `advss_tf` fail, wherever it may be installed."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """Refuses `advss_tf`, and leaves every other module to the finders that follow."""
        if fullname.partition(".")[0] == "advss_tf":
            raise ImportError("advss_tf is blocked in this process")


def is_blocked() -> bool:
    """Whether importing `advss_tf` fails here."""
    try:
        importlib.import_module("advss_tf")
    except ImportError:
        return True
    return False


def main() -> None:
    """Loads the export, runs every signature, and writes outputs and report."""
    request = json.load(sys.stdin)
    sys.path[:] = request["search_path"]
    sys.meta_path.insert(0, Blocked())
    os.putenv("TF_CPP_MIN_LOG_LEVEL", "3")
    # The process that asks may hold all of the accelerator's memory.
    os.putenv("CUDA_VISIBLE_DEVICES", "-1")
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(request["folder"])
    images = np.load(request["images"])["images"]
    outputs = run_signatures(loaded, images)
    differences = {f"batch of {size}": batch_difference(loaded, images, outputs, size) for size in BATCH_SIZES}
    called = np.asarray(loaded(images))
    differences["__call__"] = relative_difference(called, outputs.get("logits", outputs.get("features")))
    if "encoded" in loaded.signatures:
        differences["encoded"] = encoded_difference(loaded, images)
    np.savez(request["outputs"], **outputs)
    report = {
        "advss_tf_blocked": is_blocked(),
        "signatures": sorted(loaded.signatures),
        "computes_in": coarsest_dtype(loaded),
        "differences": differences,
        "versions": {"python": sys.version.split()[0], "tensorflow": tf.__version__},
    }
    with open(request["report"], "w", encoding="utf-8") as file:
        json.dump(report, file)


def run_signatures(loaded: Any, images: Any) -> dict[str, Any]:
    """The outputs by name of every signature that takes `images`."""
    import tensorflow as tf

    outputs: dict[str, Any] = {}
    for signature in loaded.signatures.values():
        if "images" in signature.structured_input_signature[1]:
            outputs |= {name: plain(value) for name, value in signature(images=tf.constant(images)).items()}
    return outputs


def plain(value: Any) -> Any:
    """A tensor as an array that needs no pickle to be saved."""
    array = value.numpy()
    return array.astype("S") if array.dtype == object else array


def batch_difference(loaded: Any, images: Any, outputs: dict[str, Any], size: int) -> float:
    """How far the outputs of a batch of another size are from the same rows of the full batch."""
    import numpy as np

    rows = np.arange(size) % len(images)
    found = run_signatures(loaded, images[rows])
    return largest_difference(found, {name: values[rows] for name, values in outputs.items()})


def coarsest_dtype(loaded: Any) -> str:
    """The coarsest floating point numbers that an export computes with: "bfloat16", "float16" or "float32"."""
    import tensorflow as tf

    graphs = [signature.graph.as_graph_def() for signature in loaded.signatures.values()]
    functions = [function for graph in graphs for function in graph.library.function]
    nodes = [node for graph in graphs for node in graph.node] + [node for each in functions for node in each.node_def]
    found = {node.attr["T"].type for node in nodes if "T" in node.attr}
    coarse = [dtype.name for dtype in (tf.bfloat16, tf.float16) if dtype.as_datatype_enum in found]
    return coarse[0] if coarse else "float32"


def encoded_difference(loaded: Any, images: Any) -> float:
    """How far the probabilities of PNG files are from those of the same pixels."""
    import numpy as np
    import tensorflow as tf

    pixels = np.round(images * 255).astype(np.uint8)
    files = tf.stack([tf.io.encode_png(image) for image in pixels])
    found = loaded.signatures["encoded"](image_bytes=files)
    same = run_signatures(loaded, pixels.astype(np.float32) / 255.0)
    return output_difference("probabilities", found["probabilities"].numpy(), same)


def output_difference(name: str, values: Any, expected: Mapping[str, Any]) -> float:
    """How far the values of an output are from the expected ones, relative where these are large.

    What logits differ by, the probabilities do by half of it at most: theirs is in units of half the largest logit,
    where logits are at hand and that is above 1.
    """
    import numpy as np

    difference = relative_difference(values, expected[name])
    if name == "probabilities" and "logits" in expected:
        difference /= max(1.0, float(np.max(np.abs(expected["logits"]), initial=0.0)) / 2)
    return difference


def largest_difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """The largest difference between outputs by name. Labels are names of classes, which are compared themselves."""
    numbers = [output_difference(name, value, expected) for name, value in found.items() if value.dtype.kind == "f"]
    classes = [lost_probability(found["classes"], expected["probabilities"])] if "classes" in found else []
    return max(numbers + classes)


def lost_probability(classes: Any, probabilities: Any) -> float:
    """How much less probable than the most probable class the given ones are, at most: where two classes are equally
    probable up to rounding, either may be named. Infinite for what are no classes of these (B, K) probabilities.
    """
    import numpy as np

    classes, probabilities = np.asarray(classes), np.asarray(probabilities, np.float64)
    if classes.shape != probabilities.shape[:1] or not np.all((classes >= 0) & (classes < probabilities.shape[1])):
        return float("inf")
    given = np.take_along_axis(probabilities, classes.astype(np.int64)[:, None], axis=1)
    return float(np.max(probabilities.max(axis=1, keepdims=True) - given, initial=0.0))


def relative_difference(found: Any, expected: Any) -> float:
    """The largest difference, in units of the largest expected value if that is above 1; infinite for NaN or shape."""
    import numpy as np

    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        return float("inf")
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    difference = float(np.max(np.abs(found - expected), initial=0.0)) / scale
    return float("inf") if np.isnan(difference) else difference


if __name__ == "__main__":
    main()
