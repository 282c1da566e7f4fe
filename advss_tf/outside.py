"""What a model has learned from beyond the images of its run: in words that every export and record after it repeats.

Synopsis:

    origin = origin_of("runs/simclr/pretrain/encoder")       # its provenance, and whether labels have taught it
    learned_outside(origin, data, "its teacher")             # None, or "its teacher was trained on photographs"
    outside_of_clusters(origin, data, declared=False)        # the same; refused where nobody has declared it
    outside_of_features(origin, data, external=None)         # the same of a model in memory, declared in words

The same words hold for all that a run takes from elsewhere: the encoder that it starts from, its teacher, the encoder
whose features are clustered. An export that does not say which images it is from, as one that was made in Python
without a provenance, was trained on "unknown data": it may be of the same images, but nobody can tell.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from advss_tf.data import ImageData
from advss_tf.data.memory import fingerprint
from advss_tf.encoders.handoff import origin_of, read_card, read_variables
from advss_tf.errors import InvalidInput

__all__ = ["digest_of", "learned_outside", "origin_of", "outside_of_clusters", "outside_of_features"]


def digest_of(path: str | Path) -> str:
    """SHA-256, in hexadecimal, of an export: of how its encoder is built and of every variable.

    Raises:
        InvalidInput: if the folder is not an export of this library, or is damaged.
    """
    variables = read_variables(path)
    built = json.dumps([read_card(path, "encoder")["config"], list(variables)], sort_keys=True)
    return hashlib.sha256(f"{built} {fingerprint(variables.values())}".encode()).hexdigest()


def learned_outside(origin: Mapping[str, Any], data: ImageData, who: str) -> str | None:
    """In words, what an encoder has learned from beside the images of a data set; None if nothing.

    Args:
        origin: What `origin_of` says of it; its `external`, what it has been told by others in turn, is passed on.
        data: The data set.
        who: Whom the words are of, such as `"its teacher"`.
    """
    about = origin.get("data")
    about = about if isinstance(about, Mapping) else {}
    known = about.get("fingerprint") == data.fingerprint
    own = [] if known else [f"was trained on {_named(about.get('name'), data)}"]
    own += ["has learned from labels"] if origin.get("labels") else []
    words = [f"{who} {' and '.join(own)}"] if own else []
    return "; ".join([*words, *([str(origin["external"])] if origin.get("external") else [])]) or None


def outside_of_clusters(origin: Mapping[str, Any], data: ImageData, *, declared: bool) -> str | None:
    """What pseudo-labels bring in with the encoder whose features are clustered, as `learned_outside` says it.

    Args:
        origin: What `origin_of` says of the encoder.
        data: The data set whose features are clustered.
        declared: Whether the recipe says `external: true`.

    Raises:
        InvalidInput: if labels have taught the encoder, or it was trained on other images or does not say on which,
            and nobody has declared it. What it says by itself to have from outside is passed on.
    """
    wrong = learned_outside({**origin, "external": None}, data, "it")
    if wrong is not None and not declared:
        raise InvalidInput(
            f"The encoder was not trained on the images of {data.name!r} alone: its pseudo-labels bring the rest in.",
            expected=f"a self-supervised encoder of the data with fingerprint {data.fingerprint}, or cluster.external: "
            "true, which every record will then say",
            received=f"an encoder of which is known that {wrong}, external=false",
        )
    words = learned_outside(origin, data, "it")
    return "it has learned from outside, as its recipe says" if declared and words is None else words


def outside_of_features(origin: Mapping[str, Any], data: ImageData, *, external: str | None) -> str | None:
    """As `outside_of_clusters`, of an encoder that was loaded in a program, where words declare what it has learned.

    An export that a program made does not say on which images unless it was told to: where nothing else is known of it,
    the labels are made, and say so.

    Args:
        origin: What `origin_of_model` says of the encoder.
        data: The data set whose features are clustered.
        external: What the caller says that the encoder has learned from outside.

    Returns:
        What the caller says, and what the encoder says that is not in it; None if neither says anything.

    Raises:
        InvalidInput: if it was trained on other images, labels have taught it, or it has been told something by others
            and does not say on which images it was trained, and `external` is None.
    """
    found = learned_outside(origin, data, "it")
    if external is not None:
        return external if found is None or found in external else f"{external}; {found}"
    unnamed = not isinstance(origin.get("data"), Mapping) or origin["data"].get("name") is None
    own = unnamed and not origin.get("labels") and not origin.get("external")
    if not own and learned_outside({**origin, "external": None}, data, "it") is not None:
        raise InvalidInput(
            f"The encoder was not trained on the images of {data.name!r} alone: its pseudo-labels bring the rest in.",
            expected=f'a self-supervised encoder of the data with fingerprint {data.fingerprint}, or external="…": in '
            "words what else it has learned from, which every record will then say",
            received=f"an encoder of which is known that {found}, external=None",
        )
    return found


def _named(name: Any, data: ImageData) -> str:
    if name is None:
        return "unknown data"
    return f"other images by the name of {name}" if name == data.name else str(name)
