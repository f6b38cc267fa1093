"""Rows share denoiser calls and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.restoration.presets import RESTORERS, Restorer, restorer
from reward_actors.restoration.running_batch import RunningBatch, restore_batch
from reward_actors.restoration.sampler import noise, schedule, step

SHORT = restorer("ddnm", steps=6)


@pytest.mark.parametrize("name", ["ddnm", "ddnm_plus", "fast", "few", "average"])
def test_a_restoration_does_not_depend_on_its_neighbours(unet_prior, samples, name):
    chosen = restorer(name, steps=4)
    together = restore(unet_prior, chosen, samples * 2, capacity=5)
    for sample, restored in zip(samples * 2, together, strict=True):
        alone = restore(unet_prior, chosen, [sample])[0]
        assert np.abs(alone - restored).max() <= 1e-6


def test_a_restoration_is_the_same_every_time(unet_prior, samples):
    first, second = restore(unet_prior, SHORT, samples), restore(unet_prior, SHORT, samples)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_completions_of_one_picture_see_the_same_noise():
    assert torch.equal(noise("a", 3, (1, 3, 8, 8)), noise("a", 3, (1, 3, 8, 8)))
    assert not torch.equal(noise("a", 3, (1, 3, 8, 8)), noise("b", 3, (1, 3, 8, 8)))
    assert not torch.equal(noise("a", 3, (1, 3, 8, 8)), noise("a", 4, (1, 3, 8, 8)))


def test_every_second_draw_mirrors_the_one_before():
    draws = noise("a", 0, (5, 3, 8, 8))
    assert torch.equal(draws[0::2][:2], -draws[1::2])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(draws[:2], noise("a", 0, (2, 3, 8, 8)))


def test_noise_of_different_pictures_is_uncorrelated_standard_normal():
    draws = torch.stack([noise(str(i), 0, (1, 3, 32, 32)).flatten() for i in range(8)])
    assert abs(float(draws.mean())) < 0.03
    assert abs(float(draws.std()) - 1) < 0.03
    assert (torch.corrcoef(draws) - torch.eye(8)).abs().max() < 0.1


def test_a_short_row_behind_long_ones_leaves_after_its_own_steps(samples):
    """100 steps do not hold up 4: no head-of-line blocking."""
    blurred = next(sample for sample in samples if sample.degradation.type == "blur")
    batch, entered = RunningBatch(photo_gaussian(64), restorer("ddnm"), capacity=3), 10
    left = {}

    def step(number):
        left.update({key: number for key, _ in batch.step()})

    for key in ("long-0", "long-1"):
        batch.add(key, key, blurred.degraded, blurred.degradation)
    for number in range(1, entered + 1):
        step(number)
    batch.add("short", "short", blurred.degraded, blurred.degradation, restorer("fast", steps=4))
    for number in range(entered + 1, 102):
        step(number)
    assert left == {"short": entered + 4, "long-0": 100, "long-1": 100}


def test_time_travel_walks_each_stretch_again(answers):
    blurred = next(answer for answer in answers if answer.type == "blur")
    there_and_back = Restorer("travelling", steps=6, first=50, last=0, travel=3, repeats=2)
    assert schedule(there_and_back, blurred) == (50, 40, 30, 50, 40, 30, 20, 10, 0, 20, 10, 0)
    assert schedule(replace(there_and_back, travel=0), blurred) == (50, 40, 30, 20, 10, 0)


def test_calls_may_come_closer_together_towards_the_end(answers):
    blurred = next(answer for answer in answers if answer.type == "blur")
    assert schedule(Restorer("even", steps=5, first=800), blurred) == (800, 600, 400, 200, 0)
    assert schedule(Restorer("curved", steps=5, first=800, curve=2.0), blurred) == (800, 450, 200, 50, 0)
    assert schedule(Restorer("one", steps=1, first=800, curve=2.0), blurred) == (800,)


@pytest.mark.parametrize("name", RESTORERS)
def test_a_restorer_s_own_number_of_steps_named_or_not_is_the_same_walk(name):
    assert restorer(name, steps=RESTORERS[name].steps) == restorer(name) == RESTORERS[name]


def test_more_steps_than_timesteps_walk_through_each_once(answers):
    blurred = next(answer for answer in answers if answer.type == "blur")
    assert schedule(restorer("fast", steps=64), blurred) == tuple(range(30, -1, -1))


def test_going_back_in_time_noises_the_estimate_that_agrees_with_the_data(unet_prior, samples):
    """Not the network's own estimate: the new x is sqrt(a) x0h + sqrt(1 - a) z, x0h projected onto the data."""
    low = next(sample for sample in samples if sample.degradation.type == "low_resolution")
    y = torch.tensor(low.degraded).permute(2, 0, 1)[None].float() / 255
    now, earlier = (unet_prior.alphas_cumprod[[t]].float() for t in (100, 300))
    x, z = noise("x", 0, y.shape), noise("z", 0, y.shape)
    eps = unet_prior.eps(x, torch.tensor([100]))
    moved = step(x, eps, y, [low.degradation], [restorer("ddnm")], now, earlier, z)
    noised = (moved - (1 - earlier).sqrt().item() * z) / earlier.sqrt().item()
    corrected = step(x, eps, y, [low.degradation], [restorer("ddnm")], now, torch.ones(1), z)
    assert torch.allclose(noised, corrected, atol=1e-4)


def test_haze_in_the_reference_costs_no_denoiser_call_and_changes_no_score(unet_prior, samples):
    """Its data fix every pixel, whatever the walk before: the last projection is the closed form."""
    hazy = next(sample for sample in samples if sample.degradation.type == "haze")
    y = torch.tensor(hazy.degraded).permute(2, 0, 1)[None].float() / 255
    x, now = noise("x", 0, y.shape), unet_prior.alphas_cumprod[[0]].float()
    eps = unet_prior.eps(x, torch.tensor([0]))
    walked = step(x, eps, y, [hazy.degradation], [SHORT], now, torch.ones(1), torch.zeros_like(x))
    walked = ((walked[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).numpy()
    assert schedule(SHORT, hazy.degradation) == ()
    assert np.abs(restore(unet_prior, SHORT, [hazy])[0] - walked).max() <= 1e-6
    assert schedule(restorer("ddnm_plus"), hazy.degradation) != ()


def test_rows_of_different_sizes_run_together(unet_prior, samples):
    low = next(sample for sample in samples if sample.degradation.type == "low_resolution")
    pictures = [low.degraded, low.degraded[:50, :38]]
    restored = restore_batch(unet_prior, restorer("fast"), pictures, [low.degradation] * 2, ["a", "b"])
    assert [picture.shape for picture in restored] == [(64, 64, 3), (50, 38, 3)]


def test_restored_pictures_lie_in_the_unit_range(unet_prior, samples):
    for restored in restore(unet_prior, SHORT, samples):
        assert restored.dtype == np.float32
        assert 0 <= restored.min() <= restored.max() <= 1


def test_haze_in_the_fast_restorer_costs_no_denoiser_call(unet_prior, samples):
    hazy = next(sample for sample in samples if sample.degradation.type == "haze")
    batch = RunningBatch(unet_prior, restorer("fast"), capacity=1)
    batch.add("hazy", hazy.sample_id, hazy.degraded, hazy.degradation)
    assert [key for key, _ in batch.step()] == ["hazy"]
    assert batch.image_steps == 0


def test_without_a_degradation_a_picture_is_left_as_it_is(unet_prior, samples):
    batch = RunningBatch(unet_prior, SHORT, capacity=2)
    batch.add("nothing", samples[0].sample_id, samples[0].degraded, None)
    batch.add("blur", samples[1].sample_id, samples[1].degraded, samples[1].degradation)
    ((key, picture),) = batch.step()
    assert key == "nothing"
    assert np.abs(picture - samples[0].degraded / 255).max() <= 1e-6
    assert batch.image_steps == 1  # the other's


def test_a_full_batch_takes_nobody(unet_prior, samples):
    batch = RunningBatch(unet_prior, SHORT, capacity=1)
    batch.add(0, "a", samples[0].degraded, samples[0].degradation)
    with pytest.raises(RuntimeError, match="holds its 1 rows"):
        batch.add(1, "b", samples[0].degraded, samples[0].degradation)


def test_schedules_fall_from_first_to_last(answers):
    blurred = next(answer for answer in answers if answer.type == "blur")
    assert schedule(restorer("ddnm"), blurred) == tuple(range(990, -1, -10))
    times = schedule(restorer("fast", steps=5), blurred)
    assert len(times) == 5
    assert list(times) == sorted(times, reverse=True)
    assert len(schedule(Restorer("one", steps=1, first=100, last=100), blurred)) == 1


def restore(prior, chosen, samples, capacity=16):
    return restore_batch(
        prior, chosen, [s.degraded for s in samples], [s.degradation for s in samples],
        [s.sample_id for s in samples], capacity,
    )  # fmt: skip
