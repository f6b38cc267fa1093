"""The ADM network (Dhariwal and Nichol, 2021, appendix B) written down once more, as functions of its state dict.

It knows nothing of the converter or of diffusers: the network that the converter builds is compared with it.
"""

import math

import torch
import torch.nn.functional as F


def shapes(width, multiples, residuals, attention, updown=True, scale_shift=True, classes=0, out=6, model_width=0):
    """{parameter: shape} of an ADM, in the order in which the network is drawn.

    attention: reductions of the sides at which there is attention; model_width: of the time embedding, if not `width`.
    """
    found = {}
    model_width = model_width or width

    def layer(name, *weight):
        found[f"{name}.weight"], found[f"{name}.bias"] = weight, weight[:1]

    def residual(name, before, after):
        layer(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * after if scale_shift else after, 4 * model_width)
        layer(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attend(name, channels):
        layer(f"{name}.norm", channels)
        layer(f"{name}.qkv", 3 * channels, channels, 1)
        layer(f"{name}.proj_out", channels, channels, 1)

    layer("time_embed.0", 4 * model_width, model_width)
    layer("time_embed.2", 4 * model_width, 4 * model_width)
    if classes:
        found["label_emb.weight"] = (classes, 4 * model_width)
    channels, reduction, stage = multiples[0] * width, 1, 1
    layer("input_blocks.0.0", channels, 3, 3, 3)
    skips = [channels]
    for level, multiple in enumerate(multiples):
        for _ in range(residuals):
            residual(f"input_blocks.{stage}.0", channels, multiple * width)
            channels = multiple * width
            if reduction in attention:
                attend(f"input_blocks.{stage}.1", channels)
            skips.append(channels)
            stage += 1
        if level < len(multiples) - 1:
            if updown:
                residual(f"input_blocks.{stage}.0", channels, channels)
            else:
                layer(f"input_blocks.{stage}.0.op", channels, channels, 3, 3)
            skips.append(channels)
            stage, reduction = stage + 1, 2 * reduction
    residual("middle_block.0", channels, channels)
    attend("middle_block.1", channels)
    residual("middle_block.2", channels, channels)
    stage = 0
    for level, multiple in reversed(list(enumerate(multiples))):
        for index in range(residuals + 1):
            residual(f"output_blocks.{stage}.0", channels + skips.pop(), multiple * width)
            channels, position = multiple * width, 1
            if reduction in attention:
                attend(f"output_blocks.{stage}.1", channels)
                position = 2
            if level and index == residuals:
                if updown:
                    residual(f"output_blocks.{stage}.{position}", channels, channels)
                else:
                    layer(f"output_blocks.{stage}.{position}.conv", channels, channels, 3, 3)
                reduction //= 2
            stage += 1
    layer("out.0", channels)
    layer("out.2", out, channels, 3, 3)
    return found


def weights(seed=0, **settings):
    """A random state dict whose activations keep their size."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 * torch.randn(shape, generator=generator) + (name.endswith("norm.weight") or ".0.weight" in name)
        for name, shape in shapes(**settings).items()
    }


class Reference:
    """Answers with the state's network: `Reference(state, heads, residuals)(x, t)`.

    heads: a function of the channels; updown blocks are the residual ones after every `residuals` others.
    """

    def __init__(self, state, heads, residuals, new_order=False, label=-1):
        self.state, self.heads, self.residuals, self.new_order, self.label = state, heads, residuals, new_order, label

    def __call__(self, x, t):
        p = self.state
        half = p["time_embed.0.weight"].shape[1] // 2
        angles = t.float()[:, None] * torch.exp(-math.log(10_000) / half * torch.arange(half))
        embedding = self.linear(torch.cat([angles.cos(), angles.sin()], dim=-1).to(x.dtype), "time_embed.0")
        embedding = self.linear(F.silu(embedding), "time_embed.2")
        if "label_emb.weight" in p:
            embedding = embedding + p["label_emb.weight"][self.label]
        stages = 1 + max(int(name.split(".")[1]) for name in p if name.startswith("input_blocks"))
        x, skips = self.convolve(x, "input_blocks.0.0"), []
        skips.append(x)
        for stage in range(1, stages):
            x = self.layers(x, embedding, f"input_blocks.{stage}", 0.5 if stage % (self.residuals + 1) == 0 else 1)
            skips.append(x)
        x = self.layers(x, embedding, "middle_block", 1)
        for stage in range(stages):
            x = self.layers(torch.cat([x, skips.pop()], dim=1), embedding, f"output_blocks.{stage}", 1)
        return self.convolve(F.silu(self.norm(x, "out.0")), "out.2")

    def layers(self, x, embedding, prefix, resize):
        index = 0
        while any(name.startswith(f"{prefix}.{index}.") for name in self.state):
            here = f"{prefix}.{index}"
            if f"{here}.qkv.weight" in self.state:
                x = self.attend(x, here)
            elif f"{here}.op.weight" in self.state:
                x = self.convolve(x, f"{here}.op", stride=2)
            elif f"{here}.conv.weight" in self.state:
                x = self.convolve(F.interpolate(x, scale_factor=2), f"{here}.conv")
            else:
                x = self.residual(x, embedding, here, 2 if prefix.startswith("output") and index else resize)
            index += 1
        return x

    def residual(self, x, embedding, name, resize):
        h = F.silu(self.norm(x, f"{name}.in_layers.0"))
        if resize == 0.5:
            x, h = F.avg_pool2d(x, 2), F.avg_pool2d(h, 2)
        elif resize == 2:
            x, h = F.interpolate(x, scale_factor=2), F.interpolate(h, scale_factor=2)
        h = self.convolve(h, f"{name}.in_layers.2")
        shift = self.linear(F.silu(embedding), f"{name}.emb_layers.1")[:, :, None, None]
        if shift.shape[1] == 2 * h.shape[1]:
            scale, shift = shift.chunk(2, dim=1)
            h = self.norm(h, f"{name}.out_layers.0") * (1 + scale) + shift
        else:
            h = self.norm(h + shift, f"{name}.out_layers.0")
        h = self.convolve(F.silu(h), f"{name}.out_layers.3")
        return h + (self.convolve(x, f"{name}.skip_connection") if x.shape != h.shape else x)

    def attend(self, x, name):
        flat = self.norm(x, f"{name}.norm").flatten(2)
        channels, pixels = flat.shape[1:]
        heads = self.heads(channels)
        qkv = F.conv1d(flat, self.state[f"{name}.qkv.weight"], self.state[f"{name}.qkv.bias"])
        width, outputs = channels // heads, []
        for head in range(heads):
            if self.new_order:  # all queries, then all keys, then all values
                starts = [part * channels + head * width for part in range(3)]
            else:  # head by head, each with its queries, keys and values
                starts = [head * 3 * width + part * width for part in range(3)]
            q, k, v = (qkv[:, start : start + width] for start in starts)
            share = torch.softmax(q.mT @ k / math.sqrt(width), dim=-1)
            outputs.append(v @ share.mT)
        joined = torch.cat(outputs, dim=1)
        joined = F.conv1d(joined, self.state[f"{name}.proj_out.weight"], self.state[f"{name}.proj_out.bias"])
        return x + joined.reshape(x.shape)

    def norm(self, x, name):
        return F.group_norm(x, 32, self.state[f"{name}.weight"], self.state[f"{name}.bias"], 1e-5)

    def linear(self, x, name):
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def convolve(self, x, name, stride=1):
        kernel = self.state[f"{name}.weight"]
        return F.conv2d(x, kernel, self.state[f"{name}.bias"], stride, padding=kernel.shape[-1] // 2)
