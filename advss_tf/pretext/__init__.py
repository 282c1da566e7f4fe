"""Pretext tasks: what is learned without labels, one Keras Model subclass a file."""

from advss_tf.pretext.acl import ACL, ACLAIR
from advss_tf.pretext.advcl import AdvCL, AInfoNCE
from advss_tf.pretext.annealing import Annealing
from advss_tf.pretext.asymmetry import Asymmetry
from advss_tf.pretext.contrastive import Contrastive
from advss_tf.pretext.deacl import DeACL
from advss_tf.pretext.dynacl import DynACL
from advss_tf.pretext.ensemble import EnsemblePretraining
from advss_tf.pretext.jigsaw import Jigsaw, shuffle_patches
from advss_tf.pretext.labelled import LabelledPuzzle
from advss_tf.pretext.members import MEMBERS
from advss_tf.pretext.mixed import MixedPuzzle
from advss_tf.pretext.permutations import make_permutations
from advss_tf.pretext.rocl import RoCL
from advss_tf.pretext.rotation import Rotation, rotate
from advss_tf.pretext.selfie import Selfie
from advss_tf.pretext.simclr import SimCLR

# The methods that compare views of images, by the name that a recipe gives them.
CONTRASTIVE = {
    "simclr": SimCLR,
    "rocl": RoCL,
    "acl": ACL,
    "acl_air": ACLAIR,
    "dynacl": DynACL,
    "advcl": AdvCL,
    "a_infonce": AInfoNCE,
    "deacl": DeACL,
}

# All tasks by that name.
TASKS = {**MEMBERS, "ensemble": EnsemblePretraining, **CONTRASTIVE}

__all__ = [
    "ACL",
    "ACLAIR",
    "CONTRASTIVE",
    "MEMBERS",
    "TASKS",
    "AInfoNCE",
    "AdvCL",
    "Annealing",
    "Asymmetry",
    "Contrastive",
    "DeACL",
    "DynACL",
    "EnsemblePretraining",
    "Jigsaw",
    "LabelledPuzzle",
    "MixedPuzzle",
    "RoCL",
    "Rotation",
    "Selfie",
    "SimCLR",
    "make_permutations",
    "rotate",
    "shuffle_patches",
]
