"""The other architectures of the paper's comparison, one row of data each.

Parameters and accuracies, ImageNet-1K top-1 in percent, trained on ImageNet-1K alone: Swin's and
DeiT's (without distillation) from the tables of their authors' repositories,
microsoft/Swin-Transformer (`get_started.md`) and facebookresearch/deit; ResNet-50's that of
torchvision's first weights, with which arXiv 2201.03545, Table 10, begins.
"""

import dataclasses

from benchmarks.configuration import Unsupported


@dataclasses.dataclass(frozen=True)
class Peer:
    """An architecture of transformers beside the ConvNeXt of its size.

    Attributes:
        title: what papers call it.
        library: the class of transformers without `Config` and `ForImageClassification`.
        fields: of its config, beside the size of the images and the classes.
        millions: published number of parameters, in millions.
        top1: published accuracies, `{pixels: percent}`.
    """

    title: str
    library: str
    fields: dict
    millions: float
    top1: dict

    @property
    def family(self):
        """The title without the size: `"Swin"`."""
        return self.title.partition("-")[0]


def _swin(letter, width, third, millions, top1):
    heads = tuple(width // 32 * 2**stage for stage in range(4))
    fields = {"embed_dim": width, "depths": (2, 2, third, 2), "num_heads": heads}
    return Peer(f"Swin-{letter}", "Swin", fields | {"drop_path_rate": 0.0}, millions, top1)


def _deit(letter, width, millions, top1):
    fields = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // 64,
    }
    return Peer(f"DeiT-{letter}", "DeiT", fields, millions, top1)


PEERS = {  # by the kind of contender, then by the variant beside it
    "swin": {
        "convnext_tiny": _swin("T", 96, 6, 28, {224: 81.2}),
        "convnext_small": _swin("S", 96, 18, 50, {224: 83.2}),
        "convnext_base": _swin("B", 128, 18, 88, {224: 83.5, 384: 84.5}),
    },
    "deit": {
        "convnext_tiny": _deit("S", 384, 22, {224: 79.9}),
        "convnext_base": _deit("B", 768, 86, {224: 81.8, 384: 82.9}),
    },
    "resnet": {"convnext_tiny": Peer("ResNet-50", "ResNet", {}, 25.6, {224: 76.1})},
}


def peer_of(kind, variant):
    """Returns the `Peer` of that kind beside a variant.

    Raises:
        Unsupported: if there is none.
    """
    if variant not in PEERS[kind]:
        raise Unsupported(f"{kind} stands beside {', '.join(PEERS[kind])}, not beside {variant}")
    return PEERS[kind][variant]


def model(peer, size, classes):
    """Returns the `torch.nn.Module` of transformers, with random weights; its output has `.logits`.

    Args:
        peer: a `Peer`.
        size: height and width of the images in pixels. Swin has windows of 7 x 7 patches, at 384
            pixels of 12 x 12, as published, and smaller ones where its last maps are smaller.
        classes: number of labels; 1000 where the number of parameters is to be the published one.

    Raises:
        ValueError: if the model has another number of parameters than was published.
    """
    import transformers

    fields = dict(peer.fields, num_labels=classes)
    if peer.library != "ResNet":  # which takes every size
        fields["image_size"] = size
    if peer.library == "Swin":
        fields["window_size"] = 12 if size == 384 else min(7, size // 32)
    config = getattr(transformers, f"{peer.library}Config")(**fields)
    found = getattr(transformers, f"{peer.library}ForImageClassification")(config)
    millions = found.num_parameters() / 1e6
    if abs(millions / peer.millions - 1) > 0.03:  # as the papers round
        raise ValueError(f"{peer.title} has {millions:.1f} M parameters, not {peer.millions} M")
    return found
