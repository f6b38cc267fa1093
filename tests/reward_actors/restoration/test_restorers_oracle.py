"""Under a Gaussian prior the right answer is known in closed form; the sampler must find it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from envs.degradations import QUANTISATION, blur, degrade, low_resolution
from envs.degradations.common import dct2, dct_matrix, idct2
from envs.taxonomy import TAXONOMY
from reward_actors.priors.gaussian import GaussianPrior, photo_gaussian
from reward_actors.restoration.presets import RESTORERS, restorer
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.restoration.sampler import schedule

DRAWS = 32


def posterior_of_blur(world, y, answer):
    """E[x | y] and its mean standard deviation, per DCT frequency."""
    gain, power = blur.spectrum(torch.tensor([answer["sigma"]]), world.size, world.size), world.power / 4
    evidence = gain.square() * power + QUANTISATION**2
    mean = 0.5 + idct2(gain * power / evidence * dct2(y - 0.5))
    return mean, (power * QUANTISATION**2 / evidence).mean().sqrt()


def posterior_of_low_resolution(world, y, answer):
    """E[x | y] and its mean standard deviation, by dense linear algebra on one channel after the other."""
    cells = low_resolution.reduction(world.size, int(answer["scale"]))
    operator = torch.kron(cells.reduce, cells.reduce).double()
    basis = dct_matrix(world.size).double()
    basis = torch.kron(basis, basis)
    covariance = basis.T @ torch.diag((world.power / 4).double().flatten()) @ basis
    small = y[..., cells.pick[:, None], cells.pick].double().reshape(3, -1) - 0.5
    evidence = operator @ covariance @ operator.T + QUANTISATION**2 * torch.eye(len(operator))
    gain = covariance @ operator.T @ torch.linalg.inv(evidence)
    mean = 0.5 + (gain @ small.T).T.reshape(1, 3, world.size, world.size)
    return mean.float(), (covariance - gain @ operator @ covariance).diagonal().mean().sqrt()


@pytest.mark.parametrize("name", ["ddnm", "ddnm_plus"])
@pytest.mark.parametrize(
    ("posterior", "type_name", "values"),
    [
        (posterior_of_blur, "blur", {"sigma": 1.0}),
        (posterior_of_blur, "blur", {"sigma": 2.0}),
        (posterior_of_low_resolution, "low_resolution", {"scale": 2}),
        (posterior_of_low_resolution, "low_resolution", {"scale": 4}),
    ],
)
def test_averaged_over_noise_ddnm_is_the_posterior_mean(gaussian_world, name, posterior, type_name, values):
    answer = TAXONOMY.degradation(type_name, values)
    y = degrade(gaussian_world.draw(1), [answer])
    mean, deviation = (part.numpy() for part in posterior(gaussian_world, y, answer))
    restored = np.stack(restore_many(gaussian_world.prior, restorer(name), as_uint8(y), answer))
    error = rms(restored.mean(0) - as_picture(mean)) / deviation
    assert error < 0.5
    if type_name == "low_resolution":  # its closed form lies within noise of the posterior mean: no yardstick
        without_prior = low_resolution.PHENOMENON.pseudo_inverse(as_uint8(y), answer)
    else:
        without_prior = restore_many(gaussian_world.prior, restorer("closed_form"), as_uint8(y), answer)[0]
    assert error < 0.75 * rms(without_prior - as_picture(mean)) / deviation
    assert 0.5 < restored.std(0).mean() / deviation < 1.0  # samples, a little narrower than the posterior


@pytest.mark.parametrize("transmission", [0.5, 0.1, 0.05])
def test_in_haze_ddnm_is_the_inverted_formula_and_ddnm_plus_the_posterior_mean(gaussian_world, transmission):
    """The Wiener filter of y = t x + A (1 - t) + quantisation; it departs from the formula where t is small."""
    answer = TAXONOMY.degradation("haze", {"atmospheric_light": 0.7, "transmission": transmission})
    y = degrade(gaussian_world.draw(1), [answer])
    power = gaussian_world.power / 4
    evidence = transmission**2 * power + QUANTISATION**2
    mean = 0.5 + idct2(transmission * power / evidence * dct2(y - 0.7 * (1 - transmission) - transmission * 0.5))
    deviation = float((power * QUANTISATION**2 / evidence).mean().sqrt())
    inverted = as_picture(((y - 0.7 * (1 - transmission)) / transmission).clamp(0, 1).numpy())
    ddnm = np.stack(restore_many(gaussian_world.prior, restorer("ddnm"), as_uint8(y), answer))
    plus = np.stack(restore_many(gaussian_world.prior, restorer("ddnm_plus"), as_uint8(y), answer))
    assert np.abs(ddnm - inverted).max() < 1e-5
    assert rms(plus.mean(0) - as_picture(mean.clamp(0, 1).numpy())) < 0.3 * deviation
    assert 0.25 < plus.std(0).mean() / deviation < 1.0


@pytest.mark.parametrize("name", ["ddnm", "ddnm_plus"])
@pytest.mark.parametrize("gain", [0.05, 0.02, 0.01])
def test_in_low_light_ddnm_averages_to_the_mean_of_a_truncated_normal(name, gain):
    """Low light leaves a box. Where the prior's pixels are independent, N(.5, sd^2), the posterior has a closed form.

    Errors are in widths of the box, .09 to .36 grey; the mean is nearer than the midpoint as soon as boxes are
    wide, and nearer than the likeliest point everywhere. For a prior with correlated pixels no closed form exists.
    """
    sd, size = 0.2, 32
    prior = GaussianPrior(torch.zeros(1, 1, 1), torch.full((size, size), 4 * sd**2))
    answer = TAXONOMY.degradation("low_light", {"gamma": 2.0, "gain": gain})
    draw = 0.5 + sd * torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    dark = degrade(draw.clamp(0, 1), [answer])
    low, high = (((dark + side * 0.5 / 255) / gain).clamp(0, 1).sqrt() for side in (-1, 1))
    a, b = (low - 0.5) / sd, (high - 0.5) / sd
    normal = torch.distributions.Normal(0.0, 1.0)
    density = normal.log_prob(a).exp() - normal.log_prob(b).exp()
    mean = 0.5 + sd * density / (normal.cdf(b) - normal.cdf(a)).clamp_min(1e-9)
    restored = np.stack(restore_many(prior, restorer(name), as_uint8(dark), answer))

    def error(point):
        return rms((restored.mean(0) - as_picture(point.numpy())) / as_picture((high - low).numpy()))

    assert np.all(restored >= as_picture(low.numpy()) - 1e-5)
    assert np.all(restored <= as_picture(high.numpy()) + 1e-5)
    assert error(mean) < 0.12
    assert error(mean) < 0.5 * error(torch.full_like(low, 0.5).clamp(low, high))
    assert error(mean) < error((low + high) / 2)


@pytest.mark.parametrize("name", ["ddnm", "ddnm_plus"])
def test_time_travel_keeps_the_posterior_mean(gaussian_world, name):
    answer = TAXONOMY.degradation("blur", {"sigma": 2.0})
    y = degrade(gaussian_world.draw(1), [answer])
    mean, deviation = (part.numpy() for part in posterior_of_blur(gaussian_world, y, answer))
    travelling = replace(restorer(name, steps=40), travel=10, repeats=3)
    restored = np.stack(restore_many(gaussian_world.prior, travelling, as_uint8(y), answer))
    assert len(schedule(travelling, answer)) == 120
    assert rms(restored.mean(0) - as_picture(mean)) < 0.3 * deviation
    assert 0.5 < restored.std(0).mean() / deviation < 1.0


@pytest.mark.parametrize("name", list(RESTORERS))
def test_haze_needs_no_prior(gaussian_world, name):
    answer = TAXONOMY.degradation("haze", {"atmospheric_light": 0.7, "transmission": 0.5})
    truth = gaussian_world.draw(2).clamp(0, 1)
    hazy = as_uint8(degrade(truth, [answer]))
    restored = restore_many(gaussian_world.prior, restorer(name), hazy, answer)[0]
    assert rms(restored - as_picture(truth.numpy())) < 1.2 * QUANTISATION / 0.5
    assert name != "fast" or schedule(restorer(name), answer) == ()


@pytest.mark.parametrize("name", list(RESTORERS))
def test_what_was_restored_explains_what_was_seen(samples, name):
    """Degrading the restored picture again gives the data back to about one grey level."""
    for sample in samples:
        restored = restore_batch(
            photo_gaussian(64), restorer(name), [sample.degraded], [sample.degradation], [sample.sample_id]
        )[0]
        again = degrade(torch.tensor(restored).permute(2, 0, 1)[None], [sample.degradation])
        error = rms(as_picture(again.numpy()) - sample.degraded / 255) * 255
        assert error < 2.0, f"{sample.sample_id}: {error:.2f} grey levels"


def restore_many(prior, chosen, picture, answer):
    ids = [str(i) for i in range(DRAWS)]
    return restore_batch(prior, chosen, [picture] * DRAWS, [answer] * DRAWS, ids, DRAWS)


def as_picture(batch):
    return batch[0].transpose(1, 2, 0)


def as_uint8(y):
    return (as_picture(y.numpy()) * 255).round().astype(np.uint8)


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))
