"""Scores of a picture alone."""

import json
import math

import numpy as np
import pytest
import skimage.data
import torch
from scipy.ndimage import gaussian_filter

from configs import UserError
from reward_actors.scoring import natural_statistics as natural
from reward_actors.scoring import no_reference
from reward_actors.scoring.scorer import prepare


@pytest.fixture(scope="module")
def face():
    """float32 (128, 128, 3), sharp; a photograph the shipped model has seen."""
    return np.ascontiguousarray(skimage.data.astronaut()[40:168, 160:288]).astype(np.float32) / 255


def blurred(picture, sigma):
    return gaussian_filter(picture, (sigma, sigma, 0), mode="reflect")


@pytest.mark.parametrize("name", ["niqe_local", "spectrum", "brisque", "piqe"])
def test_blur_lowers_the_score_of_a_photograph(face, name):
    sharp, soft = no_reference.score(name, face), no_reference.score(name, blurred(face, 2.5))
    assert (soft < sharp) == no_reference.higher_is_better(name)


@pytest.mark.parametrize("name", ["niqe_local", "brisque"])
def test_noise_lowers_the_score_of_a_photograph(face, name):
    noisy = np.clip(face + np.random.default_rng(0).normal(0, 0.1, face.shape), 0, 1).astype(np.float32)
    assert no_reference.score(name, noisy) > no_reference.score(name, face)


def test_haze_is_seen_as_lack_of_contrast(face):
    assert no_reference.score("contrast", 0.3 * face + 0.6) > 1 > no_reference.score("contrast", face)


def test_what_works_here_is_named_and_works(face):
    names = no_reference.available()
    assert {"niqe_local", "spectrum", "contrast"} <= set(names)
    assert all(math.isfinite(no_reference.score(name, face)) for name in names)
    assert not any(no_reference.higher_is_better(name) for name in ("niqe_local", "spectrum", "contrast", "brisque"))


def test_a_black_picture_has_finite_statistics():
    features, _ = natural.block_features(torch.zeros(1, 3, 64, 64), 32)
    assert torch.isfinite(features).all()


@pytest.mark.parametrize(("alpha", "left", "right"), [(2.0, 1.0, 1.0), (1.0, 0.5, 1.5), (0.6, 1.0, 2.0)])
def test_the_shape_of_an_asymmetric_gaussian_is_found_in_its_sample(alpha, left, right):
    """Samples of the density itself: |x| = scale Gamma(1/alpha)^(1/alpha), the sides chosen by their mass."""
    rng, n = np.random.default_rng(0), 1 << 18
    unit = math.sqrt(math.gamma(1 / alpha) / math.gamma(3 / alpha))
    size = rng.gamma(1 / alpha, size=n) ** (1 / alpha) * unit
    x = np.where(rng.uniform(size=n) < left / (left + right), -left * size, right * size)
    found = natural.shapes(torch.tensor(x).reshape(1, 1, 512, 512), 512, 1)[0, 0, 0].numpy()
    assert found[0] == pytest.approx(alpha, rel=0.05)
    assert found[2:] == pytest.approx([left, right], rel=0.03)


def test_local_normalisation_leaves_unit_contrast_and_no_mean(face):
    x, deviation = natural.normalised(natural.luminance(torch.tensor(face).permute(2, 0, 1)[None]))
    assert abs(float(x.mean())) < 0.1
    assert 0.4 < float(x.std()) < 1.1
    assert deviation.min() >= 0


def test_scores_do_not_depend_on_the_batch(face):
    pictures = torch.tensor(np.stack([blurred(face, sigma) for sigma in (0, 0.7, 1.5, 3)])).permute(0, 3, 1, 2)
    for name in ("niqe_local", "spectrum", "contrast", "brisque", "piqe"):
        together = no_reference.score_batch(name, pictures)
        alone = [no_reference.score(name, picture.permute(1, 2, 0).numpy()) for picture in pictures]
        assert together.tolist() == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("niqe", "niqe_modelparameters.mat.*Nothing is downloaded.*non-commercial"),
        ("clipiqa", "RN50.pt"),
        ("maniqa", "could not build it"),
    ],
)
def test_weights_that_are_not_here_are_asked_for_and_never_downloaded(name, match, tmp_path, monkeypatch, face):
    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(tmp_path / "pyiqa"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UserError, match=match):
        no_reference.score(name, face)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_trunk_that_is_not_here_is_told_before_anything_is_restored(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UserError, match="alexnet-owt-7be5be79.pth"):
        prepare(["mse", "lpips:0.1"], 64)


def test_a_score_is_tried_at_the_size_of_the_job():
    prepare("niqe_local", 48)
    with pytest.raises(UserError, match="at least 32 px"):
        prepare("niqe_local", 24)


def test_weights_named_in_the_setting_are_used(face, tmp_path):
    own = json.loads(natural.SHIPPED.read_text())
    own["mean"] = [value + 1 for value in own["mean"]]
    (tmp_path / "own.json").write_text(json.dumps(own))
    assert no_reference.score("niqe_local", face, str(tmp_path / "own.json")) != no_reference.score("niqe_local", face)
    with pytest.raises(UserError, match="no weights at /nowhere.mat"):
        no_reference.score("niqe", face, "/nowhere.mat")
    with pytest.raises(UserError, match="no model of `duvlm run fit-iqa`"):
        no_reference.score("niqe_local", face, "/nowhere.json")


def test_names_that_are_no_score_of_a_picture_alone_are_refused(face):
    with pytest.raises(UserError, match="compares with a truth"):
        no_reference.score("lpips", face)
    with pytest.raises(UserError, match="no score is called 'shine'"):
        no_reference.score("shine", face)
    with pytest.raises(UserError, match="at least 32 px"):
        no_reference.score("niqe_local", face[:20, :20])


def test_too_little_detail_is_no_model():
    with pytest.raises(UserError, match="sharp blocks"):
        natural.fit([np.full((128, 128, 3), 7, np.uint8)], 32, {})


def test_every_no_reference_metric_of_pyiqa_is_a_term_by_its_name():
    from pyiqa.default_model_configs import DEFAULT_CONFIGS

    from reward_actors.scoring.terms import terms

    alone = [name for name, entry in DEFAULT_CONFIGS.items() if entry.get("metric_mode") == "NR"]
    assert len(alone) > 50
    for name in set(alone) - {"brisque"}:  # ours has the name
        (term,) = terms([name])
        assert not term.needs_truth
        assert (term.sign < 0) == DEFAULT_CONFIGS[name].get("lower_better", False)


def test_of_alternatives_the_first_that_is_here_is_taken_and_the_rest_is_said(tmp_path, monkeypatch):
    from configs import load
    from learner.checks import check_rl, with_scores_at_hand

    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(tmp_path / "pyiqa"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = load("online", ["track=qwen3vl_8b", "photos=DIR"])
    taken, told = with_scores_at_hand(config)
    assert taken.reward.scorer == [
        "niqe_local:0.97", "spectrum:0.71", "contrast:0.44", "consistency_db:3.7", "brightness:0.06",
    ]  # fmt: skip
    assert [note.partition(": ")[2].partition(":")[0] for note in told] == ["reward.scorer"] * 2
    assert "niqe_local in place of niqe" in told[0]
    assert "non-commercial" in told[0]
    check_rl(taken, "online")
    config.reward.scorer = ["niqe|piqe|niqe_local:2@FILE", "consistency"]
    taken, told = with_scores_at_hand(config)
    assert taken.reward.scorer == ["piqe:2@FILE", "consistency"]
    assert ["piqe in place of niqe" in note for note in told] == [True]
