"""The tasks of an ensemble: how they are asked for, and that they stand on one trunk."""

from __future__ import annotations

import pytest

from advss_tf.errors import InvalidInput
from advss_tf.pretext import MEMBERS, TASKS, Jigsaw, Rotation
from advss_tf.pretext.members import checked_tasks, make_puzzles, options_of


def test_words_and_sections_are_understood_and_none_is_the_papers_three():
    assert checked_tasks(["rotation", {"kind": "jigsaw", "grid": 2}]) == {"rotation": {}, "jigsaw": {"grid": 2}}
    assert list(checked_tasks(None)) == ["rotation", "jigsaw", "selfie"]


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([], "`tasks` make no ensemble. Expected: two or more of .'jigsaw', 'rotation', 'selfie'., each once."),
        (["rotation"], "`tasks` make no ensemble"),
        (["rotation", "rotation"], r"Received: \['rotation', 'rotation'\]"),
        (["rotation", "jigsav"], "`kind` is not known .did you mean 'jigsaw'"),
        (["rotation", {"grid": 2}], "`kind` is not known"),
        (["rotation", {"kind": "jigsaw", "gird": 2}], "`the option of jigsaw` is not known .did you mean 'grid'"),
        (["rotation", {"kind": "jigsaw", "attack": None}], "`the option of jigsaw` is not known"),
    ],
)
def test_what_makes_no_ensemble_is_refused(tasks, sentence):
    with pytest.raises(InvalidInput, match=sentence):
        checked_tasks(tasks)


def test_every_member_is_a_task_of_its_own_as_well():
    assert {kind: TASKS[kind] for kind in MEMBERS} == MEMBERS
    assert "clean_weight" in options_of("rotation") and "attack" not in options_of("rotation")


def test_they_share_the_trunk_and_part_at_the_boundary(tiny_encoder):
    tasks = {"rotation": {}, "jigsaw": {"grid": 2, "num_permutations": 3}, "selfie": {"num_layers": 1, "num_heads": 1}}
    puzzles = make_puzzles(tiny_encoder, tasks, boundary="stage1", own_norms=False, faithful=False, seed=4)
    assert (type(puzzles["rotation"]), type(puzzles["jigsaw"])) == (Rotation, Jigsaw)
    assert {puzzle.seed for puzzle in puzzles.values()} == {4} and puzzles["jigsaw"].num_permutations == 3
    for kind in ("rotation", "jigsaw"):
        own = puzzles[kind].encoder
        assert own.get_layer("stage1_conv") is tiny_encoder.get_layer("stage1_conv")
        assert own.get_layer("stage2_conv") is not tiny_encoder.get_layer("stage2_conv")
    assert puzzles["rotation"].encoder.get_layer("stage2_conv") is not own.get_layer("stage2_conv")
    patches = puzzles["selfie"].encoder
    assert puzzles["selfie"].boundary == "stage1"
    assert patches.get_layer("stage1_norm") is tiny_encoder.get_layer("stage1_norm")
    assert patches.get_layer("stage2_conv") is not tiny_encoder.get_layer("stage2_conv")


def test_without_a_boundary_they_share_the_encoder(tiny_encoder):
    puzzles = make_puzzles(
        tiny_encoder,
        {"rotation": {}, "selfie": {"num_layers": 1, "num_heads": 1}},
        boundary=None,
        own_norms=False,
        faithful=False,
        seed=0,
    )
    assert all(puzzle.encoder is tiny_encoder for puzzle in puzzles.values())


@pytest.mark.parametrize(
    ("options", "quirks"),
    [
        ({}, ("random", 0.1, False)),
        ({"balanced": True}, ("random", 0.1, True)),
        ({"faithful": False}, ("max_hamming", 0.0, True)),
    ],
)
def test_faithful_is_passed_on_to_those_who_have_it_and_do_not_say_it_themselves(options, quirks, tiny_encoder):
    tasks = {"rotation": {}, "jigsaw": options}
    puzzles = make_puzzles(tiny_encoder, tasks, boundary="stage1", own_norms=False, faithful=True, seed=0)
    jigsaw = puzzles["jigsaw"]
    assert (jigsaw.permutation_set, jigsaw.identity_share, jigsaw.balanced) == quirks


@pytest.mark.parametrize("boundary", ["stage1", None])
def test_selfie_may_have_norms_of_its_own_on_the_same_kernels(boundary, tiny_encoder):
    tasks = {"rotation": {}, "selfie": {"num_layers": 1, "num_heads": 1}}
    puzzles = make_puzzles(tiny_encoder, tasks, boundary=boundary, own_norms=True, faithful=False, seed=0)
    images, patches = (puzzles[kind].network for kind in ("rotation", "selfie"))
    assert patches.get_layer("stage1_conv") is images.get_layer("stage1_conv") is tiny_encoder.get_layer("stage1_conv")
    assert patches.get_layer("stage1_norm") is not images.get_layer("stage1_norm")
    assert images.get_layer("stage1_norm") is tiny_encoder.get_layer("stage1_norm")
