"""Priors say which part of a noisy picture is noise."""

import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from configs import UserError
from reward_actors.priors.base import linear_alphas
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.priors.load import load_prior
from reward_actors.priors.unet import UNetPrior


def test_the_gaussian_prior_tells_noise_from_picture_exactly(gaussian_world):
    """Regression of the true noise on the answer has slope 1: the answer is the conditional mean."""
    prior, t = gaussian_world.prior, torch.full((64,), 300)
    a = prior.alphas_cumprod[300].float()
    x0 = torch.cat([2 * gaussian_world.draw(seed) - 1 for seed in range(64)])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    guess = prior.eps(a.sqrt() * x0 + (1 - a).sqrt() * noise, t)
    assert float((guess * noise).sum() / guess.square().sum()) == pytest.approx(1, abs=0.01)


def test_an_unlikely_picture_is_all_noise_and_a_clean_one_none(gaussian_world):
    prior = gaussian_world.prior
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    late = prior.eps(x, torch.tensor([999, 999]))
    assert float((late - x).square().mean()) < 1e-3
    assert float(prior.eps(2 * gaussian_world.draw(0) - 1, torch.tensor([0])).square().mean()) < 0.05


@pytest.mark.parametrize("size", [(64, 64), (30, 47)])
def test_a_network_answers_at_any_size(unet_prior, size):
    assert unet_prior.pack == 2
    assert unet_prior.eps(torch.zeros(2, 3, *size), torch.tensor([0, 500])).shape == (2, 3, *size)


def test_rows_do_not_see_each_other(unet_prior):
    x, t = torch.randn(5, 3, 32, 32), torch.tensor([0, 10, 200, 600, 999])
    together = unet_prior.eps(x, t)
    for i in range(5):
        assert torch.equal(unet_prior.eps(x[i : i + 1], t[i : i + 1])[0], together[i])


@pytest.mark.parametrize("size", [32, 30])
def test_operations_are_counted_without_computing(unet_prior, size):
    with FlopCounterMode(display=False) as counter:
        unet_prior.eps(torch.zeros(1, 3, size, size), torch.tensor([0]))
    assert unet_prior.flops(size) == pytest.approx(counter.get_total_flops(), rel=0.05)  # of attention, CPUs count none


def test_a_saved_folder_loads_as_the_same_prior(network, unet_prior, tmp_path):
    network.save_pretrained(tmp_path / "unet")
    loaded = load_prior(str(tmp_path), 64)
    assert loaded.fingerprint == unet_prior.fingerprint
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([100])
    assert torch.equal(loaded.eps(x, t), unet_prior.eps(x, t))


def test_other_weights_have_another_fingerprint(network, unet_prior):
    other = UNet2DModel.from_config(network.config)
    assert UNetPrior(other).fingerprint != unet_prior.fingerprint
    assert photo_gaussian(32).fingerprint != photo_gaussian(64).fingerprint


def test_half_precision_moves_the_answer_little_and_the_fingerprint(network, tmp_path):
    network.save_pretrained(tmp_path)
    full, half = load_prior(str(tmp_path), 32), load_prior(str(tmp_path), 32, dtype="bfloat16")
    x, t = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.tensor([50, 800])
    answers = full.eps(x, t), half.eps(x, t)
    assert answers[1].dtype == torch.float32
    assert 0 < (answers[0] - answers[1]).square().mean().sqrt() < 0.05 * answers[0].std()
    assert full.fingerprint != half.fingerprint


def test_compiling_changes_nothing_where_there_is_no_gpu(network, tmp_path):
    network.save_pretrained(tmp_path)
    prior = load_prior(str(tmp_path), 32)
    assert prior.device.type == "cpu"
    assert prior.compile_if_faster(32) == "prior: not compiled, there is no GPU"
    x, t = torch.randn(1, 3, 32, 32), torch.tensor([50])
    assert torch.equal(prior.eps(x, t), UNetPrior(network).eps(x, t))


def test_rows_filled_up_to_a_power_of_two_answer_the_same(unet_prior, network):
    filled = UNetPrior(network)
    filled.pad_rows()
    x, t = torch.randn(5, 3, 30, 32), torch.tensor([0, 10, 200, 600, 999])
    assert torch.allclose(filled.eps(x, t), unet_prior.eps(x, t), atol=1e-5)


def test_our_noise_schedule_is_that_of_diffusers():
    theirs = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear").alphas_cumprod
    assert torch.allclose(linear_alphas().float(), theirs, atol=1e-6)


def test_a_missing_folder_is_explained(tmp_path):
    with pytest.raises(UserError, match="expected a folder with a diffusers UNet2DModel"):
        load_prior(str(tmp_path / "nowhere"), 64)


def test_a_folder_of_something_else_is_explained(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no readable UNet2DModel"):
        load_prior(str(tmp_path), 64)


@pytest.mark.parametrize(
    ("saved", "match"),
    [
        ('{"beta_schedule": "squaredcos_cap_v2"}', "expected linear betas.*found {'beta_schedule': 'squared"),
        ('{"prediction_type": "v_prediction"}', "found {'prediction_type'"),
        ('{"beta_start": 0.00085, "beta_end": 0.012}', "found {'beta_start': 0.00085, 'beta_end': 0.012}"),
        ('{"num_train_timesteps": 4000}', "found {'num_train_timesteps': 4000}"),
        ('{"trained_betas": [0.1, 0.2]}', "found {'trained_betas'"),
        ('{"beta_start": ', "expected the JSON object of a diffusers scheduler"),
        ("[]", "expected the JSON object of a diffusers scheduler"),
    ],
)
def test_a_prior_with_another_noise_schedule_is_refused(tmp_path, saved, match):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "scheduler_config.json").write_text(saved)
    with pytest.raises(UserError, match=match):
        load_prior(str(tmp_path), 64)


def test_the_scheduler_that_priors_are_trained_with_may_lie_beside_them(network, tmp_path):
    network.save_pretrained(tmp_path)
    DDPMScheduler().save_pretrained(tmp_path)
    assert load_prior(str(tmp_path), 32).fingerprint


def test_input_channels_that_are_no_packed_colours_are_refused():
    odd = UNet2DModel(
        in_channels=4, out_channels=4, block_out_channels=(8, 8), norm_num_groups=8,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    with pytest.raises(UserError, match="not 4"):
        UNetPrior(odd)
