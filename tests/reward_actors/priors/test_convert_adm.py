"""An ADM checkpoint becomes a UNet2DModel that answers as the network it was saved from."""

import json

import pytest
import torch
from adm_reference import Reference, shapes, weights

from configs import UserError
from reward_actors.priors.convert_adm import AdmSettings, convert
from reward_actors.priors.load import load_prior

IMAGENET_256 = {"width": 256, "multiples": (1, 1, 2, 2, 4, 4), "residuals": 2, "attention": (8, 16, 32)}
SMALL = {"width": 32, "multiples": (1, 2), "residuals": 1, "attention": (2,)}


def test_the_published_256_px_network_has_its_published_number_of_parameters():
    """552,814,086 without classes; of a class-conditional network one class is chosen."""
    for classes in (0, 1000):
        sizes = shapes(**IMAGENET_256, classes=classes)
        state = {name: torch.empty(shape, device="meta") for name, shape in sizes.items()}
        network = convert(state, AdmSettings(head_channels=64, label=0))
        assert sum(p.numel() for p in network.parameters()) == 552_814_086
        assert len(network.config.block_out_channels) == 6
        heads = {module.heads for module in network.modules() if hasattr(module, "to_q")}
        assert heads == {512 // 64, 1024 // 64}


@pytest.mark.parametrize("updown", [True, False])
@pytest.mark.parametrize("scale_shift", [True, False])
@pytest.mark.parametrize("new_order", [True, False])
@pytest.mark.parametrize(
    "variant",
    [
        {"multiples": (1, 1, 2), "residuals": 1, "attention": (1, 4)},
        {"multiples": (1, 2), "residuals": 3, "attention": (2,), "classes": 3},
        {"multiples": (1, 2, 2), "residuals": 2, "attention": (2, 4), "model_width": 64},
    ],
    ids=["attention at two sizes", "three residual blocks, classes", "a wide time embedding, as at 512 px"],
)
def test_every_variant_answers_as_the_network_it_was_saved_from(updown, scale_shift, new_order, variant):
    """In float64, so that nothing but the algebra can differ."""
    state = weights(width=32, updown=updown, scale_shift=scale_shift, **variant)
    state = {name: tensor.double() for name, tensor in state.items()}
    x = torch.randn(2, 3, 16, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.tensor([3, 900])
    for settings, heads in (({"heads": 2}, lambda c: 2), ({"head_channels": 16}, lambda c: c // 16)):
        network = convert(state, AdmSettings(**settings, new_attention_order=new_order, label=1))
        expected = Reference(state, heads, variant["residuals"], new_order, label=1)(x, t)
        with torch.inference_mode():
            answered = network(x, t).sample
        assert (answered - expected).abs().max() < 1e-9 * expected.abs().max()


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
