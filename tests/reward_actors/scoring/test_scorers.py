"""What a restoration is worth."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from configs import UserError
from reward_actors.scoring.scorer import check, fingerprint, higher_is_better, score, score_batch, terms

UNIT_NAMES = ("mse", "psnr", "ssim", "consistency")
COMPOSITE = ["niqe_local:1", "consistency:2", "range:0.5", "brightness"]


@pytest.mark.parametrize("scorer", UNIT_NAMES)
def test_the_truth_scores_higher_than_the_degraded_picture(samples, photo, scorer):
    for sample in samples:
        truth, _ = score(scorer, (photo / 255).astype(np.float32), sample, sample.degradation)
        spoilt, _ = score(scorer, (sample.degraded / 255).astype(np.float32), sample, sample.degradation)
        assert truth > spoilt


def test_the_reward_is_minus_the_mean_squared_error_on_the_unit_range(samples):
    """Eq. 28."""
    sample = dataclasses.replace(samples[0], clean=np.zeros((8, 8, 3), np.uint8))
    reward, parts = score("mse", np.full((8, 8, 3), 0.5, np.float32), sample, sample.degradation)
    assert reward == pytest.approx(-0.25)
    assert parts == {"mse": pytest.approx(0.25), "psnr": pytest.approx(6.0206, abs=1e-3)}


def test_every_valid_restoration_beats_a_gated_answer(samples):
    sample = dataclasses.replace(samples[0], clean=np.full((8, 8, 3), 255, np.uint8))
    assert score("mse", np.full((8, 8, 3), 0.01, np.float32), sample, sample.degradation)[0] > -1


def test_consistency_needs_no_truth_and_is_perfect_for_the_true_picture(samples, photo):
    sample = dataclasses.replace(samples[2], clean=None)
    reward, parts = score("consistency", (photo / 255).astype(np.float32), sample, sample.degradation)
    assert reward == pytest.approx(0, abs=1e-9)
    assert "mse" not in parts


def test_what_nothing_was_done_to_explains_the_data(samples):
    reward, parts = score(["consistency", "psnr:0.05"], unit(samples[0].degraded), samples[0], None)
    assert parts["consistency"] == pytest.approx(0, abs=1e-9)
    assert reward == pytest.approx(0.05 * parts["psnr"])


def test_a_composite_is_the_sum_of_its_weighted_terms_each_turned_upwards(samples):
    sample = samples[0]
    reward, parts = score(COMPOSITE, unit(sample.degraded), sample, sample.degradation)
    weights = {"niqe_local": -1, "consistency": 2, "range": -0.5, "brightness": -1}
    assert reward == pytest.approx(sum(weight * parts[name] for name, weight in weights.items()))
    assert set(parts) == {*weights, "mse", "psnr"}
    assert all((weight > 0) == higher_is_better(name) for name, weight in weights.items())


def test_range_counts_the_values_cut_off_at_the_ends(samples):
    picture = np.full((64, 64, 3), 0.5, np.float32)
    picture[:16], picture[16:24] = 0, 1
    assert score("range", picture, samples[0], samples[0].degradation)[1]["range"] == pytest.approx(24 / 64)


@pytest.mark.parametrize(("level", "off"), [(0.05, 0.1), (0.4, 0.0), (0.9, 0.15)])
def test_brightness_measures_the_way_to_the_plausible_band(samples, level, off):
    picture = np.full((64, 64, 3), level, np.float32)
    found = score("brightness", picture, samples[0], samples[0].degradation)[1]["brightness"]
    assert found == pytest.approx(off, abs=1e-5)


def test_a_score_does_not_depend_on_what_else_is_in_the_batch(samples):
    pictures = [unit(sample.degraded) for sample in samples]
    pictures[1] = pictures[1][:48, :40]
    chosen = [dataclasses.replace(sample, clean=None) for sample in samples]
    chosen[1] = dataclasses.replace(chosen[1], degraded=chosen[1].degraded[:48, :40])
    answers = [sample.degradation for sample in samples]
    together = score_batch([*COMPOSITE, "brisque", "piqe"], pictures, chosen, answers)
    for batched, picture, sample, answer in zip(together, pictures, chosen, answers, strict=True):
        alone = score([*COMPOSITE, "brisque", "piqe"], picture, sample, answer)
        assert batched[1] == pytest.approx(alone[1], abs=1e-6)
        assert batched[0] == pytest.approx(alone[0], abs=1e-6)


def test_a_scorer_without_its_truth_says_so(samples):
    sample = dataclasses.replace(samples[0], clean=None)
    for scorer in ("mse", ["consistency", "lpips:0.5"]):
        with pytest.raises(UserError, match="needs the clean picture"):
            check(scorer, sample)
    check(COMPOSITE, sample)


@pytest.mark.parametrize("wrong", ["", "mse:", "mse:zero", "mse:-1", "range:nan", "nosuchscore", "mse:1:2"])
def test_a_term_that_cannot_be_read_is_refused(wrong):
    with pytest.raises(UserError):
        terms(wrong)


def test_a_term_may_not_be_there_twice():
    with pytest.raises(UserError, match="different terms"):
        terms(["range:1", "range:2"])


def test_the_fingerprint_follows_names_weights_and_files(tmp_path):
    model = tmp_path / "own.json"
    model.write_text("{}")
    specs = ["mse", "mse:2", ["mse", "ssim"], "niqe_local", f"niqe_local:1@{model}"]
    assert len({fingerprint(spec) for spec in specs}) == len(specs)
    assert fingerprint("mse") == fingerprint(["mse:1"])
    with pytest.raises(UserError, match="no such file"):
        fingerprint("niqe_local:1@/nowhere.json")


def test_weights_may_be_the_files_of_a_folder(tmp_path):
    found = []
    for text in ("one", "two"):
        (tmp_path / "svm.txt").write_text(text)
        (tmp_path / "normalize.pickle").write_text("same")
        found.append(fingerprint(f"brisque:1@{tmp_path}"))
    assert len({*found, fingerprint("brisque")}) == 3


def test_the_default_online_reward_imports_nothing_of_pyiqa():
    """Its licence is non-commercial: a fresh interpreter, since other tests here import it."""
    code = """
import sys
import numpy as np
from configs import load
from envs.types import Sample
from envs.taxonomy import TAXONOMY
from reward_actors.scoring.scorer import score
answer = TAXONOMY.degradation("blur", {"sigma": 1.0})
sample = Sample("a", "a", "test", np.full((64, 64, 3), 99, np.uint8))
score(load("online").reward.scorer, np.full((64, 64, 3), 0.4, np.float32), sample, answer)
print("pyiqa" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def unit(picture):
    return (picture / 255).astype(np.float32)
