"""Grids: one base recipe and axes, a run for each cell, and one table over all of them."""

from advss_tf.grid.running import run_grid

__all__ = ["run_grid"]
