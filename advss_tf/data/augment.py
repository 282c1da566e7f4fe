"""The augmentation of the papers: pad with zeros, crop at random, flip left to right.

Synopsis:

    seed = seed_for(run_seed, step, "augment")
    images = crop_and_flip(images, seed, crop_padding=4, flip=True)

The whole batch moves in two gathers; no image is touched from Python.

Keras' `RandomFlip` and `RandomCrop` are not used. What they draw is of the state of a generator, so of how often they
were called, not of (seed, step, row); and Keras 3.15's `RandomCrop` pads nothing and cuts a batch at one place.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def crop_and_flip(
    images: tf.Tensor,
    seed: tf.Tensor,
    *,
    crop_padding: int,
    flip: bool,
    batch_size: Any = None,
    first: Any = 0,
) -> tf.Tensor:
    """Each image shifted by up to `crop_padding` pixels, zeros moving in, and mirrored with probability one half.

    He et al. 2016 (arXiv:1512.03385, section 4.2) and every method of this library use padding 4 at 32 x 32 pixels.
    It is the weak view, whose images a second are at `advss_tf.data.views.make_views`.

    Args:
        images: `(rows, height, width, channels)`, any dtype, rows `first` … `first + rows` of a global batch.
        seed: A stateless seed, shape `(2,)`.
        crop_padding: The largest shift, in pixels; 0 leaves images where they are.
        flip: Whether images are mirrored.
        batch_size: The size of the global batch. Numbers are drawn for all of it and sliced, so a worker that holds
            some rows changes them as one that holds them all. Defaults to the number of rows.
        first: Which row of the global batch the first image is.

    Returns:
        Images of the same shape and dtype.
    """
    count = tf.shape(images)[0] if images.shape[0] is None else images.shape[0]
    rows = count if batch_size is None else batch_size
    height, width = images.shape[1], images.shape[2]
    shift_seed, flip_seed = tf.unstack(tf.random.split(seed, 2))
    here = slice(first, first + count)
    shifts = tf.random.stateless_uniform([rows, 2], shift_seed, 0, 2 * crop_padding + 1, tf.int32)[here]
    mirrored = tf.random.stateless_uniform([rows, 1], flip_seed, 0, 2, tf.int32)[here] * int(flip)
    columns = tf.where(mirrored == 1, tf.range(width)[::-1], tf.range(width))
    if crop_padding:
        images = tf.pad(images, [[0, 0], [crop_padding] * 2, [crop_padding] * 2, [0, 0]])
        images = tf.gather(images, shifts[:, :1] + tf.range(height), axis=1, batch_dims=1)
        columns += shifts[:, 1:]
    return tf.gather(images, columns, axis=2, batch_dims=1)
