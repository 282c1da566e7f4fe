"""What AdvCL refuses of its options."""

from __future__ import annotations

import pytest

from advss_tf.errors import InvalidInput
from advss_tf.pretext import AdvCL


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clean_views": ()}, "no positive"),
        ({"clean_views": "strong"}, "no positive"),
        ({"attacked_view": "high_frequency"}, "no pixels"),
        ({"attack": None}, "attacks a view"),
        ({"pseudo_sizes": (1,)}, "pseudo_sizes"),
        ({"pseudo_sizes": (10, 10)}, "pseudo_sizes"),
        ({"pseudo_weight": -0.1}, "pseudo_weight"),
        ({"pseudo_weight": float("nan")}, "pseudo_weight"),
        ({"pseudo_weight": 0.0, "pseudo_sizes": (2,)}, "pseudo_weight"),
        ({"perturbation": "shard"}, "did you mean 'shared'"),
        ({"base_temperature": 0.0}, "base_temperature"),
    ],
)
def test_impossible_options_are_refused(options, words, two_stages, small_attack):
    with pytest.raises(InvalidInput, match=words):
        AdvCL(two_stages(), **{"attack": small_attack(), **options})
