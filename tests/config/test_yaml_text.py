"""YAML is read as 1.2, and only as much of it as a recipe needs."""

from __future__ import annotations

import pytest

from advss_tf.config.yaml_text import InvalidYaml, read_yaml, write_yaml


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4), ("1E3", 1000.0), (".5", 0.5), ("5.", 5.0), ("+1", 1), ("-3", -3), ("010", 10), ("0o10", 8),
        ("0x1F", 31), ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("True", True), ("false", False),
        ("~", None), ("null", None), ("", None), ("1:30", "1:30"), ("8/255", "8/255"), ("'3'", "3"),
        ("[1, a]", [1, "a"]), ("{b: 1}", {"b": 1}), ("null # a comment", None), ("!!str 3", "3"),
        ("|\n  x\n  y\n", "x\ny\n"),
    ],
)  # fmt: skip
def test_values_are_those_of_yaml_1_2(written, value):
    found = read_yaml(f"a: {written}")["a"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\n", 4, "the key 'c' appears twice. Expected: each key once. Received: 'c: 2'."),
        ("a: !!python/object/apply:os.system [x]", 1, "the tag 'python/object/apply:os.system' is refused."),
        ("a: !env HOME", 1, "the tag '!env' is refused. Expected: plain values without tags."),
        ("a: 1\n\tb: 2", 2, "is not YAML 1.2: "),
        ("a: 'x", 1, "is not YAML 1.2: "),
        ("a: *nothing", 1, "is not YAML 1.2: found undefined alias 'nothing'."),
        ("a: 1\n---\nb: 2\n", 2, "is not YAML 1.2: but found another document."),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text, line, what):
    with pytest.raises(InvalidYaml) as caught:
        read_yaml(text)
    (fault,) = caught.value.faults
    assert caught.value.line == line
    assert str(fault).startswith(what) and "\n" not in str(fault)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: {b: ['${oc.env:HOME}']}", "a.b[0]: holds an interpolation. Expected: the value itself, or a YAML anchor."),
        ("a: 2024-01-01", "a: is read as a date. Expected: text in quotes, a number, true, false or null."),
        ("a: !!set {x}", "a: is read as a set."),
        ("a: !!binary aGVsbG8=", "a: is read as a bytes."),
        ("a: .nan", "a: must be finite."),
        ("a: [-.inf]", "a[0]: must be finite."),
        ("a: 1e400", "a: must be finite."),
        ("a: 99999999999999999999", "a: is too large a number. Expected: an integer of 64 bits."),
        (
            "a: 0x" + "f" * 5000,
            "a: is too large a number. Expected: an integer of 64 bits. Received: an integer of 20000",
        ),
        ("a: {1: 2}", "a: has a key that is not text. Expected: text as the key. Received: 1."),
        ("a: !!int ''", "cannot be read. Expected: YAML 1.2."),
        ("a: 2024-99-99", "cannot be read. Expected: YAML 1.2."),
        ("a: \x00", "cannot be read. Expected: YAML 1.2."),
        ("%YAML 1.1\n---\na: no", "is another version of YAML. Expected: YAML 1.2"),
        ("[" * 3000, "is too large for a recipe."),
        ("[" * 30 + "]" * 30, "is too large for a recipe."),
        ("a: &a [*a]", "is too large for a recipe."),
    ],
)
def test_what_a_recipe_cannot_hold_is_refused_in_words(text, sentence):
    with pytest.raises(InvalidYaml) as caught:
        read_yaml(text)
    (fault,) = caught.value.faults
    assert str(fault).startswith(sentence) and "\n" not in str(fault)


def test_anchors_that_multiply_are_refused_before_they_fill_the_memory():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 19))
    with pytest.raises(InvalidYaml, match="too large for a recipe"):
        read_yaml(bomb)


def test_anchors_and_merge_keys_are_copied_so_that_a_change_stays_in_its_place():
    values = read_yaml("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n")
    assert values == {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}}
    values["a"]["x"] = 5
    assert values["b"]["x"] == 1


def test_written_yaml_keeps_the_order_of_keys():
    assert write_yaml({"b": 1, "a": [True, None], "c": {"e": 1e-4}}) == "b: 1\na:\n- true\n- null\nc:\n  e: 0.0001\n"
