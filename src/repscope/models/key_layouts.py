"""How do libraries name an encoder's tensors in their checkpoints? A closed table."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How a library names the tensors of an encoder in its checkpoints.

    Args:
        name: what a report calls it.
        source: repositories whose checkpoints look so.
        prefixes: what stands before each of the encoder's names; one of these.
        renames: (pattern, replacement), applied in order to what follows the prefix.
    """

    name: str
    source: str
    prefixes: tuple[str, ...]
    renames: tuple[tuple[str, str], ...] = ()


# Children of a torchvision ResNet, counted: 2 is the ReLU, 3 the pooling.
_SEQUENTIAL = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^4\.", "layer1."),
    (r"^5\.", "layer2."),
    (r"^6\.", "layer3."),
    (r"^7\.", "layer4."),
)
# Residual networks whose ReLU and pooling are no modules and are not counted.
_SEQUENTIAL_SMALL = (
    (r"^0\.", "conv1."),
    (r"^1\.", "bn1."),
    (r"^2\.", "layer1."),
    (r"^3\.", "layer2."),
    (r"^4\.", "layer3."),
    (r"^5\.", "layer4."),
)
_SHORTCUT = ((r"\.shortcut\.", ".downsample."),)
# The perceptron of a transformer, before its layers were numbered.
_PERCEPTRON = ((r"\.mlp\.linear_1\.", ".mlp.0."), (r"\.mlp\.linear_2\.", ".mlp.3."))

LAYOUTS = (
    Layout(
        "plain",
        "pytorch/vision, huggingface/pytorch-image-models, facebookresearch/swav, "
        "facebookresearch/mae, google-research/simclr by tonylins/simclr-converter",
        ("",),
    ),
    Layout(
        "backbone",
        "vturrisi/solo-learn, facebookresearch/dino, facebookresearch/barlowtwins, "
        "facebookresearch/vicreg, sthalles/SimCLR, open-mmlab/mmselfsup",
        ("backbone.",),
    ),
    Layout(
        "encoder",
        "vturrisi/solo-learn before 1.0.3, facebookresearch/simsiam, Spijkervet/SimCLR",
        ("encoder.",),
    ),
    Layout("MoCo", "facebookresearch/moco", ("encoder_q.",)),
    Layout("MoCo v3", "facebookresearch/moco-v3", ("base_encoder.",)),
    Layout("BYOL", "lucidrains/byol-pytorch", ("online_encoder.net.", "net.")),
    Layout(
        "lightly",
        "lightly-ai/lightly: nn.Sequential of a torchvision ResNet's children",
        ("backbone.", "backbone.backbone.", "features.", "encoder.", ""),
        _SEQUENTIAL,
    ),
    Layout(
        "lightly ResNetGenerator",
        "lightly-ai/lightly: nn.Sequential of its own ResNet's children",
        ("backbone.", "features.", ""),
        (*_SEQUENTIAL_SMALL, *_SHORTCUT),
    ),
    Layout(
        "SupContrast",
        "HobbitLong/SupContrast, kuangliu/pytorch-cifar",
        ("encoder.", "backbone.", ""),
        _SHORTCUT,
    ),
    Layout(
        "VISSL",
        "facebookresearch/vissl",
        (
            "_feature_blocks.",
            "trunk._feature_blocks.",
            "base_model._feature_blocks.",
            "trunk.base_model._feature_blocks.",
        ),
    ),
    Layout(
        "torchvision VGG",
        "pytorch/vision: the convolutions of VGG are its features",
        ("features.", "backbone.features.", "encoder.features.", "encoder_q.features."),
        ((r"^", "convolutions."),),
    ),
    Layout(
        "torchvision ViT before 0.14",
        "pytorch/vision: the published weights of vit_b_16 and its like",
        ("", "backbone."),
        _PERCEPTRON,
    ),
    Layout("trunk", "facebookresearch/vissl: vision transformers", ("trunk.",)),
)
# What a training program may put before all of that: Lightning's attribute, a teacher.
OUTER_PREFIXES = ("", "model.", "network.", "teacher.", "student.", "learner.")
# Wrappers of modules: DDP, torch.compile, FSDP, activation checkpointing.
WRAPPERS = frozenset(
    ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]
)
# Parts of a training network that are no part of its encoder.
HEADS = re.compile(
    r"^(fc|head|heads|head_dist|classifier|linear|logits|last_linear"
    r"|projector|projection|projection_head|projection_mlp|projection_model|proj_head"
    r"|predictor|prediction_head|prediction_mlp|prototypes|prototype_layer|contrast"
    r"|queue\w*|mask_token|decoder\w*|dino_head|ibot_head|momentum_\w+)(\.|$)"
)
# Counters that nothing but a training without momentum reads.
OPTIONAL = "num_batches_tracked"


def possible_layouts(state: Mapping[str, Tensor]) -> Iterator[tuple[Layout, str]]:
    """Yield each layout with each of its prefixes that names may begin with.

    Args:
        state: the checkpoint's tensors, as `unwrapped` returns them.
    """
    parts = {first_part(name) for name in state} | {""}
    for layout in LAYOUTS:
        for outer in OUTER_PREFIXES:
            for prefix in layout.prefixes:
                if first_part(outer + prefix) in parts:
                    yield layout, outer + prefix


def renamed_keys(
    state: Mapping[str, Tensor], layout: Layout, prefix: str
) -> tuple[dict[str, Tensor], Counter[str]]:
    """Return the tensors under a prefix by their new names, and a count of the others.

    Args:
        state: the checkpoint's tensors, as `unwrapped` returns them.
        layout: its renames are applied.
        prefix: what is taken off; names without it are others.
    """
    renamed: dict[str, Tensor] = {}
    others: Counter[str] = Counter()
    for name, tensor in state.items():
        if not name.startswith(prefix):
            others[first_part(name)] += 1
            continue
        new = name[len(prefix) :]
        for pattern, replacement in layout.renames:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            others[first_part(name)] += 1
        else:
            renamed[new] = tensor
    return renamed, others


def unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by their names without what DDP, FSDP and torch.compile put in.

    Of two names that become one the first is kept.
    """
    plain: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = ".".join(part for part in key.split(".") if part not in WRAPPERS)
        plain.setdefault(name, tensor)
    return plain


def first_part(name: str) -> str:
    """Return the part of the network that a tensor belongs to, by its name."""
    return name.partition(".")[0]
