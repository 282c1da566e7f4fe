"""An evaluation that is killed goes on behind its last finished batch, and ends with the same record."""

from __future__ import annotations

import numpy as np
import pytest

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import evaluate, read_attacked
from advss_tf.evaluation.partial import Partial, go_through

LOGITS = np.array([[0.5, -1.0]], np.float32)


class Killed(Exception):
    """Stands for a kill."""


def run(linear, **more):
    images, labels = linear.images, linear.labels
    return evaluate(linear, (images, labels), num_steps=4, epsilons=(0.02, 0.05), num_restarts=2, batch_size=20, **more)


@pytest.mark.parametrize("moment", [1, 3, 5, 6])
def test_a_killed_evaluation_ends_with_the_record_of_one_that_was_not(linear, tmp_path, moment):
    told = []

    def kill(event):
        told.append(event)
        if len(told) == moment:
            raise Killed

    with pytest.raises(Killed):
        run(linear, partial=tmp_path / "partial", progress=kill)
    attacked_before = (moment - 1) // 2
    again = []
    record = run(linear, partial=tmp_path / "partial", progress=again.append)
    assert len(again) == (3 - attacked_before) * 2
    assert again[-1].seconds_left == 0.0
    whole = run(linear)
    assert [row.correct for row in record.results] == [row.correct for row in whole.results]
    assert [row.forward_passes for row in record.results] == [row.forward_passes for row in whole.results]
    assert record.examples == whole.examples
    assert not (tmp_path / "partial").exists()


def test_the_attacked_images_of_a_killed_evaluation_are_whole_in_the_end(linear, tmp_path):
    told = []

    def kill(event):
        told.append(event)
        if len(told) == 5:
            raise Killed

    folders = {"partial": tmp_path / "partial", "save_attacked": tmp_path / "attacked"}
    with pytest.raises(Killed):
        run(linear, **folders, progress=kill)
    run(linear, **folders)
    run(linear, save_attacked=tmp_path / "whole")
    for one, other in zip(*(list(read_attacked(tmp_path / name)) for name in ("attacked", "whole")), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_what_is_finished_is_restored_and_the_rest_is_evaluated_and_kept(tmp_path):
    partial, did = Partial(tmp_path, {}, logits=LOGITS), []
    partial.save(1, {"a": np.array(7)})

    def evaluate_unit(number, unit):
        did.append(("evaluated", number, unit))
        return {"a": np.array(number)}

    def restore(unit, arrays):
        did.append(("restored", int(arrays["a"]), unit))

    go_through("xyz", partial, restore=restore, evaluate=evaluate_unit)
    assert did == [("evaluated", 0, "x"), ("restored", 7, "y"), ("evaluated", 2, "z")]
    assert [int(partial.load(number)["a"]) for number in range(3)] == [0, 7, 2]
    go_through("xy", None, restore=restore, evaluate=evaluate_unit)
    assert did[3:] == [("evaluated", 0, "x"), ("evaluated", 1, "y")]


def test_batches_of_another_evaluation_or_model_are_refused(linear, tmp_path):
    Partial(tmp_path, {"suite": "quick", "seed": 0}, logits=LOGITS).save(0, {"a": np.arange(3)})
    same = Partial(tmp_path, {"suite": "quick", "seed": 0}, logits=LOGITS + 1e-4)
    np.testing.assert_array_equal(same.load(0)["a"], np.arange(3))
    assert same.load(1) is None
    with pytest.raises(InvalidInput, match="Received: other seed"):
        Partial(tmp_path, {"suite": "quick", "seed": 1}, logits=LOGITS)
    with pytest.raises(InvalidInput, match="the model's logits"):
        Partial(tmp_path, {"suite": "quick", "seed": 0}, logits=LOGITS + 1)
