"""What every record says, whatever was measured: the model, the data, the cost, and how to repeat it.

Synopsis:

    class Record(Header): ...                  # adds what was found
    record.save("record.json")
    Record.load("record.json")

Names are those of RobustBench's `model_info` where it has one. Accuracies are fractions in [0, 1].
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from advss_tf.errors import InvalidInput
from advss_tf.workdir import replacing


class Header(BaseModel):
    """The fields that records share. Frozen.

    Attributes:
        threat: What the model was put to: a norm, or a kind of distortion.
        clean_acc: Fraction right on clean images.
        training_eps: The epsilon that the model was trained with, where it is known; in the norm of `training_threat`.
        external: In words, what outside the data set the model has learned from, such as pseudo-labels of an encoder of
            other images; None where nothing of the kind is known.
        num_images: How many images were evaluated, of `num_images_available`.
        subset: In words, which images they were; None when they are all.
        class_totals: How many of them each class has.
        images_fingerprint: sha256 over exactly the pixels and labels that were evaluated.
        output: What the model gave: "logits", or "probabilities" whose logarithm was taken.
        warnings: Signs that a number cannot be trusted, in words.
        seconds: Wall time of all.
        forward_passes: Per image, of all.
        backward_passes: Per image, of all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    schema_version: Literal[1] = 1
    name: str
    architecture: str | None = None
    dataset: str | None = None
    split: str | None = None
    threat: str
    clean_acc: float = Field(ge=0, le=1)
    training_eps: float | None = Field(None, ge=0)
    training_threat: Literal["Linf", "L2"] | None = None
    external: str | None = None
    seed: int
    batch_size: int = Field(ge=1)
    num_images: int = Field(ge=1)
    num_images_available: int = Field(ge=1)
    subset: str | None = None
    image_shape: tuple[int, int, int]
    num_classes: int = Field(ge=2)
    class_names: tuple[str, ...]
    class_totals: tuple[int, ...]
    data_fingerprint: str | None = None
    images_fingerprint: str
    output: Literal["logits", "probabilities"]
    warnings: tuple[str, ...] = ()
    versions: dict[str, str]
    device: str
    date: str
    seconds: float = Field(ge=0)
    forward_passes: float = Field(ge=0)
    backward_passes: float = Field(ge=0)

    def save(self, path: str | Path) -> Path:
        """Writes the record as JSON, whole or not at all.

        Args:
            path: The JSON file.

        Returns:
            `path`.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            file.write(self.model_dump_json(indent=2).encode() + b"\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote.

        Raises:
            InvalidInput: if the file is missing, is not JSON, or is not a record of this version.
        """
        path = Path(path)
        if not path.is_file():
            raise InvalidInput("There is no record at this path.", expected="a JSON file", received=f"path={path}")
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise InvalidInput(
                f"{path.name} is not a record: {where}: {first['msg']}.",
                expected=f"what `{cls.__name__}.save` writes, schema_version 1",
                received=f"{error.error_count()} error(s) in {path}",
            ) from error
