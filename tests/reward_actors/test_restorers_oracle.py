"""Under a Gaussian prior the right answer is known in closed form; the sampler must find it."""

import numpy as np
import pytest
import torch

from envs.degradations import QUANTISATION, blur, degrade, low_resolution
from envs.degradations.common import dct2, dct_matrix, idct2
from envs.taxonomy import TAXONOMY
from reward_actors.batch import restore_batch
from reward_actors.priors import photo_gaussian
from reward_actors.restorers import RESTORERS, restorer, schedule

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
    classical = restore_many(gaussian_world.prior, restorer("closed_form"), as_uint8(y), answer)[0]
    assert error < 0.5
    assert error < 0.75 * rms(classical - as_picture(mean)) / deviation
    assert 0.5 < restored.std(0).mean() / deviation < 1.0  # samples, a little narrower than the posterior


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
