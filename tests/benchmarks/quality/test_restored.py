"""Pictures of other methods beside ours, and photographs without truth: every number computed again."""

import json

import cv2
import numpy as np
import pytest
from corpora import written
from PIL import Image

import duvlm
from benchmarks.quality import photographs
from benchmarks.quality.measures import Quality
from benchmarks.quality.sources.predictions import Answered
from configs.schema import World
from envs.corpus.reader import read_samples
from envs.language.reading import Reading, read_degradation
from envs.taxonomy import TAXONOMY
from envs.world import world_taxonomy
from reward_actors.scoring import no_reference

METHODS = {
    "sharp": lambda picture: cv2.addWeighted(picture, 1.8, cv2.GaussianBlur(picture, (0, 0), 1.5), -0.8, 0),
    "smooth": lambda picture: cv2.bilateralFilter(picture, 5, 30, 3),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of 12 test samples of 48 px."""
    return written(tmp_path_factory.mktemp("corpus"), 120)


@pytest.fixture(scope="module")
def samples(folder):
    return read_samples(folder, "test", world_taxonomy(World()))


@pytest.fixture(scope="module")
def pictures(samples, tmp_path_factory):
    """{method: folder of its pictures}, by OpenCV."""
    out = tmp_path_factory.mktemp("pictures")
    for name, method in METHODS.items():
        (out / name).mkdir()
        for sample in samples:
            Image.fromarray(method(sample.degraded)).save(out / name / f"{sample.sample_id}.png")
    return {name: out / name for name in METHODS}


def evaluate(folder, samples, out, restored):
    answers = out.with_suffix(".jsonl")
    lines = [{"sample_id": s.sample_id, "degradation": s.degradation.as_dict()} for s in samples]
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = ["reward.prior=gaussian", "reward.restorer=closed_form", "world.size=48", f"restored={restored}"]
    return duvlm.main(["run", "evaluate", f"corpus={folder}", f"policy={answers}", f"out={out}", *settings])


def decibels(picture, clean):
    return -10 * np.log10(np.mean((picture.astype(float) / 255 - clean.astype(float) / 255) ** 2))


@pytest.mark.engine
def test_pictures_of_two_methods_stand_in_the_tables_with_ranks(ray_cluster, folder, samples, pictures, tmp_path):
    out = tmp_path / "out"
    assert evaluate(folder, samples, out, ",".join(f"{name}:{place}" for name, place in pictures.items())) == 0
    summary = json.loads((out / "summary.json").read_text())
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    kinds = [sample.degradation.type for sample in samples]
    for name, method in METHODS.items():
        made = [method(sample.degraded) for sample in samples]
        psnr = np.array([decibels(picture, sample.clean) for picture, sample in zip(made, samples, strict=True)])
        assert summary["restoration"]["all"][name]["psnr"] == pytest.approx(psnr.mean(), abs=1e-4)
        for kind in set(kinds):
            mine = psnr[[k == kind for k in kinds]]
            assert summary["restoration"][kind][name]["psnr"] == pytest.approx(mine.mean(), abs=1e-4)
        rng = np.random.default_rng(0)
        draws = [psnr[rng.integers(len(psnr), size=len(psnr))].mean() for _ in range(1000)]
        interval = summary["restoration"]["all"][name]["psnr_interval"]
        assert interval == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=1e-4)
        assert [line["psnr"][name] for line in lines] == pytest.approx(psnr, abs=1e-3)
        scores = [no_reference.score("niqe_local", picture.astype(np.float32) / 255) for picture in made]
        assert summary["no_reference"]["all"][name]["niqe_local"] == pytest.approx(np.mean(scores), rel=1e-4)
        behind = np.array([line["psnr"]["after"] for line in lines]) - psnr
        assert summary["ranks"][name]["psnr"]["behind_after"][0] == pytest.approx(behind.mean(), abs=1e-3)
    ranked = list(summary["ranks"])
    assert set(ranked) == {"blind", "after", "classical, after", "sharp", "smooth"}
    table = np.array([[line["psnr"][name] for name in ranked] for line in lines])
    for column, name in enumerate(ranked):
        better, same = table > table[:, [column]], table == table[:, [column]]
        places = 1 + better.sum(1) + (same.sum(1) - 1) / 2
        assert summary["ranks"][name]["psnr"]["rank"][0] == pytest.approx(places.mean(), abs=0.3)  # 3 decimals tie more
    page = (out / "report.html").read_text()
    assert "sharp, " in page  # its pictures in the strips
    assert (out / "pictures" / f"{samples[0].sample_id} smooth.png").is_file()
    assert "smooth" in (out / "tables" / "ranks.csv").read_text()


@pytest.mark.parametrize("fault", ["a missing picture", "another size"])
def test_pictures_that_do_not_fit_the_samples_are_refused(folder, samples, pictures, tmp_path, capsys, fault):
    place = tmp_path / "pictures"
    place.mkdir()
    names = samples.sample_ids()
    for name in names[1:] if fault == "a missing picture" else names:
        Image.new("RGB", (48, 50)).save(place / f"{name}.png")
    assert evaluate(folder, samples, tmp_path / "out", f"theirs:{place}") == 2
    expected = f"1 of {len(names)} are missing" if fault == "a missing picture" else "expected 48 x 48 px"
    assert expected in capsys.readouterr().err


def test_scores_of_photographs_are_told_by_folder_before_and_after():
    blur = read_degradation(TAXONOMY.degradation("blur", {"sigma": 2.0}))
    answers = [Answered("", one) for one in (blur, Reading(reason="unknown_type"), blur, Reading(reason="no_answer"))]
    before = [Quality(None, None, {"piqe": value}) for value in (10.0, 20.0, 30.0, 40.0)]
    after = [Quality(None, None, {"piqe": value}) for value in (8.0, 20.0, 24.0)] + [Quality(None, None, {})]
    qualities = {"not restored": before, "restored": after}
    found = photographs.summarise(["night", "night", "haze", "haze"], answers, qualities)
    assert list(found) == ["haze", "night", "all"]
    assert found["night"]["types"] == {"blur": 1, "other": 1}
    assert found["haze"]["types"] == {"blur": 1, "no answer": 1}
    assert found["night"]["scores"]["piqe"]["not restored"][0] == 15
    assert found["night"]["scores"]["piqe"]["difference"] == pytest.approx([-1, -2, 0])
    assert found["haze"]["scores"]["piqe"]["restored"][0] == 24  # the pair that has both
    assert found["all"]["samples"] == 4
    shown = photographs.table({"folders": found})
    assert list(shown.cells["samples"]) == ["2", "2", "4"]
    assert "15.00 -> 14.00, -1.00" in shown.cells.iloc[1, 3]


@pytest.mark.parametrize("beside", ["corpus=somewhere", "endpoint=http://127.0.0.1:1/v1", "policy=answers.jsonl"])
def test_photographs_without_truth_are_read_by_a_policy_alone(tmp_path, capsys, beside):
    assert duvlm.main(["run", "evaluate", f"photos={tmp_path}", beside, f"out={tmp_path / 'out'}"]) == 2
    assert "no corpus=, endpoint=" in capsys.readouterr().err


@pytest.mark.engine
@pytest.mark.slow  # a rollout engine, then a reward pool
def test_photographs_in_folders_are_read_restored_and_scored(tmp_path, samples):
    for number, sample in enumerate(samples[:4]):
        place = tmp_path / "photos" / ("first", "second")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample.degraded).resize((128, 128)).save(place / f"{number}.png")
    out = tmp_path / "out"
    assert duvlm.main(["run", "evaluate", f"photos={tmp_path / 'photos'}", f"out={out}"]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert {name: cell["samples"] for name, cell in summary["folders"].items()} == {"first": 2, "second": 2, "all": 4}
    assert sum(summary["folders"]["all"]["types"].values()) == 4
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    mean = np.mean([line["scores"]["restored"]["niqe_local"] for line in lines])
    assert summary["folders"]["all"]["scores"]["niqe_local"]["restored"][0] == pytest.approx(mean)
    assert "as it was | restored" in (out / "report.html").read_text()
    assert (out / "tables" / "photographs.csv").is_file()
