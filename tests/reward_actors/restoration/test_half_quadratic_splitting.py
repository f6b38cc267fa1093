"""Half-quadratic splitting, with the prior and with total variation as denoiser."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from envs.degradations import degrade
from envs.taxonomy import TAXONOMY
from reward_actors.priors.base import linear_alphas
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.priors.total_variation import TotalVariationPrior, denoise
from reward_actors.restoration.presets import restorer
from reward_actors.restoration.running_batch import RunningBatch, restore_batch
from reward_actors.restoration.sampler import schedule


def levels_of(times):
    a = linear_alphas()[list(times)]
    return ((1 - a) / a).sqrt().numpy() / 2


@pytest.mark.parametrize("name", ["hqs", "tv"])
def test_noise_levels_fall_geometrically_from_5_to_half_a_percent(answers, name):
    blurred = next(answer for answer in answers if answer.type == "blur")
    levels = levels_of(schedule(restorer(name), blurred))
    assert levels[0] == pytest.approx(0.05, rel=0.05)
    assert levels[-1] == pytest.approx(0.006, rel=0.3)
    ratios = levels[1:] / levels[:-1]
    assert np.all(ratios < 1)
    assert ratios.std() < 0.08  # timesteps are whole numbers


@pytest.mark.parametrize("name", ["hqs", "tv"])
def test_no_noise_goes_in(samples, name):
    """Two pictures that differ in name only are restored to the same."""
    low = next(sample for sample in samples if sample.degradation.type == "low_resolution")
    pictures, answers = [low.degraded] * 2, [low.degradation] * 2
    first, second = restore_batch(photo_gaussian(64), restorer(name), pictures, answers, ["a", "b"])
    assert np.array_equal(first, second)


def test_a_heavier_penalty_keeps_an_overestimated_blur_from_ringing(photo):
    """The prior's estimate weighs more, so less of what a wrong filter amplifies comes back from the data."""
    truth, answer = (TAXONOMY.degradation("blur", {"sigma": sigma}) for sigma in (1.2, 1.5))
    clean = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    seen = (degrade(clean, [truth])[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    error = []
    for penalty in (1.0, 2.0, 8.0):
        chosen = replace(restorer("tv"), penalty=penalty)
        (restored,) = restore_batch(photo_gaussian(64), chosen, [seen], [answer], ["a"])
        error.append(float(np.mean((restored - photo / 255) ** 2)))
    assert error[0] > error[1] > error[2]


def test_total_variation_asks_no_prior(samples):
    class Silent:
        alphas_cumprod, device, fingerprint = linear_alphas(), torch.device("cpu"), "silent"

        def eps(self, x, t):
            raise AssertionError("it was asked")

    blurred = next(sample for sample in samples if sample.degradation.type == "blur")
    batch = RunningBatch(Silent(), restorer("tv"), capacity=2)
    batch.add("tv", "a", blurred.degraded, blurred.degradation)
    while len(batch):
        batch.step()
    batch.add("hqs", "a", blurred.degraded, blurred.degradation, restorer("hqs"))
    with pytest.raises(AssertionError, match="it was asked"):
        batch.step()


def test_rows_of_both_denoisers_step_together_and_do_not_see_each_other(samples, unet_prior):
    blurred = next(sample for sample in samples if sample.degradation.type == "blur")
    batch = RunningBatch(unet_prior, restorer("hqs"), capacity=2)
    batch.add("hqs", "a", blurred.degraded, blurred.degradation)
    batch.add("tv", "a", blurred.degraded, blurred.degradation, restorer("tv"))
    together = {}
    while len(batch):
        together.update(batch.step())
    for name, picture in together.items():
        (alone,) = restore_batch(unet_prior, restorer(name), [blurred.degraded], [blurred.degradation], ["a"])
        assert np.array_equal(alone, picture)


def test_total_variation_betters_the_closed_form_of_a_photograph(photo):
    """Of a blurred face; the shipped strength is right for photographs."""
    answer = TAXONOMY.degradation("blur", {"sigma": 1.2})
    clean = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    seen = (degrade(clean, [answer])[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    error = {}
    for name in ("closed_form", "tv"):
        (restored,) = restore_batch(photo_gaussian(64), restorer(name), [seen], [answer], ["a"])
        error[name] = float(np.mean((restored - photo / 255) ** 2))
    assert error["tv"] < error["closed_form"]


def test_the_denoiser_is_the_minimum_it_claims_to_be():
    generator = torch.Generator().manual_seed(0)
    noisy = 0.5 + 0.1 * torch.randn(1, 3, 16, 16, generator=generator, dtype=torch.float64)
    weight = torch.full((1, 1, 1, 1), 0.05, dtype=torch.float64)

    def cost(x):
        down = torch.nn.functional.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
        right = torch.nn.functional.pad(x[..., 1:] - x[..., :-1], (0, 1))
        variation = (down.square() + right.square()).sum(1).sqrt().sum()
        return float((x - noisy).square().sum() / 2 + 0.05 * variation)

    found = denoise(noisy, weight, iterations=500)
    assert cost(found) < cost(noisy)
    for seed in range(5):
        nearby = found + 1e-3 * torch.randn(found.shape, generator=generator.manual_seed(seed), dtype=torch.float64)
        assert cost(found) < cost(nearby)


def test_total_variation_predicts_noise_and_not_edges():
    """Of a step edge under noise: most of the noise is found, and rows do not see each other."""
    prior, t = TotalVariationPrior(), torch.tensor([27, 27])
    a = prior.alphas_cumprod[27].float()
    edge = torch.where(torch.arange(32) < 16, -0.5, 0.5).expand(2, 3, 32, 32)
    noise = torch.randn(edge.shape, generator=torch.Generator().manual_seed(0))
    x = a.sqrt() * edge + (1 - a).sqrt() * noise
    eps = prior.eps(x, t)
    assert float((eps - noise).square().mean()) < 0.5
    assert torch.equal(eps[:1], prior.eps(x[:1], t[:1]))
