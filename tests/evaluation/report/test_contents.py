"""Records of both kinds, sorted, named and matched."""

from __future__ import annotations

from advss_tf.evaluation.report.contents import Contents
from advss_tf.evaluation.report.tables import facts


def test_records_of_one_name_are_one_model(record, distorted):
    one = record.model_copy(update={"name": "a"})
    found = Contents.of([distorted(name="b"), one, distorted(name="a"), distorted(name="a", threat="unforeseen")])
    models = {model.name: (model.attacked is not None, list(model.distorted)) for model in found.models}
    assert models == {"a": (True, ["corruptions", "unforeseen"]), "b": (False, ["corruptions"])}
    assert found.models[0].header is one
    assert found.lead == (
        "2 models on made: clean accuracy, and accuracy under attack (Linf 8/255), under corruptions (2 types × 2 "
        "severities) and under unforeseen attacks (2 types × 2 sizes)."
    )
    assert found.title == "Robustness of a, b"
    assert Contents.of([distorted(name=name) for name in "abcde"]).title == "Robustness of 5 models"


def test_what_a_model_has_learned_from_outside_stands_under_the_title_once(record, distorted):
    words = "labels of ImageNet"
    first = record.model_copy(update={"name": "a", "external": words})
    found = Contents.of([first, distorted(name="a", external=words), record.model_copy(update={"name": "b"})])
    assert found.lead.endswith(". a has learned from outside: labels of ImageNet.")
    assert found.lead.count(words) == 1
    assert ("Learned from outside", words) in list(facts(first)) and "outside" not in str(list(facts(record)))


def test_runs_of_one_name_stay_apart(record, distorted):
    found = Contents.of([record, record, distorted()])
    assert found.attacked_names == (f"{record.name} #1", f"{record.name} #2")
    assert [model.name for model in found.models] == [*found.attacked_names, record.name]
    assert found.lead.startswith("2 models on made")


def test_one_record_is_one_model(record, distorted):
    assert Contents.of([record]).lead == ("One model on made: clean accuracy, and accuracy under attack (Linf 8/255).")
    assert Contents.of([distorted()]).lead == (
        "One model on made: clean accuracy, and accuracy under corruptions (2 types × 2 severities)."
    )


def test_warnings_say_which_record_they_are_of(record, distorted):
    first = record.model_copy(update={"name": "a", "warnings": ("One.", "Two.")})
    found = Contents.of([first, distorted(name="a", warnings=("Three.",))])
    assert list(found.warnings) == [("a", "One."), ("a", "Two."), ("a, corruptions", "Three.")]
