"""The ADM network is the published one: parameter names, shapes, count, and the algebra of its blocks."""

import json

import numpy as np
import pytest
import torch

from configs import UserError
from reward_actors.priors.adm import Unwritten, from_state
from reward_actors.priors.adm_blocks import Attention, Residual, wave_embedding
from reward_actors.priors.base import load_prior

IMAGENET_256 = {"width": 256, "multiples": (1, 1, 2, 2, 4, 4), "residuals": 2, "attention": (8, 16, 32)}
SMALL = {"width": 32, "multiples": (1, 2), "residuals": 1, "attention": (2,)}


def shapes(width, multiples, residuals, attention, updown=True, scale_shift=True, classes=0, out=6):
    """{parameter: shape} of an ADM, told as the network is drawn: an independent reading of its construction."""
    found = {}

    def layer(name, *weight):
        found[f"{name}.weight"], found[f"{name}.bias"] = weight, weight[:1]

    def residual(name, before, after):
        layer(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * after if scale_shift else after, 4 * width)
        layer(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attend(name, channels):
        layer(f"{name}.norm", channels)
        layer(f"{name}.qkv", 3 * channels, channels, 1)
        layer(f"{name}.proj_out", channels, channels, 1)

    layer("time_embed.0", 4 * width, width)
    layer("time_embed.2", 4 * width, 4 * width)
    if classes:
        found["label_emb.weight"] = (classes, 4 * width)
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
    generator = torch.Generator().manual_seed(seed)
    return {
        name: 0.1 * torch.randn(shape, generator=generator) + (name.endswith("norm.weight") or ".0.weight" in name)
        for name, shape in shapes(**settings).items()
    }


def test_the_published_256_px_network_has_its_published_number_of_parameters():
    """552,814,086 without classes; 1,000 more embeddings make the 554 M that the paper states."""
    for classes, count in ((0, 552_814_086), (1000, 553_838_086)):
        told = shapes(**IMAGENET_256, classes=classes)
        state = {name: torch.empty(shape, device="meta") for name, shape in told.items()}
        network = from_state(state, Unwritten(head_channels=64, label=0))
        assert sum(p.numel() for p in network.parameters()) == count
        assert set(network.state_dict()) == set(state)
        assert len(network.config.block_out_channels) == 6
        heads = {module._heads for module in network.modules() if isinstance(module, Attention)}
        assert heads == {512 // 64, 1024 // 64}


@pytest.mark.parametrize("updown", [True, False])
@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("residuals", [1, 3])
def test_every_variant_is_recognised_by_its_parameters_alone(updown, scale_shift, residuals):
    state = weights(**SMALL | {"residuals": residuals, "multiples": (1, 1, 2)}, updown=updown, scale_shift=scale_shift)
    network = from_state(state, Unwritten(heads=2))
    x = torch.randn(2, 3, 16, 8, generator=torch.Generator().manual_seed(1))
    assert network(x, torch.tensor([3, 900])).sample.shape == (2, 6, 16, 8)
    assert sum(isinstance(m, Residual) and m._resize == 0.5 for m in network.modules()) == (2 if updown else 0)
    assert sum(isinstance(m, Residual) and m._resize == 2 for m in network.modules()) == (2 if updown else 0)


@pytest.mark.parametrize("resize", [0.5, 1, 2])
@pytest.mark.parametrize("scale_shift", [True, False])
def test_a_residual_block_is_what_the_paper_draws(resize, scale_shift):
    torch.manual_seed(0)
    block = Residual(32, 64, 16, scale_shift, resize)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, embedding = torch.randn(1, 32, 4, 4), torch.randn(1, 16)
    p = {name: value.detach().double().numpy() for name, value in block.named_parameters()}

    def silu(a):
        return a / (1 + np.exp(-a))

    def norm(a, name):
        groups = a.reshape(32, -1)
        scaled = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
        return scaled.reshape(a.shape) * p[f"{name}.weight"][:, None, None] + p[f"{name}.bias"][:, None, None]

    def convolve(a, name):
        kernel, side = p[f"{name}.weight"], p[f"{name}.weight"].shape[-1] // 2
        padded = np.pad(a, ((0, 0), (side, side), (side, side)))
        height, width = a.shape[1:]
        found = sum(
            np.einsum("oc,chw->ohw", kernel[:, :, i, j], padded[:, i : i + height, j : j + width])
            for i in range(kernel.shape[2])
            for j in range(kernel.shape[3])
        )
        return found + p[f"{name}.bias"][:, None, None]

    def resized(a):
        if resize == 2:
            return a.repeat(2, axis=1).repeat(2, axis=2)
        return a if resize == 1 else a.reshape(len(a), a.shape[1] // 2, 2, -1, 2).mean((2, 4))

    a, e = x[0].double().numpy(), embedding[0].double().numpy()
    h = convolve(resized(silu(norm(a, "in_layers.0"))), "in_layers.2")
    told = (p["emb_layers.1.weight"] @ silu(e) + p["emb_layers.1.bias"])[:, None, None]
    h = norm(h, "out_layers.0") * (1 + told[:64]) + told[64:] if scale_shift else norm(h + told, "out_layers.0")
    expected = convolve(silu(h), "out_layers.3") + convolve(resized(a), "skip_connection")
    assert np.allclose(block(x, embedding)[0].detach().numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("new_order", [False, True])
def test_attention_splits_heads_in_the_order_it_was_trained_with(new_order):
    torch.manual_seed(0)
    channels, heads, width = 64, 4, 16
    block = Attention(channels, heads, new_order)
    x = torch.randn(1, channels, 3, 2)
    qkv = block.qkv(block.norm(x.flatten(2)))[0].detach().double().numpy()
    found = np.zeros((channels, 6))
    for head in range(heads):
        if new_order:  # all queries, then all keys, then all values
            starts = [part * channels + head * width for part in range(3)]
        else:  # head by head, each with its queries, keys and values
            starts = [head * 3 * width + part * width for part in range(3)]
        q, k, v = (qkv[start : start + width] for start in starts)
        logits = q.T @ k / np.sqrt(width)
        share = np.exp(logits - logits.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        found[head * width : (head + 1) * width] = v @ share.T
    kernel, bias = (value.detach().double().numpy() for value in (block.proj_out.weight[..., 0], block.proj_out.bias))
    expected = x[0].flatten(1).double().numpy() + kernel @ found + bias[:, None]
    assert np.allclose(block(x)[0].flatten(1).detach().numpy(), expected, atol=1e-5)


def test_the_time_is_told_in_cosines_first_then_sines():
    found = wave_embedding(torch.tensor([0, 7]), 4)
    assert found[0].tolist() == [1, 1, 0, 0]
    assert np.allclose(found[1], [np.cos(7), np.cos(0.07), np.sin(7), np.sin(0.07)], atol=1e-6)


@pytest.fixture
def checkpoint(tmp_path):
    def write(beside='{"head_channels": 32}', name="adm.pt", **settings):
        torch.save(weights(**SMALL | settings), tmp_path / name)
        if beside:
            (tmp_path / name).with_suffix(".json").write_text(beside)
        return str(tmp_path / name)

    return write


def test_a_checkpoint_is_a_prior_that_answers_with_the_noise_alone(checkpoint):
    prior = load_prior(checkpoint(), 32)
    x, t = torch.randn(2, 3, 31, 17, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 700])
    eps = prior.eps(x, t)
    assert eps.shape == x.shape
    whole = prior._network(torch.nn.functional.pad(x[:1], (0, 1, 0, 1), mode="reflect"), t[:1]).sample
    assert torch.allclose(eps[0], whole[0, :3, :31, :17], atol=1e-5)


def test_half_precision_is_near_and_has_a_fingerprint_of_its_own(checkpoint):
    path = checkpoint()
    full, half = load_prior(path, 32), load_prior(path, 32, dtype="bfloat16")
    x, t = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([300])
    apart = (full.eps(x, t) - half.eps(x, t)).square().mean().sqrt() / full.eps(x, t).std()
    assert 0 < apart < 0.05
    assert half.eps(x, t).dtype == torch.float32
    assert full.fingerprint != half.fingerprint


def test_the_class_of_a_conditional_network_is_told_beside_it(checkpoint):
    beside = [json.dumps({"heads": 2, "label": label}) for label in (0, 2)]
    first, second = (load_prior(checkpoint(told, f"{i}.pt", classes=3), 16) for i, told in enumerate(beside))
    x, t = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([300])
    assert not torch.allclose(first.eps(x, t), second.eps(x, t))
    assert first.fingerprint != second.fingerprint
    with pytest.raises(UserError, match='expected "label" 0 .. 2'):
        load_prior(checkpoint(name="none.pt", classes=3), 16)


def test_what_the_file_does_not_say_is_asked_for(checkpoint):
    with pytest.raises(UserError, match=r'adm.json, such as \{"head_channels": 64\}'):
        load_prior(checkpoint(beside=""), 16)
    for beside, match in (
        ("{}", "head_channels or heads"),
        ('{"head": 2}', "expected a JSON object"),
        ('{"heads": 5}', "cannot be shared"),
        ('{"heads": 2, "noise_schedule": "cosine"}', "noise_schedule linear"),
        ('{"head_channels": "64"}', "expected head_channels as int, such as 0, got '64'"),
        ('{"heads": true}', "expected heads as int"),
    ):
        with pytest.raises(UserError, match=match):
            load_prior(checkpoint(beside), 16)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_prior(str(tmp_path / "missing.pt"), 16)
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(UserError, match="no readable checkpoint"):
        load_prior(str(tmp_path / "text.pt"), 16)
    for odd in (torch.zeros(3), [torch.zeros(3)], {"model": {"conv.weight": torch.zeros(3, 3)}, "step": 7}):
        torch.save(odd, tmp_path / "odd.pt")
        with pytest.raises(UserError, match=r"expected a state dict, .* found a (Tensor|list|dict of other things)"):
            load_prior(str(tmp_path / "odd.pt"), 16)
    torch.save({"conv.weight": torch.zeros(3, 3)}, tmp_path / "other.pt")
    with pytest.raises(UserError, match="not an ADM network"):
        load_prior(str(tmp_path / "other.pt"), 16)
