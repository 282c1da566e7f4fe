"""How views are written, what a spec stands for, and the arguments that are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from advss_tf.data.view_kinds import VIEWS, Original, Strong, Weak, spec_of, view_of, views_of
from advss_tf.errors import InvalidInput

CHANGED = [
    (Strong(hue=0.0), {"kind": "strong", "hue": 0.0}),
    (Strong(smallest_area=0.1), {"kind": "strong", "smallest_area": 0.1}),
    (Strong(annealed=True), {"kind": "annealed", "smallest_area": 0.2}),
    (Weak(crop_padding=0, flip=False), {"kind": "weak", "crop_padding": 0, "flip": False}),
    (Weak(radius=4.0), {"kind": "high_frequency", "radius": 4.0}),
]


@pytest.mark.parametrize("name", VIEWS)
def test_a_name_and_its_view_are_each_others(name):
    assert VIEWS[name].kind == name and view_of(name) is VIEWS[name] and spec_of(VIEWS[name]) == name
    assert view_of({"kind": name}) == VIEWS[name]


@pytest.mark.parametrize(("view", "spec"), CHANGED)
def test_a_view_with_arguments_is_written_by_what_it_changes(view, spec):
    assert spec_of(view) == spec and view_of(spec) == view and view_of(view) is view
    assert view_of(json.loads(json.dumps(spec_of(view)))) == view


def test_an_original_has_no_arguments():
    assert view_of({"kind": "original"}) == Original()
    with pytest.raises(InvalidInput, match=r"`view argument` is not known\. Expected: one of \[\]"):
        view_of({"kind": "original", "flip": False})


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("stron", r"`view` is not known \(did you mean 'strong'\?\)"),
        ({"kind": "weka"}, r"`kind` is not known \(did you mean 'weak'\?\)"),
        ({"hue": 0.1}, r"This is no view.*a dictionary with one of them as `kind`.*view={'hue': 0.1}"),
        (3, "This is no view.*view=3"),
        ({"kind": "strong", "huge": 0.1}, r"`view argument` is not known \(did you mean 'hue'\?\)"),
        ({"kind": "strong", "annealed": True}, "`view argument` is not known"),
        ({"kind": "weak", "radius": 8.0}, "`view argument` is not known"),
        ({"kind": "high_frequency", "radius": None}, "A view without a radius is not 'high_frequency'"),
        ({"kind": "strong", "hue": 0.6}, r"`hue` of a view is out of range\. Expected: a number >= 0 and <= 0.5"),
    ],
)
def test_what_stands_for_no_view_is_refused(spec, words):
    with pytest.raises(InvalidInput, match=words):
        view_of(spec)


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        (Strong, {"smallest_area": 0.0}, "a number > 0 and <= 1"),
        (Strong, {"smallest_area": 1.5}, "a number > 0 and <= 1"),
        (Strong, {"brightness": -0.1}, "a number >= 0"),
        (Strong, {"contrast": np.inf}, "a number >= 0"),
        (Strong, {"saturation": np.nan}, "a number >= 0"),
        (Strong, {"hue": True}, "a number >= 0 and <= 0.5"),
        (Strong, {"jitter_probability": 1.1}, "a number >= 0 and <= 1"),
        (Strong, {"grey_probability": "all"}, "a number >= 0 and <= 1"),
        (Strong, {"interpolation": "nearest"}, r"one of \['bicubic', 'bilinear'\]"),
        (Weak, {"crop_padding": -1}, r"a whole number, 0 <= crop_padding < 2\*\*31"),
        (Weak, {"crop_padding": 1.0}, r"a whole number, 0 <= crop_padding < 2\*\*31"),
        (Weak, {"radius": 0}, "a number > 0"),
        (Weak, {"flip": "false"}, "True or False"),
        (Strong, {"flip": 1}, "True or False"),
        (Strong, {"annealed": None}, "True or False"),
    ],
)
def test_impossible_arguments_are_refused(kind, options, expected):
    ((name, value),) = options.items()
    with pytest.raises(InvalidInput, match=rf"Expected: {expected}\. Received: {name}={value!r}\."):
        kind(**options)


def test_numbers_of_numpy_become_pythons():
    view = Strong(hue=np.float64(0.1), smallest_area=np.float32(0.5), flip=np.bool_(False))
    assert view == Strong(smallest_area=0.5, flip=False)
    assert json.loads(json.dumps(spec_of(view))) == {"kind": "strong", "smallest_area": 0.5, "flip": False}
    assert json.dumps(spec_of(Weak(crop_padding=np.int64(2)))) == '{"kind": "weak", "crop_padding": 2}'


def test_a_list_of_specs_is_views_and_a_single_one_is_refused():
    assert views_of(["strong", {"kind": "weak"}, Strong(hue=0.0)]) == (Strong(), Weak(), Strong(hue=0.0))
    assert views_of([]) == ()
    for single in ("strong", {"kind": "strong", "hue": 0.0}, Strong()):
        with pytest.raises(InvalidInput, match="`views` is no list of views"):
            views_of(single)
