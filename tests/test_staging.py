"""What a stage says before it trains."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.attacks import Linf, ProjectedGradientDescent
from advss_tf.data import load_data
from advss_tf.errors import InvalidInput
from advss_tf.finetune import JointClassifier
from advss_tf.pretext import TASKS, contrastive
from advss_tf.staging import Run, hold_to_images, warn_of_memory, warn_of_rims
from advss_tf.workdir import Workdir


class Heard:
    """A screen that remembers its lines."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def images(*, background: float):
    """Forty images with a bright middle and an edge of one grey."""
    values = np.full((40, 8, 8, 3), background, np.float32)
    values[:, 2:6, 2:6] = 0.9
    return load_data((values, np.arange(40) % 2), held_out=0.25, crop_padding=2)


def said(model, data, stage="pretrain"):
    heard = Heard()
    warn_of_rims(Run(None, None, data, None, heard), stage, model, data.crop_padding)
    return heard.lines


def test_a_run_is_held_to_the_images_that_it_began_with(tmp_path):
    workdir, strategy = Workdir(tmp_path / "run"), tf.distribute.get_strategy()
    values = np.random.default_rng(0).random((40, 8, 8, 3), np.float32)

    def hold(values, name="set"):
        data = load_data((values, np.arange(len(values)) % 2), held_out=0.25)
        hold_to_images(Run(None, workdir, dataclasses.replace(data, name=name), strategy, None))

    hold(values)
    noted = json.loads(workdir.data.read_text())
    assert (noted["name"], noted["num_records"]) == ("set", 40)
    hold(values, name="moved")
    with pytest.raises(InvalidInput, match=r"changed since.*those of then, 40 to train.*Received: 39 to train"):
        hold(values[:-1])
    other = values.copy()
    other[3, 0, 0, 0] += 0.01
    with pytest.raises(InvalidInput, match=f"The images of 'set' have changed.*{noted['fingerprint']}; or a new"):
        hold(other)
    assert json.loads(workdir.data.read_text()) == noted
    workdir.data.write_text("[]")
    with pytest.raises(InvalidInput, match="does not say which images this run began with"):
        hold(values)


@pytest.mark.parametrize("kind", ["rotation", "jigsaw", "selfie", "ensemble"])
def test_a_rim_that_tells_where_patches_belong_is_warned_of(kind, two_stages):
    model = TASKS[kind](two_stages())
    lines, patches = said(model, images(background=0.4)), kind != "rotation"
    assert len(lines) == patches and all("by up to 2 pixels" in line for line in lines)
    assert not said(model, images(background=0.0)), "a rim of black around black"
    assert not said(model, dataclasses.replace(images(background=0.4), crop_padding=0)), "nothing is shifted"


def test_finetuning_warns_of_the_task_beside_the_classes(two_stages):
    network = two_stages()
    model = JointClassifier(network, 2, auxiliary=TASKS["jigsaw"](network), attack=ProjectedGradientDescent(Linf(0.1)))
    (line,) = said(model, images(background=0.4), stage="finetune")
    assert "WARNING: finetune" in line and "With data.crop_padding=0" in line
    assert not said(TASKS["rotation"](network), images(background=0.4))


def test_a_loss_that_memory_may_not_hold_is_warned_of(two_stages, monkeypatch):
    """Two views of 8 images: 16 · (2 · 8)² = 4096 bytes."""
    heard, model = Heard(), TASKS["simclr"](two_stages(), attack=None, projection=(4,))
    here = Run(None, None, None, tf.distribute.get_strategy(), heard)
    monkeypatch.setattr(contrastive, "spare_bytes", lambda: 4096)
    warn_of_memory(here, model, 8)
    warn_of_memory(here, TASKS["rotation"](two_stages()), 1_000_000)
    assert not heard.lines
    monkeypatch.setattr(contrastive, "spare_bytes", lambda: 4095)
    warn_of_memory(here, model, 8)
    assert len(heard.lines) == 1 and "the contrastive loss of 8 images" in heard.lines[0]
    warn_of_memory(here, model, 8)
    assert len(heard.lines) == 1, "fit, which looks too, does not say it again"
