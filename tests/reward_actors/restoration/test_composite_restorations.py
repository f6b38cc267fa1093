"""Every restorer works on several degradations at once, and what it restores explains what was seen."""

import numpy as np
import pytest
import torch

from envs.degradations import degrade, sample
from envs.taxonomy import taxonomy
from reward_actors.priors.gaussian import photo_gaussian
from reward_actors.restoration.presets import RESTORERS, restorer
from reward_actors.restoration.running_batch import restore_batch
from reward_actors.restoration.sampler import schedule

WORLD = taxonomy(composites=3)
COMPOSITES = [kind.name for kind in WORLD.types if len(kind.parts) > 1]


@pytest.fixture(scope="module")
def several(photo):
    """(truths, degraded pictures uint8, clean (3, 64, 64)): one of each composite, of one photograph."""
    truths = [sample(WORLD, name, np.random.default_rng(3), 64) for name in COMPOSITES]
    clean = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    seen = degrade(clean.expand(len(truths), -1, -1, -1), truths)
    return truths, [as_uint8(picture) for picture in seen], clean[0]


@pytest.mark.parametrize("name", list(RESTORERS))
def test_every_restorer_of_a_composite_explains_the_picture_to_a_grey_level_and_betters_it(several, name):
    truths, seen, clean = several
    restored = restore_batch(photo_gaussian(64), restorer(name), seen, truths, COMPOSITES, len(truths))
    again = degrade(torch.tensor(np.stack(restored)).permute(0, 3, 1, 2), truths)
    for kind, picture, explained, degraded in zip(COMPOSITES, restored, again, seen, strict=True):
        misfit = rms(as_uint8(explained).astype(float) - degraded)
        assert misfit < 1.5, f"{kind}: {misfit:.2f} grey levels"
        original = clean.permute(1, 2, 0).numpy()
        assert rms(picture - original) < rms(degraded / 255 - original), kind


def test_a_composite_with_haze_still_has_something_for_the_prior_to_add(several):
    truths, _, _ = several
    assert all(schedule(restorer("fast"), truth) for truth in truths)


def as_uint8(picture):
    return (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def rms(x):
    return float(np.sqrt(np.mean(np.square(x))))
