"""The report: one file that needs nothing else, says the record's numbers, and lets nothing of a name through."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import image as mpl_image

from advss_tf.errors import InvalidInput
from advss_tf.evaluation import write_report
from advss_tf.evaluation.report import figures
from advss_tf.evaluation.report.markdown import escape_markdown
from advss_tf.evaluation.report.pictures import perturbation_image, png
from advss_tf.evaluation.report.svg import standalone
from advss_tf.evaluation.report.tables import accuracy_table, distinct_names, result_table, runs_table

VOID = {"meta", "img", "br", "link", "input", "hr"}
HISTORY = [
    {"epoch": epoch, "loss": 2.0 / epoch, "val_loss": 2.2 / epoch, "accuracy": 0.2 * epoch, "val_accuracy": 0.1 * epoch}
    | {"robust_accuracy": 0.1 * epoch, "val_robust_accuracy": None if epoch == 2 else 0.05 * epoch, "seconds": 1.5}
    for epoch in range(1, 5)
]


class Reader(HTMLParser):
    """Reads a page: its text, its tags, and whether what is opened is closed."""

    def __init__(self, page: str):
        super().__init__()
        self.page = page
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def folder(record, tmp_path_factory):
    path = tmp_path_factory.mktemp("report")
    write_report(record, path, histories={"fine <tune>": HISTORY})
    return path


@pytest.fixture(scope="module")
def page(folder) -> Reader:
    return Reader((folder / "index.html").read_text())


def test_the_page_is_well_formed(page):
    assert page.open == []


def test_the_page_needs_nothing_but_itself(page):
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    links = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "srcset")]
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert "url(http" not in page.page and "@import" not in page.page
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert ("content", policy) in page.attributes


def test_names_are_text_and_never_markup(page, record):
    assert record.name in page.text
    assert "<no>" in page.text
    assert "<b>linear" not in page.page


def test_the_page_says_the_numbers_of_the_record(page, record):
    for row in record.results:
        assert f"{100 * row.accuracy:.1f} %" in page.text
        assert f"[{100 * row.low:.1f}, {100 * row.high:.1f}]" in page.text.replace("\xa0", " ")
    assert record.images_fingerprint in page.text
    assert "8/255" in page.text


def test_every_image_on_the_page_has_words(page, record):
    images = [value for name, value in page.attributes if name == "alt"]
    assert len(images) == 3 * len(record.examples.labels)
    assert all(images)


def test_the_page_follows_light_dark_and_paper(page):
    assert "prefers-color-scheme: dark" in page.page
    assert "@media print" in page.page
    assert 'name="viewport"' in page.page


def test_a_right_prediction_has_another_sign_than_a_wrong_one(page, record):
    kept = record.examples
    predictions = [*kept.clean_predictions, *kept.attacked_predictions]
    right = sum(int(p == label) for p, label in zip(predictions, [*kept.labels] * 2, strict=True))
    signs = [value for name, value in page.attributes if name == "alt" and "✓" in value]
    assert len(signs) == right


def test_the_markdown_points_to_files_that_are_there(folder):
    text = (folder / "report.md").read_text()
    files = set(re.findall(r'src="([^"]*)"', text))
    assert {path.split("/")[0] for path in files} == {"figures"}
    assert files == {f"figures/{path.name}" for path in (folder / "figures").iterdir()}
    assert "<b>" not in text and r"\<b\>linear" in text


def test_an_older_report_is_replaced(record, tmp_path):
    write_report(record, tmp_path, histories={"finetune": HISTORY})
    (tmp_path / "figures" / "mine.svg").write_text("kept")
    write_report(record, tmp_path, max_examples=0, title="Second")
    names = {"epsilon-linf.svg", "classes-1.svg", "reliability-1-clean.svg", "reliability-1-attacked.svg", "mine.svg"}
    assert {path.name for path in (tmp_path / "figures").iterdir()} == names
    assert "<h1>Second</h1>" in (tmp_path / "index.html").read_text()


def test_a_record_without_pictures_has_a_report(record, tmp_path):
    bare = record.model_copy(update={"examples": None})
    assert "Examples" not in Reader(write_report(bare, tmp_path).read_text()).text


def test_warnings_stand_on_the_page(record, tmp_path):
    warned = record.model_copy(update={"warnings": ("The <attack> is too weak.",)})
    assert "The <attack> is too weak." in Reader(write_report(warned, tmp_path).read_text()).text


def test_a_leaderboard_sorts_with_the_one_script_that_the_page_allows(record, tmp_path):
    some = [record.model_copy(update={"name": name}) for name in ("a <1>", "b")]
    page = Reader(write_report(some, tmp_path).read_text())
    assert page.open == [] and page.tags.count("script") == 1
    (script,) = re.findall(r"<script>(.*?)</script>", page.page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = [value for name, value in page.attributes if name == "content" and "default-src" in value]
    assert policies == [f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"]
    keys = [json.loads(value) for name, value in page.attributes if name == "data-keys"]
    assert [each[:2] for each in keys[:2]] == [[1, "a <1>"], [1, "b"]]
    assert ("aria-sort", "ascending") in page.attributes


def test_records_of_both_kinds_share_a_report(record, distorted, tmp_path):
    folder = write_report([record, distorted(mce=0.5, baseline="standard")], tmp_path).parent
    page, text = Reader((folder / "index.html").read_text()), (folder / "report.md").read_text()
    assert page.tags.count("h1") == 1 and page.page.count('class="card tile"') == 1
    for words in ("gaussian noise", "mean of 2 types × 2 severities, mCE 50.0 %"):
        assert words in page.text
    assert "| gaussian noise | 40.0 | 20.0 | **30.0** |" in text
    assert write_report(distorted(), tmp_path / "alone").is_file()


def test_every_figure_on_the_page_has_words(page):
    assert page.attributes.count(("role", "img")) == page.tags.count("svg") == page.tags.count("figure")
    assert all(value for name, value in page.attributes if name == "aria-label")


def test_nothing_to_report_is_refused(tmp_path):
    for records in ([], ["record.json"]):
        with pytest.raises(InvalidInput, match="nothing to report"):
            write_report(records, tmp_path)


def test_records_of_one_name_are_told_apart_and_averaged(record):
    other = record.model_copy(update={"clean_acc": record.clean_acc - 0.1})
    assert distinct_names([record, other]) == [f"{record.name} #1", f"{record.name} #2"]
    unseen = record.model_copy(update={"threat": "L2"})
    assert distinct_names([record, unseen]) == [f"{record.name}, Linf", f"{record.name}, L2"]
    assert distinct_names([record, unseen, unseen])[1:] == [f"{record.name}, L2 #1", f"{record.name}, L2 #2"]
    seeded = [record.model_copy(update={"seed": seed}) for seed in (0, 1, 1)]
    assert distinct_names(seeded) == [f"{record.name}, seed {text}" for text in ("0", "1 #1", "1 #2")]
    (row,) = runs_table([record, other]).groups[0]
    # two runs 0.1 apart: the half width is t(0.975, 1) * 0.1 / 2 = 12.706205 * 0.05
    assert row[2].text == f"{100 * record.clean_acc - 5:.1f} ± 63.5 %"
    assert runs_table([record]) is None


def test_an_attack_that_a_record_lacks_leaves_a_dash(record):
    rows = tuple(row.model_copy(update={"attack": row.attack.replace("5", "10")}) for row in record.results)
    other = record.model_copy(update={"results": rows})
    table = accuracy_table([record, other], ["a", "b"])
    assert table.columns[-3:] == ("PGD-5", "PGD-10", "Worst case")
    assert [row[-2].text for row in table.groups[0]] == ["–", "–"]
    assert [row[-3].text for row in table.groups[1]] == ["–", "–"]


def test_the_plain_table_says_accuracy_and_interval(record):
    columns, rows = result_table([record])
    assert columns == ["Model", "Data", "Images", "Clean", "ε", "PGD-5", "Worst case"]
    assert [row[4] for row in rows] == ["0.02 Linf", "8/255 Linf"]
    worst = record.result("worst")
    assert rows[1][-1].startswith(f"{100 * worst.accuracy:.1f} % [{100 * worst.low:.1f}, {100 * worst.high:.1f}]")


def test_figures_are_svg_in_the_colours_of_the_page(record):
    drawn = [
        figures.accuracy_against_epsilon([record, record], names=["_hidden", "$broken math"]),
        figures.class_accuracies(record),
        figures.loss_curves(HISTORY),
        figures.accuracy_curves(HISTORY),
    ]
    for svg in drawn:
        ElementTree.fromstring(svg)
        assert "var(--series-0)" in svg
        assert not re.findall(r": ?#[0-9a-f]{3,6}\b", svg)
        assert re.search(r"--series-0: #[0-9a-f]{6};", standalone(svg))
    assert "trained at 8/255" in drawn[0]
    assert "$broken math" in drawn[0] and "_hidden" in drawn[0]


def test_two_figures_of_one_page_share_no_name():
    first, second = figures.loss_curves(HISTORY), figures.accuracy_curves(HISTORY)
    names = [set(re.findall(r'id="([^"]*)"', svg)) for svg in (first, second)]
    assert all(names)
    assert not names[0] & names[1]


def test_drawing_leaves_no_trace_in_matplotlib(record):
    before = dict(mpl.rcParams)
    first = figures.accuracy_against_epsilon([record])
    assert dict(mpl.rcParams) == before
    assert figures.accuracy_against_epsilon([record]) == first


def test_the_training_epsilon_of_another_norm_is_not_marked(record):
    other = record.model_copy(update={"training_threat": "L2"})
    assert "trained at" not in figures.accuracy_against_epsilon([other])


def test_every_training_epsilon_is_marked_and_many_are_not(record):
    def trained(*epsilons):
        return figures.accuracy_against_epsilon([record.model_copy(update={"training_eps": eps}) for eps in epsilons])

    for epsilons in ((4 / 255, 8 / 255, 8 / 255), (4 / 255, None)):
        assert trained(*epsilons).count("trained at") == len({*epsilons} - {None})
    assert "trained at" not in trained(0.01, 0.02, 0.03, 0.04, 0.05)


def test_bands_are_left_out_where_they_would_hide_each_other(record):
    few, many = (figures.accuracy_against_epsilon([record] * count) for count in (4, 5))
    assert few.count("opacity: 0.16") == 4 and "opacity: 0.16" not in many


def test_many_epsilons_have_few_markers(record):
    worst = record.result("worst")
    rows = [worst.model_copy(update={"eps": 0.001 * place}) for place in range(1, 40)]
    many = record.model_copy(update={"results": (record.result("clean"), *rows)})
    # Each point of a curve is a `use` of its marker.
    assert figures.accuracy_against_epsilon([many]).count("<use") < 40


def test_a_history_without_these_numbers_draws_nothing():
    assert figures.loss_curves([{"epoch": 1, "seconds": 2.0}]) is None
    assert figures.accuracy_curves([{"epoch": 1, "accuracy": None}]) is None
    assert figures.loss_curves([]) is None


def test_a_perturbation_is_shown_ten_times_as_strong_around_grey():
    clean = np.full((2, 2, 1), 0.5, np.float32)
    attacked = clean + np.array([[[0.0], [0.02]], [[-0.02], [0.2]]], np.float32)
    np.testing.assert_allclose(perturbation_image(clean, attacked)[..., 0], [[0.5, 0.7], [0.3, 1.0]], atol=1e-6)


@pytest.mark.parametrize("channels,expected", [(1, [51, 51, 51]), (3, [51, 102, 153]), (2, [77, 77, 77])])
def test_images_of_any_channels_become_pngs_enlarged_by_whole_pixels(channels, expected):
    image = np.broadcast_to(np.array([0.2, 0.4, 0.6], np.float32)[:channels], (8, 8, channels))
    pixels = np.round(mpl_image.imread(io.BytesIO(png(image))) * 255)
    assert pixels.shape[:2] == (96, 96)
    np.testing.assert_allclose(pixels[0, 0, :3], expected, atol=1)


def test_the_pictures_of_the_page_are_pngs(page):
    uris = [value for name, value in page.attributes if name == "src"]
    for uri in uris:
        assert base64.b64decode(uri.removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_markdown_in_a_name_is_escaped():
    assert escape_markdown("a|b *c*\n<d> `e`") == r"a\|b \*c\* \<d\> \`e\`"
