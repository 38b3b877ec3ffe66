"""The networks in PyTorch, written from their description (layers, names, epsilons): the end of Flax → PyTorch."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


def norm_instance(x):
    x = x - x.mean((2, 3), keepdim=True)
    return x * torch.rsqrt((x * x).mean((2, 3), keepdim=True) + 1e-8)


class Style(nn.Module):
    def __init__(self, identity, width):
        super().__init__()
        self.linear = nn.Linear(identity, 2 * width)

    def forward(self, x, identity):
        gamma, beta = self.linear(identity)[:, :, None, None].chunk(2, 1)
        return norm_instance(x) * (1 + gamma) + beta


class IDBlock(nn.Module):
    def __init__(self, width, identity):
        super().__init__()
        self.conv1 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3))
        self.style1 = Style(identity, width)
        self.conv2 = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(width, width, 3))
        self.style2 = Style(identity, width)

    def forward(self, x, identity):
        y = F.relu(self.style1(self.conv1(x), identity))
        return x + self.style2(self.conv2(y), identity)


def fold(x, factor):
    """Squares of pixels as channels, in the order row, column, colour."""
    b, _, h, w = x.shape
    x = F.pixel_unshuffle(x, factor).view(b, 3, factor**2, h // factor, w // factor)
    return x.transpose(1, 2).flatten(1, 2)


class Generator(nn.Module):
    """`first` is the number in the name of the first down-sampling; `tanh` the unit convention's head."""

    def __init__(self, widths, blocks, identity, first, tanh, patch=1, edge=7):
        super().__init__()
        self.tanh, self.numbers, self.patch = tanh, [first + i for i in range(len(widths) - 1)], patch
        pad = nn.ReflectionPad2d(edge // 2)
        start = pad, nn.Conv2d(3 * patch**2, widths[0], edge), nn.BatchNorm2d(widths[0]), nn.ReLU()
        self.first_layer = nn.Sequential(*start)
        for number, before, after in zip(self.numbers, widths, widths[1:]):
            conv = nn.Conv2d(before, after, 3, stride=2, padding=1)
            setattr(self, f"down{number}", nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU()))
        self.BottleNeck = nn.ModuleList(IDBlock(widths[-1], identity) for _ in range(blocks))
        for number, before, after in zip(self.numbers[::-1], widths[::-1], widths[-2::-1]):
            double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            conv = nn.Conv2d(before, after, 3, padding=1)
            setattr(self, f"up{number}", nn.Sequential(double, conv, nn.BatchNorm2d(after), nn.ReLU()))
        self.last_layer = nn.Sequential(pad, nn.Conv2d(widths[0], 3, edge))

    def forward(self, x, identity):
        x = self.first_layer(fold(x, self.patch))
        for number in self.numbers:
            x = getattr(self, f"down{number}")(x)
        for block in self.BottleNeck:
            x = block(x, identity)
        for number in self.numbers[::-1]:
            x = getattr(self, f"up{number}")(x)
        for _ in range(self.patch.bit_length() - 1):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.last_layer(x)
        return (torch.tanh(x) + 1) / 2 if self.tanh else x


class Discriminator(nn.Module):
    def __init__(self, widths, tail):
        super().__init__()
        leaky = nn.LeakyReLU(0.2)
        self.down1 = nn.Sequential(nn.Conv2d(3, widths[0], 4, 2, 1), leaky)
        for i, (before, after) in enumerate(pairwise(widths), start=2):
            layers = nn.Conv2d(before, after, 4, 2, 1), nn.BatchNorm2d(after), leaky
            setattr(self, f"down{i}", nn.Sequential(*layers))
        self.conv1 = nn.Sequential(nn.Conv2d(widths[-1], tail, 4, 1, 1), nn.BatchNorm2d(tail), leaky)
        self.conv2 = nn.Sequential(nn.Conv2d(tail, 1, 4, 1, 1))
        self.count = len(widths)

    def forward(self, x):
        maps = []
        for name in [*(f"down{i + 1}" for i in range(self.count)), "conv1", "conv2"]:
            x = getattr(self, name)(x)
            maps.append(x)
        return maps


class SqueezeExcitation(nn.Module):
    def __init__(self, width):
        super().__init__()
        down, up = nn.Linear(width, width // 16), nn.Linear(width // 16, width)
        self.fc = nn.Sequential(down, nn.PReLU(), up, nn.Sigmoid())

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class ArcFaceBlock(nn.Module):
    def __init__(self, before, after, stride, se):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, before, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        if se:
            self.se = SqueezeExcitation(after)

    def forward(self, x):
        y = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        y = self.bn2(self.conv2(y))
        y = self.se(y) if hasattr(self, "se") else y
        return self.prelu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class IResNetBlock(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.prelu = nn.PReLU(after)
        self.conv2 = nn.Conv2d(after, after, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(y)) + (self.downsample(x) if hasattr(self, "downsample") else x)


class Residual(nn.Module):
    """SimSwap's ArcFace and InsightFace's iResNet."""

    def __init__(self, family, layers, widths, se, flat, embedding):
        super().__init__()
        arcface = family == "arcface"
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 0 if arcface else 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(1 if arcface else widths[0])
        self.pool = nn.MaxPool2d(2) if arcface else nn.Identity()
        before = widths[0]
        for stage, (count, width) in enumerate(zip(layers, widths), start=1):
            blocks = []
            for i in range(count):
                stride = 2 if i == 0 and (stage > 1 or not arcface) else 1
                blocks.append(
                    ArcFaceBlock(before, width, stride, se) if arcface else IResNetBlock(before, width, stride)
                )
                before = width
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.bn2 = nn.BatchNorm2d(before)
        self.fc = nn.Linear(flat, embedding)
        setattr(self, "bn3" if arcface else "features", nn.BatchNorm1d(embedding))
        self.stages, self.last = len(layers), "bn3" if arcface else "features"

    def forward(self, x):
        x = self.pool(self.prelu(self.bn1(self.conv1(x))))
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return getattr(self, self.last)(self.fc(self.bn2(x).flatten(1)))


class ConvNorm(nn.Module):
    def __init__(self, before, after, kernel, stride=1, padding=0, groups=1, linear=False):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(after)
        self.prelu = nn.Identity() if linear else nn.PReLU(after)

    def forward(self, x):
        return self.prelu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    def __init__(self, before, after, stride, expansion):
        super().__init__()
        inner = before * expansion
        self.connect = stride == 1 and before == after
        self.conv = nn.Sequential(
            *(nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.PReLU(inner)),
            *(nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.PReLU(inner)),
            *(nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after)),
        )

    def forward(self, x):
        return x + self.conv(x) if self.connect else self.conv(x)


class MobileFaceNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = ConvNorm(3, 64, 3, 2, 1)
        self.dw_conv1 = ConvNorm(64, 64, 3, 1, 1, groups=64)
        blocks, before = [], 64
        for expansion, width, count, stride in (
            (2, 64, 5, 2),
            (4, 128, 1, 2),
            (2, 128, 6, 1),
            (4, 128, 1, 2),
            (2, 128, 2, 1),
        ):
            for i in range(count):
                blocks.append(Bottleneck(before, width, stride if i == 0 else 1, expansion))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.conv2 = ConvNorm(128, 512, 1)
        self.linear7 = ConvNorm(512, 512, (7, 6), groups=512, linear=True)
        self.linear1 = ConvNorm(512, 128, 1, linear=True)

    def forward(self, x):
        x = self.conv2(self.blocks(self.dw_conv1(self.conv1(x))))
        return self.linear1(self.linear7(x)).flatten(1)


class ConvNormReLU(nn.Module):
    def __init__(self, before, after, kernel):
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


class BasicBlock(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        if before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for stage, (before, after) in enumerate(pairwise((64, 64, 128, 256, 512)), start=1):
            blocks = BasicBlock(before, after, 2 if stage > 1 else 1), BasicBlock(after, after, 1)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        f8 = self.layer2(self.layer1(x))
        f16 = self.layer3(f8)
        return f8, f16, self.layer4(f16)


class Attention(nn.Module):
    def __init__(self, before):
        super().__init__()
        self.conv = ConvNormReLU(before, 128, 3)
        self.conv_atten = nn.Conv2d(128, 128, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(128)

    def forward(self, x):
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True))))


class ContextPath(nn.Module):
    def __init__(self):
        super().__init__()
        self.resnet = ResNet18()
        self.arm16, self.arm32 = Attention(256), Attention(512)
        self.conv_head32, self.conv_head16 = ConvNormReLU(128, 128, 3), ConvNormReLU(128, 128, 3)
        self.conv_avg = ConvNormReLU(512, 128, 1)

    def forward(self, x):
        f8, f16, f32 = self.resnet(x)
        a = self.arm32(f32) + self.conv_avg(f32.mean((2, 3), keepdim=True))
        b = self.conv_head32(F.interpolate(a, f16.shape[2:], mode="nearest"))
        c = self.arm16(f16) + b
        return f8, self.conv_head16(F.interpolate(c, f8.shape[2:], mode="nearest"))


class Fusion(nn.Module):
    def __init__(self):
        super().__init__()
        self.convblk = ConvNormReLU(256, 256, 1)
        self.conv1 = nn.Conv2d(256, 64, 1, bias=False)
        self.conv2 = nn.Conv2d(64, 256, 1, bias=False)

    def forward(self, f8, d):
        f = self.convblk(torch.cat([f8, d], 1))
        return f * torch.sigmoid(self.conv2(F.relu(self.conv1(f.mean((2, 3), keepdim=True))))) + f


class Head(nn.Module):
    def __init__(self, before, width, classes):
        super().__init__()
        self.conv = ConvNormReLU(before, width, 3)
        self.conv_out = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, x):
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """The heads on 128 channels serve its training only."""

    def __init__(self, classes):
        super().__init__()
        self.cp, self.ffm = ContextPath(), Fusion()
        self.conv_out = Head(256, 256, classes)
        self.conv_out16, self.conv_out32 = Head(128, 64, classes), Head(128, 64, classes)

    def forward(self, x):
        logits = self.conv_out(self.ffm(*self.cp(x)))
        return F.interpolate(logits, x.shape[2:], mode="bilinear", align_corners=True)
