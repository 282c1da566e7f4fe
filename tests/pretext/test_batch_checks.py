"""A batch of one image: refused before the training where the data tell, else at the batch, and never read twice."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from advss_tf.errors import InvalidInput
from advss_tf.pretext import SimCLR
from advss_tf.pretext.batch_checks import batch_rows, check_remainder, refused_in_words, with_others

WORDS = r"A batch of one image has no negatives\..*drop_remainder=True"


def _compiled(two_stages, **options):
    model = SimCLR(two_stages(), projection=(4,))
    model.compile(optimizer="sgd", **options)
    return model


def test_a_batch_of_one_image_is_refused_where_only_the_batch_tells_and_an_assertion_is_compiled_away(
    two_stages, tiny_images
):
    model = _compiled(two_stages, jit_compile=True)
    with pytest.raises(InvalidInput, match=WORDS):
        model.fit(tf.data.Dataset.from_tensor_slices(tiny_images).batch(1), verbose=0)


def test_a_last_batch_of_one_image_is_refused_when_it_comes(two_stages, tiny_images):
    model = _compiled(two_stages)
    seven = tf.data.Dataset.from_tensor_slices(tiny_images[:7])
    with pytest.raises(InvalidInput, match=WORDS):
        model.fit(seven.batch(3), verbose=0)
    assert model.fit(seven.batch(4), verbose=0).history["loss"][0] > 0


def test_arrays_are_refused_before_the_training(two_stages, tiny_images):
    model = _compiled(two_stages)
    for count, size in ((8, 1), (7, 3), (7, 2), (1, None), (33, None)):
        with pytest.raises(InvalidInput, match=rf"{WORDS}.*{count} images, batch_size={min(count, size or 32)}"):
            model.fit(np.zeros((count, 8, 8, 3), np.float32), batch_size=size, verbose=0)
    assert int(model.optimizer.iterations) == 0
    check_remainder(tiny_images, 4)
    check_remainder(tiny_images, None)


@pytest.mark.slow
def test_what_no_data_set_tells_is_refused_in_the_step(two_stages, tiny_images):
    def batches():
        yield (tiny_images[:1],)

    with pytest.raises(InvalidInput, match=WORDS):
        _compiled(two_stages).fit(batches(), verbose=0)


def test_rows_are_known_or_not_and_a_data_set_is_neither_read_nor_changed(tiny_images):
    reads = []
    drawn = tf.data.Dataset.from_generator(
        lambda: reads.append(1) or iter(range(6)), output_signature=tf.TensorSpec((), tf.int32)
    )
    whole, open_ended = drawn.batch(3, drop_remainder=True), drawn.batch(4)
    assert (batch_rows(whole, None), batch_rows(open_ended, None), batch_rows(tiny_images, 4)) == (3, None, 4)
    assert (batch_rows(tiny_images, None), batch_rows(iter([]), None)) == (8, None)
    looked_at = with_others(open_ended)
    assert with_others(whole) is whole and with_others(tiny_images) is tiny_images and not reads
    assert [batch.tolist() for batch in looked_at.as_numpy_iterator()] == [[0, 1, 2, 3], [4, 5]]
    pairs = with_others(tf.data.Dataset.zip(drawn, drawn).batch(4))
    assert [len(batch) for batch in pairs] == [2, 2]
    with pytest.raises(InvalidInput, match=WORDS), refused_in_words():
        list(with_others(drawn.batch(5)))


def test_other_faults_of_the_graph_stay_what_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError, match="another"), refused_in_words():
        tf.debugging.Assert(False, ["another"])
