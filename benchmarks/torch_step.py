"""The PyTorch side of train_step.py: SimSwap's networks and one update of all of them, written from their description.

As fast as a careful PyTorch user would write it: channels-last, the result and every look of the discriminators at it
computed once and shared by both players, gradients asked for only where they are used, fused Adam, a foreach average,
and on a GPU `torch.compile` and bfloat16 autocast. Knows nothing of JAX: it may run in an environment of its own.

    python benchmarks/torch_step.py problem.npz settings.json      prints one line of JSON
"""

import copy
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Norm(nn.BatchNorm2d):
    """Batch norm; with ``keep=False`` by the batch's statistics, which are forgotten."""

    def forward(self, x, keep=True):
        if keep or not self.training:
            return super().forward(x)
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


def instance_norm(x):
    x = x.float()
    x = x - x.mean((2, 3), keepdim=True)
    return x * torch.rsqrt(x.square().mean((2, 3), keepdim=True) + 1e-8)


class Style(nn.Module):
    def __init__(self, width, length):
        super().__init__()
        self.linear = nn.Linear(length, 2 * width)

    def forward(self, x, identity):
        gamma, beta = self.linear(identity)[:, :, None, None].chunk(2, 1)
        return instance_norm(x) * (1 + gamma) + beta


def mirrored(inside, out, window):
    return nn.Sequential(nn.ReflectionPad2d(window // 2), nn.Conv2d(inside, out, window))


class IDBlock(nn.Module):
    def __init__(self, width, length):
        super().__init__()
        self.conv1, self.style1 = mirrored(width, width, 3), Style(width, length)
        self.conv2, self.style2 = mirrored(width, width, 3), Style(width, length)

    def forward(self, x, identity):
        y = F.relu(self.style1(self.conv1(x), identity)).to(x.dtype)
        return x + self.style2(self.conv2(y), identity).to(x.dtype)


class Generator(nn.Module):
    def __init__(self, widths, blocks, length):
        super().__init__()
        self.first_layer = nn.Sequential(*mirrored(3, widths[0], 7), Norm(widths[0]), nn.ReLU(inplace=True))
        self.count = len(widths) - 1
        for i in range(self.count):
            conv = nn.Conv2d(widths[i], widths[i + 1], 3, 2, 1)
            setattr(self, f"down{i + 1}", nn.Sequential(conv, Norm(widths[i + 1]), nn.ReLU(inplace=True)))
        self.BottleNeck = nn.ModuleList(IDBlock(widths[-1], length) for _ in range(blocks))
        for i in reversed(range(self.count)):
            double = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
            conv = nn.Conv2d(widths[i + 1], widths[i], 3, 1, 1)
            setattr(self, f"up{i + 1}", nn.Sequential(double, conv, Norm(widths[i]), nn.ReLU(inplace=True)))
        self.last_layer = mirrored(widths[0], 3, 7)

    def forward(self, x, identity):
        x = self.first_layer(x)
        for i in range(self.count):
            x = getattr(self, f"down{i + 1}")(x)
        for block in self.BottleNeck:
            x = block(x, identity)
        for i in reversed(range(self.count)):
            x = getattr(self, f"up{i + 1}")(x)
        return (torch.tanh(self.last_layer(x).float()) + 1) / 2


class Discriminator(nn.Module):
    def __init__(self, widths, tail):
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, widths[0], 4, 2, 1))
        for i in range(1, len(widths)):
            conv = nn.Conv2d(widths[i - 1], widths[i], 4, 2, 1)
            setattr(self, f"down{i + 1}", nn.Sequential(conv, Norm(widths[i])))
        self.conv1 = nn.Sequential(nn.Conv2d(widths[-1], tail, 4, 1, 1), Norm(tail))
        self.conv2 = nn.Sequential(nn.Conv2d(tail, 1, 4, 1, 1))
        self.names = [f"down{i + 1}" for i in range(len(widths))] + ["conv1"]

    def forward(self, x, keep=True):
        maps = []
        for name in self.names:
            layer = getattr(self, name)
            x = layer[0](x)
            x = F.leaky_relu(layer[1](x, keep) if len(layer) > 1 else x, 0.2)
            maps.append(x)
        return maps, self.conv2(x).float()


class ArcFaceBlock(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.bn0, self.conv1 = nn.BatchNorm2d(before), nn.Conv2d(before, before, 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(before), nn.PReLU()
        self.conv2, self.bn2 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.downsample = None
        if stride != 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        y = self.prelu(self.bn1(self.conv1(self.bn0(x))))
        y = self.bn2(self.conv2(y))
        return self.prelu(y + (x if self.downsample is None else self.downsample(x)))


class ArcFace(nn.Module):
    def __init__(self, layers, widths, length):
        super().__init__()
        self.conv1, self.bn1, self.prelu = nn.Conv2d(3, 64, 3, bias=False), nn.BatchNorm2d(64), nn.PReLU()
        before = 64
        for stage, (count, width) in enumerate(zip(layers, widths, strict=True), 1):
            blocks = []
            for i in range(count):
                blocks.append(ArcFaceBlock(before, width, 2 if stage > 1 and i == 0 else 1))
                before = width
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.bn2, self.fc = nn.BatchNorm2d(before), nn.Linear(7 * 7 * before, length)
        self.bn3 = nn.BatchNorm1d(length)

    def forward(self, x):
        x = F.max_pool2d(self.prelu(self.bn1(self.conv1(x))), 2)
        for stage in range(1, 5):
            x = getattr(self, f"layer{stage}")(x)
        return self.bn3(self.fc(self.bn2(x).flatten(1))).float()


def embed(network, pictures):
    """Vectors of length one of pictures in [0,1]."""
    if pictures.shape[2] != 112:
        pictures = F.interpolate(pictures, (112, 112), mode="bicubic", align_corners=False)
    mean, std = (torch.tensor(values, device=pictures.device).view(1, 3, 1, 1) for values in IMAGENET)
    return F.normalize(network((pictures - mean) / std))


def average_pool(x):
    return F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)


def pyramid(x, scales):
    inputs = [x]
    for _ in range(scales - 1):
        inputs.append(average_pool(inputs[-1]))
    return inputs


class Step:
    """One update of generator and discriminators, the ``paper`` recipe."""

    def __init__(self, settings, weights):
        s = self.settings = settings
        self.device = torch.device(s["device"])
        self.generator = Generator(s["widths"], s["blocks"], s["identity_size"])
        self.discriminators = nn.ModuleList(
            Discriminator(s["discriminator_widths"], s["tail"]) for _ in range(s["scales"])
        )
        self.identity = ArcFace(s["identity_layers"], s["identity_widths"], s["identity_size"])
        load(self.generator, weights, "generator/")
        for i, one in enumerate(self.discriminators):
            load(one, weights, f"d{i + 1}/")
        load(self.identity, weights, "identity/")
        for module in (self.generator, self.discriminators, self.identity):
            module.to(self.device, memory_format=torch.channels_last)
        self.generator.train()
        self.discriminators.train()
        self.identity.eval().requires_grad_(False)
        self.of_generator = list(self.generator.parameters())
        self.of_discriminators = list(self.discriminators.parameters())
        options = {"lr": s["learning_rate"], "betas": (s["b1"], s["b2"]), "fused": True}
        self.optimizers = [torch.optim.Adam(p, **options) for p in (self.of_generator, self.of_discriminators)]
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.averaged = [t for t in self.average.state_dict().values() if t.is_floating_point()]
        self.followed = [t for t in self.generator.state_dict().values() if t.is_floating_point()]
        self.draw, self.see, self.judges = self.generator, self.identity, list(self.discriminators)
        if s["compile"]:
            # The penalty looks through the plain modules: torch.compile has no second derivatives.
            self.draw, self.see = torch.compile(self.generator), torch.compile(self.identity)
            self.judges = [torch.compile(one) for one in self.discriminators]
        self.steps = 0

    def low(self):
        """Autocast, where the step is to compute in bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings["dtype"] == "bfloat16")

    def judge(self, images):
        with self.low():
            inputs = pyramid(images, len(self.judges))
            return [one(x) for one, x in zip(self.judges, inputs, strict=True)]

    def penalty(self, target, result, alpha):
        total = 0.0
        inputs = zip(pyramid(target, len(self.judges)), pyramid(result, len(self.judges)), strict=True)
        for one, (real, fake) in zip(self.discriminators, inputs, strict=True):
            between = (alpha * real + (1 - alpha) * fake).requires_grad_()
            with self.low():
                logits = one(between, keep=False)[1]
            (slope,) = torch.autograd.grad(logits.sum(), between, create_graph=True)
            norm = torch.sqrt(slope.float().square().sum((1, 2, 3)) + 1e-12)
            total = total + (norm - 1).square().mean()
        return total

    def __call__(self, target, source, same_person, alpha):
        """uint8 NCHW pictures (channels-last in memory), bool [B], float [B,1,1,1] → the losses, on the device."""
        s = self.settings
        target, source = target.float() / 255, source.float() / 255
        with torch.no_grad(), self.low():
            vector = embed(self.see, source)
        with self.low():
            result = self.draw(target, vector)
        fake = self.judge(result)
        real = self.judge(target)
        with self.low():
            seen = embed(self.see, result)
        identity = (1 - F.cosine_similarity(seen, vector)).mean()
        reconstruction = ((result - target).abs().mean((1, 2, 3)) * same_person).mean()
        adversarial = -sum(logits.mean() for _, logits in fake) / len(fake)
        matching = sum(
            (a.float() - b.detach().float()).abs().mean()
            for (fakes, _), (reals, _) in zip(fake, real, strict=True)
            for a, b in list(zip(fakes, reals, strict=True))[s["feature_matching_first"] :]
        )
        weights = s["weights"]
        of_generator = (
            weights["identity"] * identity
            + weights["reconstruction"] * reconstruction
            + weights["adversarial"] * adversarial
            + weights["feature_matching"] * matching
        )
        hinge = sum(
            F.relu(1 - a).mean() + F.relu(1 + b).mean() for (_, a), (_, b) in zip(real, fake, strict=True)
        ) / len(real)
        gradient_penalty = self.penalty(target, result.detach(), alpha)
        of_discriminators = hinge + weights["gradient_penalty"] * gradient_penalty
        # The same graph of D(result) serves both: each player asks for its own parameters only.
        for_discriminators = torch.autograd.grad(of_discriminators, self.of_discriminators, retain_graph=True)
        for_generator = torch.autograd.grad(of_generator, self.of_generator)
        for parameters, gradients in (
            (self.of_generator, for_generator),
            (self.of_discriminators, for_discriminators),
        ):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
        for optimizer in self.optimizers:
            optimizer.step()
        decay = min(s["ema"], (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averaged, self.followed, 1 - decay)
        self.steps += 1
        return {
            "identity": identity,
            "reconstruction": reconstruction,
            "adversarial": adversarial,
            "weak_feature_matching": matching,
            "discriminator": hinge,
            "gradient_penalty": gradient_penalty,
        }


def load(module, weights, prefix):
    state = {name[len(prefix) :]: torch.from_numpy(weights[name]) for name in weights.files if name.startswith(prefix)}
    module.load_state_dict(state, strict=True)


def main(problem, settings):
    settings = json.loads(Path(settings).read_text())
    torch.set_num_threads(settings["threads"])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: settings["threads"]])
    if settings["device"] == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    began = time.perf_counter()
    weights = np.load(problem)
    step = Step(settings, weights)
    batch = {}
    for name in ("target", "source"):
        picture = torch.from_numpy(weights[f"batch/{name}"]).permute(0, 3, 1, 2)
        batch[name] = picture.contiguous(memory_format=torch.channels_last).to(step.device)
    batch["same_person"] = torch.from_numpy(weights["batch/same_person"]).to(step.device)
    batch["alpha"] = torch.from_numpy(weights["batch/alpha"]).to(step.device)

    def run():
        losses = step(**batch)
        if step.device.type == "cuda":
            torch.cuda.synchronize()
        return {name: value.item() for name, value in losses.items()}

    losses = run()
    first = time.perf_counter() - began
    for _ in range(settings["warm_up"]):
        run()
    seconds, processor = [], []
    for _ in range(settings["steps"]):
        wall, busy = time.perf_counter(), time.process_time()
        run()
        seconds.append(time.perf_counter() - wall)
        processor.append(time.process_time() - busy)
    memory = (
        torch.cuda.max_memory_allocated()
        if settings["device"] == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    print(
        json.dumps(
            {
                "version": f"torch {torch.__version__}",
                "losses": losses,
                "first": first,
                "seconds": seconds,
                "processor": processor,
                "memory": memory,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
