"""A run that was killed does not go on with other images than it began with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from advss_tf.config import make_recipe
from advss_tf.errors import InvalidInput
from advss_tf.runner import run
from advss_tf.screen import Screen
from advss_tf.workdir import Workdir


class Killed(Exception):
    """Stands for what ends a process."""


def at(line):
    def tell(said):
        if said.startswith(line):
            raise Killed

    return tell


@pytest.mark.slow
def test_a_run_killed_in_its_second_epoch_is_held_to_its_images(tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "images"
    for number in range(60):
        path = folder / f"class{number % 2}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    recipe = make_recipe(
        {
            "name": "folder",
            "seed": 0,
            "data": {"kind": "folder", "path": str(folder)},
            "encoder": {"kind": "resnet20", "width": 2},
            "strategy": "single",
            "finetune": {
                "start": "scratch", "train": "full", "how": "standard", "epochs": 3, "batch_size": 16,
                "optimizer": {"kind": "sgd", "learning_rate": 0.05},
            },
        }
    )  # fmt: skip
    workdir = Workdir(tmp_path / "run")

    def go(tell=None):
        run(recipe, workdir, stages=["finetune"], screen=Screen(workdir.log, quiet=True, tell=tell))

    with pytest.raises(Killed):
        go(at("finetune 2/3"))
    assert json.loads(workdir.data.read_text())["num_records"] == 60
    gone = sorted(folder.rglob("*.png"))[7]
    content = gone.read_bytes()
    gone.unlink()
    with pytest.raises(InvalidInput, match=r"images of 'images' have changed since this run.*60 to.*Received: 59 to"):
        go()
    gone.write_bytes(content)
    workdir.data.unlink()  # as in a folder of before
    lines = []
    go(lines.append)
    assert any("goes on after step" in line for line in lines), lines
    assert workdir.finished("finetune") is not None and workdir.data.is_file()
