from dataclasses import replace

import numpy as np
import pytest
import torch
from corpora import written

from configs.schema import Config, Learner, World
from envs.corpus.augment import augmented, mirrors, refreshed, varied
from envs.corpus.generate import check_sample, degrade
from envs.degradations import sample
from envs.observation import views
from envs.taxonomy import TAXONOMY, taxonomy
from envs.types import Sample
from learner.distributed.ahead import Ahead
from learner.distributed.sampler import Stream, open_stream, step_indices

COUNT, BATCH = 11, 4


def test_an_epoch_shows_every_sample_once_and_epochs_differ():
    stream = [pair for step in range(COUNT) for pair in step_indices(step, BATCH, COUNT, seed=3)]
    epochs = [[index for epoch, index in stream if epoch == e] for e in range(BATCH)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_batch_runs_on_across_the_end_of_an_epoch():
    assert [epoch for epoch, _ in step_indices(2, BATCH, COUNT, seed=3)] == [0, 0, 0, 1]


def test_a_batch_larger_than_the_corpus_spans_epochs():
    found = step_indices(0, 8, 3, seed=0)
    assert [epoch for epoch, _ in found] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_another_seed_is_another_order():
    assert step_indices(0, BATCH, COUNT, seed=1) != step_indices(0, BATCH, COUNT, seed=2)


def samples():
    return [Sample(str(i), "", "train", np.full((2, 4, 3), i, np.uint8)) for i in range(COUNT)]


def test_ranks_share_a_batch_and_see_nothing_twice():
    shares = [Stream(samples(), BATCH, 3, rank, 2, mirror=False)(5) for rank in range(2)]
    together = sorted(int(s.sample_id) for share in shares for s in share)
    assert together == sorted(index for _, index in step_indices(5, BATCH, COUNT, seed=3))


def test_mirroring_follows_from_seed_epoch_and_index_and_strikes_half():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    one = Sample("a", "", "train", image)
    turned = [not np.array_equal(augmented(one, 0, 0, i).degraded, image) for i in range(400)]
    assert turned == [not np.array_equal(augmented(one, 0, 0, i).degraded, image) for i in range(400)]
    assert 160 < sum(turned) < 240


@pytest.mark.parametrize("name", [kind.name for kind in TAXONOMY.types])
def test_the_mirrored_degraded_image_is_the_degraded_mirror_image(photo, name):
    rng = np.random.default_rng(1)
    for _ in range(4):
        degradation = sample(TAXONOMY, name, rng, 128)
        if name == "low_resolution" and 128 % degradation["scale"]:
            continue  # the last block is narrower than the others, on one side or the other
        there = degrade(np.ascontiguousarray(photo[:, ::-1]), degradation)
        here = degrade(photo, degradation)[:, ::-1]
        assert np.abs(there.astype(int) - here).max() <= 1  # rounding


def test_a_map_of_transmission_is_never_mirrored():
    assert mirrors(TAXONOMY)
    assert not mirrors(taxonomy(transmission_grid=4))


def test_the_learning_rate_warms_up_and_decays_to_a_fiftieth():
    from learner.distributed.deepspeed import learning_rate

    settings = Learner(lr=1.0, warmup=10)
    assert learning_rate(0, 110, settings) == pytest.approx(0.1)
    assert learning_rate(9, 110, settings) == learning_rate(10, 110, settings) == 1.0
    assert learning_rate(60, 110, settings) == pytest.approx(0.51)
    assert learning_rate(110, 110, settings) == pytest.approx(0.02)


@pytest.mark.parametrize("name", [kind.name for kind in TAXONOMY.types])
def test_a_refreshed_sample_is_new_in_every_epoch_and_its_values_are_true(photo, name):
    old = Sample("a", "", "train", photo, photo, sample(TAXONOMY, name, np.random.default_rng(1), 128))
    first, again, other = (refreshed(old, TAXONOMY, 0, epoch, 5) for epoch in (0, 0, 1))
    assert check_sample(first)
    assert first.degradation.type == name
    assert np.array_equal(first.degraded, again.degraded)
    assert not np.array_equal(first.clean, other.clean)


def test_another_exposure_is_another_picture_of_the_same_scene(photo):
    other = varied(photo, np.random.default_rng(0))
    assert other.dtype == np.uint8
    correlation = np.corrcoef(photo.mean(2).ravel(), other.mean(2).ravel())[0, 1]
    assert 0.9 < correlation < 1


def test_a_refreshed_picture_follows_from_its_values_and_in_a_world_with_depth_from_a_map(photo):
    from envs.degradations import closed_form

    haze = TAXONOMY.degradation("haze", {"atmospheric_light": 0.8, "transmission": 0.4})
    sample = Sample("s", "p", "train", photo, photo, haze)
    flat, deep = (refreshed(sample, TAXONOMY, 0, 1, 2, depth) for depth in (False, True))
    errors = []
    for made in (flat, deep):
        y = torch.from_numpy(made.degraded).permute(2, 0, 1)[None].float() / 255
        found = closed_form(y, [made.degradation])[0].permute(1, 2, 0).numpy() * 255
        errors.append(float(np.abs(found - made.clean).mean()))
    assert errors[0] < 2.0  # one transmission explains the picture
    assert errors[1] > 2 * errors[0]  # with depth its mean does not


def test_low_light_is_refreshed_on_the_photograph_as_it_is(photo):
    dark = Sample("s", "p", "train", photo, photo, TAXONOMY.degradation("low_light", {"gamma": 3.0, "gain": 0.08}))
    for index in range(4):
        made = refreshed(dark, TAXONOMY, 0, 1, index)
        assert any(np.array_equal(made.clean, seen) for seen in (photo, photo[:, ::-1]))
    haze = TAXONOMY.degradation("haze", {"atmospheric_light": 0.8, "transmission": 0.4})
    hazy = Sample("s", "p", "train", photo, photo, haze)
    assert not np.array_equal(refreshed(hazy, TAXONOMY, 0, 1, 0).clean, photo)


def test_samples_drawn_ahead_are_those_drawn_in_the_step(tmp_path):
    """The real process beside the rank, from the second step on: nothing is lost, and nothing comes twice."""
    folder = written(tmp_path, 40, train=12)
    learner = Learner(batch=4, refresh=True, ahead=True)
    config = replace(Config(), world=replace(World(), size=48), learner=learner, steps=4)
    stream = open_stream(config, folder, "train", 0)
    prepared = list(Ahead(config, folder, "train", 0, 1).loader())
    assert len(prepared) == 3
    for step, batch in enumerate(prepared, 1):
        for (drawn, shown), here in zip(batch, stream(step), strict=True):
            np.testing.assert_array_equal(drawn.degraded, here.degraded)
            assert drawn.degradation == here.degradation
            for one, other in zip(shown, views(here.degraded, config.world.views), strict=True):
                np.testing.assert_array_equal(one, other)
