"""Encoders: networks from images to features, their branches, stages, heads, fast inference and hand-off."""

from advss_tf.encoders.blocks import Blocks
from advss_tf.encoders.copying import copy_weights
from advss_tf.encoders.fused import fused
from advss_tf.encoders.handoff import assign_strictly, describe, load_encoder, read_provenance
from advss_tf.encoders.heads import linear_head, projection_head
from advss_tf.encoders.inference import hoisted
from advss_tf.encoders.normalization import (
    BranchedBatchNormalization,
    branches,
    current_branch,
    is_synchronized,
    norm_branch,
    single_branch,
)
from advss_tf.encoders.registry import ENCODERS, build_encoder
from advss_tf.encoders.resnet import resnet18, resnet20
from advss_tf.encoders.resnet50v2 import resnet50v2
from advss_tf.encoders.stages import boundary, fork_after, layers_through, reset_after, stages
from advss_tf.encoders.wide_resnet import wide_resnet

__all__ = [
    "ENCODERS",
    "Blocks",
    "BranchedBatchNormalization",
    "assign_strictly",
    "boundary",
    "branches",
    "build_encoder",
    "copy_weights",
    "current_branch",
    "describe",
    "fork_after",
    "fused",
    "hoisted",
    "is_synchronized",
    "layers_through",
    "linear_head",
    "load_encoder",
    "norm_branch",
    "projection_head",
    "read_provenance",
    "reset_after",
    "resnet18",
    "resnet20",
    "resnet50v2",
    "single_branch",
    "stages",
    "wide_resnet",
]
