"""Every kind of block is written on the page and in Markdown, and nothing else is."""

from __future__ import annotations

from typing import get_args

import pytest

from advss_tf.evaluation.report import document, markdown, page


@pytest.mark.parametrize("kind", get_args(document.Block), ids=lambda kind: kind.__name__)
def test_both_writers_know_every_block(kind):
    for writer in (page._block, markdown._lines):
        assert writer.dispatch(kind) is not writer.dispatch(object)


def test_what_is_no_block_is_not_written():
    with pytest.raises(TypeError, match="int"):
        page._block(3)
    with pytest.raises(TypeError, match="int"):
        list(markdown._lines(3, {}))
