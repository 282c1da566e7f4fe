"""Blocks as Markdown: nothing of a name is markup, and drawings are files or tables."""

from __future__ import annotations

from advss_tf.evaluation.report.contents import Contents
from advss_tf.evaluation.report.document import Bullets, Facts, Figure, Figures, Fold, Heading, Paragraph, Section
from advss_tf.evaluation.report.markdown import markdown
from advss_tf.evaluation.report.tables import Cell, Table

TABLE = Table(
    ("Rank", "Model"), (((Cell("1"), Cell("a|b", "<small>")),), ((Cell(""), Cell("c", strong=True)),)), text=(1,)
)


def written(contents, *blocks):
    files = {}
    return "\n".join(markdown(contents, [Section("A *section*", blocks)], title="T", files=files)), files


def test_every_block_in_words(record):
    figure = Figure("<svg></svg>", 'A "caption" of <b>', "made.svg")
    contents = Contents.of([record.model_copy(update={"warnings": ("Too <weak>.",)})])
    text, files = written(
        contents,
        Heading("H"),
        Paragraph("P"),
        Bullets(("x_y",)),
        Facts((("what", "how"),)),
        Fold("Folded", (TABLE,)),
        Figures((figure,)),
    )
    assert text.split("\n")[0] == "# T"
    assert "Too \\<weak\\>." in text
    for line in ("## A \\*section\\*", "### H", "P", "- x\\_y", "- what: how", "### Folded", "| ---: | --- |"):
        assert line in text.split("\n")
    assert "| 1 | a\\|b<br><sub>\\<small\\></sub> |" in text
    assert "|  | **c** |" in text
    assert 'alt="A &quot;caption&quot; of &lt;b&gt;"' in text
    assert set(files) == {"made.svg"} and files["made.svg"].startswith(b"<svg><style>")


def test_a_drawing_with_numbers_is_a_table(record):
    text, files = written(Contents.of([record]), Figures((Figure("<svg/>", "Numbers", "made.svg", TABLE),)))
    assert files == {} and "Numbers" in text and "| 1 |" in text
