"""Two records of the same images, in a sentence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import compare, evaluate, write_report
from advss_tf.evaluation.records.comparison import comparisons


def with_outcome(record, name, robust):
    examples = dataclasses.replace(record.examples, outcome_robust=np.array(robust))
    return record.model_copy(update={"name": name, "examples": examples})


def test_only_the_images_on_which_the_models_differ_count(record):
    """Twelve images to none: p = 2 · 2**-12."""
    strong = with_outcome(record, "strong", [True] * 32 + [False] * 18)
    weak = with_outcome(record, "weak", [True] * 20 + [False] * 30)
    found = compare(weak, strong)
    assert (found.only_first, found.only_second, found.num_images) == (0, 12, 50)
    assert found.p_value == pytest.approx(2**-11)
    assert str(found) == (
        "strong is more robust than weak: it alone holds 12 images, weak alone 0 (exact McNemar test, p = 0.00049, "
        "50 images, Linf 8/255)."
    )


def test_a_difference_that_chance_makes_is_not_called_one(record):
    one = with_outcome(record, "one", [True] * 3 + [False] * 47)
    other = with_outcome(record, "other", [False] * 3 + [True] * 2 + [False] * 45)
    found = compare(one, other)
    assert found.p_value == 1.0
    assert str(found).startswith("No difference in robustness between one and other is shown")


def test_a_report_compares_every_pair_but_not_the_runs_of_one_recipe(record, tmp_path):
    strong = with_outcome(record, "strong", [True] * 32 + [False] * 18)
    weak = with_outcome(record, "weak", [True] * 20 + [False] * 30)
    sentence = "strong is more robust than weak: it alone holds 12 images"
    assert [str(pair)[: len(sentence)] for pair in comparisons([weak, strong])] == [sentence]
    assert comparisons([weak, weak, strong, strong]) == []
    for text in (write_report([weak, strong], tmp_path), tmp_path / "report.md"):
        assert sentence in text.read_text()
    assert "Pairs" not in write_report([weak, weak, strong, strong], tmp_path).read_text()


def test_records_of_other_images_or_balls_are_refused(linear, record):
    fewer = evaluate(linear, (linear.images[:40], linear.labels[:40]), num_steps=5, epsilons=(0.02, "8/255"))
    with pytest.raises(InvalidInput, match="images_fingerprint"):
        compare(record, fewer)
    with pytest.raises(InvalidInput, match=r"eps=0\.0313725 and 0\.02"):
        compare(record, record.model_copy(update={"eps": 0.02}))
    with pytest.raises(InvalidInput, match="examples=True and False"):
        compare(record, record.model_copy(update={"examples": None}))
