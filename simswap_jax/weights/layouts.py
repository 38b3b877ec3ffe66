"""Which PyTorch name stands for which Flax leaf, per network: names, order and shapes of the public state dicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise

from simswap_jax.models import DiscriminatorConfig, GeneratorConfig
from simswap_jax.models.compact import as_compact
from simswap_jax.models.identity import IdentityConfig
from simswap_jax.models.identity.mobilefacenet import EXPANSIONS, LAST, STRIDES
from simswap_jax.models.projected_discriminator import EXPANSION, KERNELS, LAST_STAGES, LEVELS, ProjectedConfig

Path = tuple[str, ...]
COUNTS = "num_batches_tracked"


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One array in both worlds.

    Attributes:
      key: PyTorch's name.
      shape: PyTorch's shape.
      collection: ``"params"``, ``"batch_stats"`` or ``"num_batches_tracked"`` (a number that only PyTorch uses).
      path: where it lies in the collection.
      kind: ``"plain"``, ``"conv"`` (OIHW ↔ HWIO), ``"linear"`` ([out,in] ↔ [in,out]) or ``"flat"`` (a linear layer
        after flattening: columns in NCHW order ↔ rows in NHWC order).
      channels: for ``"flat"``, the channels of the flattened map.
    """

    key: str
    shape: tuple[int, ...]
    collection: str
    path: Path
    kind: str = "plain"
    channels: int = 0

    @property
    def flax_shape(self) -> tuple[int, ...]:
        """Its shape in Flax."""
        if self.kind == "conv":
            return (*self.shape[2:], self.shape[1], self.shape[0])
        return self.shape[::-1] if self.kind in ("linear", "flat") else self.shape


Leaves = Iterator[Leaf]


def flax_shapes(leaves: Leaves) -> dict[str, tuple[int, ...]]:
    """What a network's ``init`` makes: names joined by "/" → shapes; far quicker than tracing it."""
    return {"/".join((leaf.collection, *leaf.path)): leaf.flax_shape for leaf in leaves if leaf.collection != COUNTS}


def _conv(key: str, path: Path, out: int, inside: int, kernel: int | tuple[int, int], bias: bool = True) -> Leaves:
    window = (kernel, kernel) if isinstance(kernel, int) else kernel
    yield Leaf(f"{key}.weight", (out, inside, *window), "params", (*path, "kernel"), "conv")
    if bias:
        yield Leaf(f"{key}.bias", (out,), "params", (*path, "bias"))


def _linear(key: str, path: Path, out: int, inside: int, channels: int = 0) -> Leaves:
    kind = "flat" if channels else "linear"
    yield Leaf(f"{key}.weight", (out, inside), "params", (*path, "kernel"), kind, channels)
    yield Leaf(f"{key}.bias", (out,), "params", (*path, "bias"))


def _norm(key: str, path: Path, width: int) -> Leaves:
    yield Leaf(f"{key}.weight", (width,), "params", (*path, "scale"))
    yield Leaf(f"{key}.bias", (width,), "params", (*path, "bias"))
    yield Leaf(f"{key}.running_mean", (width,), "batch_stats", (*path, "mean"))
    yield Leaf(f"{key}.running_var", (width,), "batch_stats", (*path, "var"))
    yield Leaf(f"{key}.{COUNTS}", (), COUNTS, (*path, "count"))


def _prelu(key: str, path: Path, width: int) -> Leaves:
    yield Leaf(f"{key}.weight", (width,), "params", (*path, "slope"))


def generator(config: GeneratorConfig) -> Leaves:
    """The leaves, in PyTorch's order, of the paper's generator or a compact one."""
    stem = as_compact(config)

    def conv_norm(name: str, conv: int, out: int, inside: int, kernel: int) -> Leaves:
        yield from _conv(f"{name}.{conv}", (name, "conv"), out, inside, kernel)
        yield from _norm(f"{name}.{conv + 1}", (name, "norm"), out)

    widths, channels = config.widths, 3 * stem.unshuffle**2
    yield from conv_norm("first_layer", 1, widths[0], channels, stem.stem_kernel)
    for name, inside, out in zip(config.downs, widths, widths[1:]):
        yield from conv_norm(name, 0, out, inside, 3)
    for i in range(config.blocks):
        for j in (1, 2):
            key, block, width = f"BottleNeck.{i}", f"bottleneck_{i}", widths[-1]
            yield from _conv(f"{key}.conv{j}.1", (block, f"conv{j}"), width, width, 3)
            style: Path = (block, f"style{j}", "linear")
            yield from _linear(f"{key}.style{j}.linear", style, 2 * width, config.identity_size)
    for name, inside, out in zip(config.ups, widths[::-1], widths[-2::-1]):
        yield from conv_norm(name, 1, out, inside, 3)
    drawn = 4 if stem.composition_mask else 3
    yield from _conv("last_layer.1", ("last_layer",), drawn, widths[0], stem.stem_kernel)


def discriminator(config: DiscriminatorConfig) -> Leaves:
    """One scale's leaves in PyTorch's order."""
    widths = (3, *config.widths)
    for i, (inside, out) in enumerate(pairwise(widths), start=1):
        yield from _conv(f"down{i}.0", (f"down{i}", "conv"), out, inside, 4)
        if config.norm == "batch" and i > 1:
            yield from _norm(f"down{i}.1", (f"down{i}", "norm"), out)
    yield from _conv("conv1.0", ("conv1", "conv"), config.tail, widths[-1], 4)
    if config.norm == "batch":
        yield from _norm("conv1.1", ("conv1", "norm"), config.tail)
    yield from _conv("conv2.0", ("conv2",), 1, config.tail, 4)


# The backbone's parts under the public names: of the stem, its norm and the seven stages.
_LITE0 = ("layer0.0", "layer0.1", "layer0.3", "layer0.4", "layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer3.1")
LITE0 = tuple(f"feature_network.pretrained.{name}" for name in _LITE0)
TIMM_LITE0 = ("conv_stem", "bn1", *(f"blocks.{stage}" for stage in range(len(KERNELS))))


def projected_discriminator(config: ProjectedConfig) -> Leaves:
    """A projected discriminator's leaves in PyTorch's order."""
    yield from projected_features(config)
    scratch, base = "feature_network.scratch.", config.projected
    outs = [config.widths[stage] for stage in LAST_STAGES]
    mixed = [(f"layer{i}_ccm", f"layer{i}_ccm", base * 2**i, outs[i]) for i in range(LEVELS)]
    for i in reversed(range(LEVELS)):
        mixed.append((f"layer{i}_csm.out_conv", f"layer{i}_csm", base * 2 ** max(i - 1, 0), base * 2**i))
    for key, name, out, inside in mixed:
        yield from _frozen(_conv(scratch + key, (name,), out, inside, 1))
    for level in range(LEVELS):
        inside = base * 2 ** max(level - 1, 0)
        for i, out in enumerate(config.head_widths(level)):
            key = f"discriminator.mini_discs.{level}.main.{i}.main"
            yield from _spectral(f"{key}.0", (f"head{level}", f"down{i + 1}"), out, inside)
            yield from _norm(f"{key}.1", (f"head{level}", f"norm{i + 1}"), out)
            inside = out
        key = f"discriminator.mini_discs.{level}.main.{LEVELS - level}"
        yield from _spectral(key, (f"head{level}", "logits"), 1, inside, bias=False)


def projected_features(config: ProjectedConfig, names: tuple[str, ...] = LITE0) -> Leaves:
    """Those of its backbone; ``names`` are of the stem, its norm and the seven stages (`LITE0`, `TIMM_LITE0`)."""
    stem, norm, *stages = names

    def plain() -> Leaves:
        yield from _conv(stem, ("backbone", "conv_stem"), config.stem, 3, 3, bias=False)
        yield from _norm(norm, ("backbone", "bn1"), config.stem)
        inside = config.stem
        for stage, (key, width, count) in enumerate(zip(stages, config.widths, config.repeats)):
            for i in range(count):
                path = ("backbone", f"blocks_{stage}_{i}")
                yield from _bottleneck(f"{key}.{i}", path, width, inside, stage)
                inside = width

    yield from _frozen(plain())


def _bottleneck(key: str, path: Path, out: int, inside: int, stage: int) -> Leaves:
    inner, last = (inside * EXPANSION, "conv_pwl") if stage else (inside, "conv_pw")
    parts = [("conv_pw", inner, inside, 1)] if stage else []
    parts += [("conv_dw", inner, 1, KERNELS[stage]), (last, out, inner, 1)]
    for i, (name, width, before, kernel) in enumerate(parts, start=1):
        yield from _conv(f"{key}.{name}", (*path, name), width, before, kernel, bias=False)
        yield from _norm(f"{key}.bn{i}", (*path, f"bn{i}"), width)


def _frozen(leaves: Leaves) -> Leaves:
    """The same leaves in the collection ``frozen``, which holds the features' own collections."""
    for leaf in leaves:
        path = ("features", leaf.collection, *leaf.path)
        yield leaf if leaf.collection == COUNTS else dataclasses.replace(leaf, collection="frozen", path=path)


def _spectral(key: str, path: Path, out: int, inside: int, bias: bool = True) -> Leaves:
    if bias:
        yield Leaf(f"{key}.bias", (out,), "params", (*path, "bias"))
    yield Leaf(f"{key}.weight_orig", (out, inside, 4, 4), "params", (*path, "kernel"), "conv")
    yield Leaf(f"{key}.weight_u", (out,), "spectral", (*path, "u"))
    yield Leaf(f"{key}.weight_v", (inside * 16,), "spectral", (*path, "v"))


def identity(config: IdentityConfig) -> Leaves:
    """An identity network's leaves in PyTorch's order."""
    yield from {"arcface": _arcface, "iresnet": _iresnet, "mobilefacenet": _mobilefacenet}[config.family](config)


def last_map(config: IdentityConfig) -> tuple[int, int]:
    """Height and width of the map that ArcFace and iResNet flatten."""
    sides = []
    for side in config.size:
        steps = len(config.layers)
        if config.family == "arcface":
            side, steps = (side - 2) // 2, steps - 1
        for _ in range(steps):
            side = (side + 1) // 2
        sides.append(side)
    return sides[0], sides[1]


def _arcface(config: IdentityConfig) -> Leaves:
    inside = config.widths[0]
    yield from _conv("conv1", ("conv1",), inside, 3, 3, bias=False)
    yield from _norm("bn1", ("bn1",), inside)
    yield from _prelu("prelu", ("prelu",), 1)
    for stage, (count, width) in enumerate(zip(config.layers, config.widths), start=1):
        for i in range(count):
            key, path = f"layer{stage}.{i}", f"layer{stage}_{i}"
            yield from _norm(f"{key}.bn0", (path, "bn0"), inside)
            yield from _conv(f"{key}.conv1", (path, "conv1"), inside, inside, 3, bias=False)
            yield from _norm(f"{key}.bn1", (path, "bn1"), inside)
            yield from _prelu(f"{key}.prelu", (path, "prelu"), 1)
            yield from _conv(f"{key}.conv2", (path, "conv2"), width, inside, 3, bias=False)
            yield from _norm(f"{key}.bn2", (path, "bn2"), width)
            if (stage > 1 and i == 0) or inside != width:
                yield from _shortcut(key, path, width, inside)
            if config.se:
                yield from _linear(f"{key}.se.fc.0", (path, "se", "reduce"), width // 16, width)
                yield from _prelu(f"{key}.se.fc.1", (path, "se", "prelu"), 1)
                yield from _linear(f"{key}.se.fc.2", (path, "se", "expand"), width, width // 16)
            inside = width
    yield from _tail(config, "bn3")


def _iresnet(config: IdentityConfig) -> Leaves:
    inside = config.widths[0]
    yield from _conv("conv1", ("conv1",), inside, 3, 3, bias=False)
    yield from _norm("bn1", ("bn1",), inside)
    yield from _prelu("prelu", ("prelu",), inside)
    for stage, (count, width) in enumerate(zip(config.layers, config.widths), start=1):
        for i in range(count):
            key, path = f"layer{stage}.{i}", f"layer{stage}_{i}"
            yield from _norm(f"{key}.bn1", (path, "bn1"), inside)
            yield from _conv(f"{key}.conv1", (path, "conv1"), width, inside, 3, bias=False)
            yield from _norm(f"{key}.bn2", (path, "bn2"), width)
            yield from _prelu(f"{key}.prelu", (path, "prelu"), width)
            yield from _conv(f"{key}.conv2", (path, "conv2"), width, width, 3, bias=False)
            yield from _norm(f"{key}.bn3", (path, "bn3"), width)
            if i == 0:
                yield from _shortcut(key, path, width, inside)
            inside = width
    yield from _tail(config, "features")


def _shortcut(key: str, path: str, out: int, inside: int) -> Leaves:
    yield from _conv(f"{key}.downsample.0", (path, "shortcut_conv"), out, inside, 1, bias=False)
    yield from _norm(f"{key}.downsample.1", (path, "shortcut_norm"), out)


def _tail(config: IdentityConfig, last: str) -> Leaves:
    width = config.widths[-1]
    height, breadth = last_map(config)
    yield from _norm("bn2", ("bn2",), width)
    yield from _linear("fc", ("fc",), config.embedding, width * height * breadth, channels=width)
    yield from _norm(last, (last,), config.embedding)


def _mobilefacenet(config: IdentityConfig) -> Leaves:
    def named(name: str, out: int, inside: int, kernel: int | tuple[int, int], prelu: bool = True) -> Leaves:
        yield from _conv(f"{name}.conv", (name, "conv"), out, inside, kernel, bias=False)
        yield from _norm(f"{name}.bn", (name, "bn"), out)
        if prelu:
            yield from _prelu(f"{name}.prelu", (name, "prelu"), out)

    inside, index = config.widths[0], 0
    yield from named("conv1", inside, 3, 3)
    yield from named("dw_conv1", inside, 1, 3)
    for count, width, expansion in zip(config.layers, config.widths, EXPANSIONS):
        for _ in range(count):
            key, block, inner = f"blocks.{index}.conv", f"block_{index}", expansion * inside
            yield from _conv(f"{key}.0", (block, "widen", "conv"), inner, inside, 1, bias=False)
            yield from _norm(f"{key}.1", (block, "widen", "bn"), inner)
            yield from _prelu(f"{key}.2", (block, "widen", "prelu"), inner)
            yield from _conv(f"{key}.3", (block, "depthwise", "conv"), inner, 1, 3, bias=False)
            yield from _norm(f"{key}.4", (block, "depthwise", "bn"), inner)
            yield from _prelu(f"{key}.5", (block, "depthwise", "prelu"), inner)
            yield from _conv(f"{key}.6", (block, "narrow", "conv"), width, inner, 1, bias=False)
            yield from _norm(f"{key}.7", (block, "narrow", "bn"), width)
            inside, index = width, index + 1
    yield from named("conv2", LAST, inside, 1)
    height, breadth = config.size
    for stride in (2, *STRIDES[: len(config.layers)]):
        height, breadth = -(-height // stride), -(-breadth // stride)
    yield from named("linear7", LAST, 1, (height, breadth), prelu=False)
    yield from named("linear1", config.embedding, LAST, 1, prelu=False)


def face_parsing(classes: int) -> Leaves:
    """BiSeNet's leaves in PyTorch's order."""

    def conv_norm(key: str, path: Path, out: int, inside: int, kernel: int) -> Leaves:
        yield from _conv(f"{key}.conv", (*path, "conv"), out, inside, kernel, bias=False)
        yield from _norm(f"{key}.bn", (*path, "bn"), out)

    yield from _conv("cp.resnet.conv1", ("resnet", "conv1"), 64, 3, 7, bias=False)
    yield from _norm("cp.resnet.bn1", ("resnet", "bn1"), 64)
    inside = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for i in range(2):
            key, path = f"cp.resnet.layer{stage}.{i}", ("resnet", f"layer{stage}_{i}")
            for j, before in ((1, inside), (2, width)):
                yield from _conv(f"{key}.conv{j}", (*path, f"conv{j}"), width, before, 3, bias=False)
                yield from _norm(f"{key}.bn{j}", (*path, f"bn{j}"), width)
            if inside != width:
                yield from _conv(f"{key}.downsample.0", (*path, "shortcut_conv"), width, inside, 1, bias=False)
                yield from _norm(f"{key}.downsample.1", (*path, "shortcut_norm"), width)
            inside = width
    for name, width in (("arm16", 256), ("arm32", 512)):
        yield from conv_norm(f"cp.{name}.conv", (name, "conv"), 128, width, 3)
        yield from _conv(f"cp.{name}.conv_atten", (name, "conv_atten"), 128, 128, 1, bias=False)
        yield from _norm(f"cp.{name}.bn_atten", (name, "bn_atten"), 128)
    for name in ("conv_head32", "conv_head16"):
        yield from conv_norm(f"cp.{name}", (name,), 128, 128, 3)
    yield from conv_norm("cp.conv_avg", ("conv_avg",), 128, 512, 1)
    yield from conv_norm("ffm.convblk", ("ffm", "convblk"), 256, 256, 1)
    yield from _conv("ffm.conv1", ("ffm", "conv1"), 64, 256, 1, bias=False)
    yield from _conv("ffm.conv2", ("ffm", "conv2"), 256, 64, 1, bias=False)
    for name, width, before in (("conv_out", 256, 256), ("conv_out16", 64, 128), ("conv_out32", 64, 128)):
        yield from conv_norm(f"{name}.conv", (name, "conv"), width, before, 3)
        yield from _conv(f"{name}.conv_out", (name, "conv_out"), classes, width, 1, bias=False)
