"""Studies are put together from finished cells, and a cell that is finished is not run again."""

import json
import sys

import numpy as np
import pytest
from corpora import written

import duvlm
from benchmarks.ablate import report, results, run, studies, training
from benchmarks.ablate.results import read_terms
from benchmarks.ablate.studies import FIGURE7, STUDIES, TABLE4, TABLE5, Cell
from benchmarks.quality.analysis import posteriors
from benchmarks.quality.sources.predictions import Answered
from configs import load
from configs.schema import Config, World
from envs.corpus.reader import read_samples
from envs.language.answer import write
from envs.language.posterior import Posterior
from envs.language.reading import read_text
from envs.metrics import measure
from envs.world import world_taxonomy
from learner.logging.trace import Trace

TAXONOMY = world_taxonomy(World())
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of 24 test samples."""
    return written(tmp_path_factory.mktemp("corpus"), 240)


@pytest.fixture(scope="module")
def samples(folder):
    return read_samples(folder, "test", TAXONOMY)


def scaled(truth, factor, taxonomy=TAXONOMY):
    """The truth with every number but a scale multiplied, as far as its key goes."""
    keys = {key.name: key for key in taxonomy[truth.type].keys}
    values = {
        name: value if name == "scale" else keys[name].snap(value * factor) for name, value in truth.values
    }
    return taxonomy.degradation(truth.type, values)


def finish(cell_folder, samples, factor=1.0, psnr=20.0, wrong=0, seconds=60.0, taxonomy=TAXONOMY):
    """What a cell leaves whose answers are the truth times `factor`, the first `wrong` of them missing; its posteriors
    lie half on the answer and half on the lowest value."""
    evaluation, truths = cell_folder / "evaluate", samples.degradations()
    evaluation.mkdir(parents=True)
    texts = [write(scaled(truth, factor, taxonomy), taxonomy) for truth in truths]
    texts[:wrong] = ["nothing"] * wrong
    answers = []
    for text in texts:
        reading, beliefs = read_text(text, taxonomy), []
        for name, value in reading.degradation.values if reading.degradation else ():
            grid = list(taxonomy.keys[name].grid())
            density = np.zeros(len(grid), np.float32)
            density[0] += 0.5
            density[grid.index(value)] += 0.5
            beliefs.append(Posterior(name, 0, 1.0, density))
        answers.append(Answered(text, reading, tuple(beliefs)))
    ids = samples.sample_ids()
    lines = [
        {"sample_id": name, "after": {"given": text}, "psnr": {"after": psnr + number}}
        for number, (name, text) in enumerate(zip(ids, texts, strict=True))
    ]
    (evaluation / "answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    posteriors.write(evaluation, ids, truths, answers, taxonomy)
    (cell_folder / "train").mkdir()
    (cell_folder / "train" / "metrics.jsonl").write_text(json.dumps({"step": 1, "step_seconds": seconds}) + "\n")
    (evaluation / "summary.json").write_text("{}")


@pytest.fixture
def finished(folder, samples, tmp_path):
    """A whole Table 5: structured is nearest the truth, naive loses answers."""
    finish(tmp_path / "warm_start", samples, 1.3)
    for seed in SEEDS:
        finish(tmp_path / "structured" / f"seed-{seed}", samples, 1.1 + 0.01 * seed, psnr=22 + seed)
        finish(tmp_path / "sft" / f"seed-{seed}", samples, 1.2, psnr=21)
        finish(tmp_path / "naive" / f"seed-{seed}", samples, 1.2, psnr=21.5, wrong=6)
    return tmp_path


def ablate(out, folder, *arguments):
    settings = ["study=table5", f"corpus={folder}", f"out={out}", "steps=7", "world.size=48"]
    return duvlm.main(["run", "ablate", *settings, *arguments])


def _connected() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def test_a_finished_study_is_tabled_again_without_training_or_an_engine(finished, folder, samples, capsys):
    before = _connected()
    assert ablate(finished, folder) == 0
    assert _connected() is before
    summary = json.loads((finished / "summary.json").read_text())
    assert {name: found["seeds"] for name, found in summary["variants"].items()} == {
        "warm_start": [None], "structured": [0, 1, 2], "sft": [0, 1, 2], "naive": [0, 1, 2],
    }  # fmt: skip
    truths = samples.degradations()
    by_seed = [measure(truths, [scaled(t, 1.1 + 0.01 * s) for t in truths], TAXONOMY, resamples=0) for s in SEEDS]
    structured = summary["variants"]["structured"]
    assert structured["by_seed"]["p_rel"] == pytest.approx([found.p_rel for found in by_seed])
    assert structured["by_seed"]["p_abs"] == pytest.approx([found.p_abs for found in by_seed])
    assert structured["measures"]["p_rel"][0] == pytest.approx(np.mean([found.p_rel for found in by_seed]))
    assert structured["measures"]["psnr"][0] == pytest.approx(23 + (len(truths) - 1) / 2)
    assert structured["seconds"] == [60.0] * 3
    assert summary["variants"]["naive"]["measures"]["j_acc"][0] == pytest.approx(1 - 6 / len(truths))
    printed = capsys.readouterr().out
    assert (finished / "table.md").read_text().strip() in printed
    assert "0.991, 0.105, 24.32" in printed
    assert (finished / "table.csv").read_text().startswith("variant,measure,value,low,high,seeds,paper\n")
    assert (finished / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_hard_for_everyone_cancels_in_a_difference(finished, folder):
    ablate(finished, folder)
    found = json.loads((finished / "summary.json").read_text())["differences"]
    gain, low, high = found["structured - sft"]["measures"]["psnr"]
    assert gain == pytest.approx(2)
    assert 1 - 1e-9 <= low < gain < high <= 3 + 1e-9  # the three seeds gain 1, 2 and 3 dB on every sample alike
    assert found["naive - warm_start"]["measures"]["psnr"] == pytest.approx([1.5, 1.5, 1.5])
    assert found["structured - warm_start"]["measures"]["p_rel"][2] < 0
    assert found["naive - warm_start"]["measures"]["j_acc"][2] <= 0
    assert set(found) == {
        "structured - warm_start", "sft - warm_start", "naive - warm_start", "structured - sft", "naive - sft",
        "structured - naive",
    }  # fmt: skip


def test_only_the_cells_that_are_missing_are_run(finished, folder, samples, monkeypatch):
    ran = []

    def run_cell(config, study, cell, out, corpus):
        ran.append((cell.variant, cell.seed))
        finish(cell.folder(out), samples)

    monkeypatch.setattr(run, "run_cell", run_cell)
    monkeypatch.setattr(run.cluster, "prepare", lambda config, name: None)
    (finished / "sft" / "seed-1").rename(finished / "kept")
    assert ablate(finished, folder) == 0
    assert ran == [("sft", 1)]
    ran.clear()
    monkeypatch.setattr(studies, "SEEDS", 1)
    assert ablate(finished, folder, "seed=3") == 0  # one more seed, beside those that are there
    assert ran == [("structured", 3), ("sft", 3), ("naive", 3)]
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["variants"]["naive"]["seeds"] == [0, 1, 2, 3]


def test_with_resume_false_no_cell_is_left_for_the_start_after_an_interrupted_one(finished, folder, monkeypatch):
    """Interrupted in the first cell: what the next start finds must not be the policies of the old settings."""
    ablate(finished, folder)
    for name in ("train/summary.json", "train/policy/config.json", "timing/summary.json", "steps.json"):
        file = finished / "sft" / "seed-1" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"steps": 7}')
    (finished / "naive" / "seed-2" / "evaluate" / "summary.json").unlink()  # a cell that was not finished

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_cell", interrupted)
    monkeypatch.setattr(run.cluster, "prepare", lambda config, name: None)
    assert ablate(finished, folder, "steps=8", "resume=false") == 130
    left = [file for variant in TABLE5.variants for file in (finished / variant.name).rglob("*") if file.is_file()]
    assert left == []
    assert len(list(finished.glob("discarded-*/naive/seed-2/evaluate/answers.jsonl"))) == 1  # nothing is deleted
    assert ablate(finished, folder, "steps=8") == 130  # it goes on with the new settings
    assert ablate(finished, folder) == 2  # and not with the old ones


def test_cells_of_other_settings_do_not_share_a_table(finished, folder, capsys):
    ablate(finished, folder)
    assert ablate(finished, folder, "steps=8") == 2
    assert "other settings (steps)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "words"),
    [("study=table6", "table4, table5"), ("steps=0", "at least 1"), ("world.size=64", "images of 48 px")],
)
def test_a_study_that_cannot_be_is_refused(folder, tmp_path, capsys, setting, words):
    assert ablate(tmp_path / "out", folder, setting) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_sampled_number_has_the_expected_error_of_its_posterior(samples, tmp_path):
    finish(tmp_path, samples)  # half the mass is right, half on the lowest value
    terms = read_terms(tmp_path / "evaluate", samples.degradations(), TAXONOMY)
    sigma = TAXONOMY["blur"].key("sigma")
    expected = [
        0.5 * (t["sigma"] - sigma.low) / t["sigma"] if t.type == "blur" else np.nan for t in samples.degradations()
    ]
    np.testing.assert_allclose(terms["sigma.p_rel_sampled"], expected, rtol=1e-6)
    np.testing.assert_array_equal(terms["sigma.p_rel"][np.isfinite(expected)], 0)


def test_an_interval_over_seeds_is_as_wide_as_the_seeds_are_apart():
    """One measure, the same in all samples of a seed: only the seeds spread."""
    columns = [results.resampled({"psnr": np.full(10, value)}) for value in (20.0, 20.0, 26.0)]
    value, low, high = results.over_seeds(columns)["psnr"]
    assert value == pytest.approx(22)
    assert low == pytest.approx(20)
    assert high > 24 - 1e-9
    apart = results.differences(columns, columns)["psnr"]
    assert apart == pytest.approx((0, 0, 0))


def test_the_answers_of_a_coarse_grid_are_measured_against_the_fine_truth(folder, samples, tmp_path):
    world = World(step_scale=10)
    seen = training.regridded(folder, world, tmp_path / "corpus-10")
    coarse = read_samples(seen, "test", world_taxonomy(world))
    np.testing.assert_array_equal(coarse[0].degraded, samples[0].degraded)
    finish(tmp_path / "cell", coarse, taxonomy=world_taxonomy(world))
    terms = read_terms(tmp_path / "cell" / "evaluate", samples.degradations(), world_taxonomy(world))
    sigma = terms["sigma.p_abs"][np.isfinite(terms["sigma.p_abs"])]
    assert 0 < sigma.max() <= 0.05 + 1e-9  # half a step
    assert training.regridded(folder, World(), tmp_path / "corpus-1") == folder


def test_the_wall_time_of_a_training_is_that_of_its_steps(tmp_path):
    trace = Trace(tmp_path / "trace.json")
    for number, name in enumerate(["sft step", "something else", "sft step"]):
        trace.span("learner", "all ranks", name, 100.0 + 50 * number, 1.5)
    trace.close()
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "seconds": 1.2}\n{"step": 2, "seconds": 1.2}\n')
    assert training.trained_seconds(tmp_path) == pytest.approx(3.0)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "step_seconds": 9.0}\n{"step": 2, "step_seconds": 8.0}\n')
    assert training.trained_seconds(tmp_path) == pytest.approx(17.0)


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_changes_settings_that_exist(name):
    for variant in STUDIES[name].variants:
        changed = studies.settings(load("ablate"), variant)
        assert all(key.split(".")[0] in ("world", "learner", "reward") for key in variant.settings)
        assert changed.learner.smooth * changed.world.step_scale in (0, studies.WIDTH)
    found = studies.cells(STUDIES[name], range(4, 6))
    assert len(found) == len(set(found))
    assert {cell.seed for cell in found} - {None} == {4, 5}


def test_a_row_of_the_paper_stands_beside_the_same_training_only():
    """Its ablation is of RL-trained policies, ours of SFT alone; its `SFT only` is what RL begins with."""
    assert not any(variant.paper for variant in TABLE4.variants)
    assert [row["p_rel"] for row in TABLE4.paper.values()] == [0.105, 0.110, 0.122, 0.207]
    assert {v.name: v.paper["psnr"] for v in TABLE5.variants if v.paper} == {
        "warm_start": 22.15, "structured": 24.32, "naive": 22.89,
    }  # fmt: skip
    assert [studies.settings(Config(), v).world.step_scale for v in FIGURE7.variants] == [1, 5, 10]


def test_a_table_can_be_written_when_one_cell_is_there(samples, tmp_path):
    finish(tmp_path, samples)
    found = {Cell("structured", 0): read_terms(tmp_path / "evaluate", samples.degradations(), TAXONOMY)}
    about = {"samples": len(samples), "split": "test", "steps": 1, "decoding": "median"}
    summary = results.summarise(TABLE5, found, {Cell("structured", 0): 1.0}, about)
    report.write(tmp_path, TABLE5, summary)
    assert summary["differences"] == {}
    assert "structured RL" in report.markdown(TABLE5, summary)


@pytest.mark.engine
@pytest.mark.slow  # ten starts of engines and ranks, one after the other
@pytest.mark.timeout(1800)
def test_table_5_is_drawn_by_real_trainings_and_goes_on_where_it_stopped(tmp_path, monkeypatch):
    import ray

    monkeypatch.setattr(studies, "SEEDS", 1)
    out, small = tmp_path / "out", ["grpo.prompts=2", "rollout.group_size=4", "learner.batch=8", "limit=4"]
    assert duvlm.main(["run", "corpus", "world=paper", "count=80", f"out={tmp_path / 'corpus'}"]) == 0
    command = ["run", "ablate", "study=table5", f"corpus={tmp_path / 'corpus'}", f"out={out}", "steps=2", *small]
    try:
        assert duvlm.main(command) == 0
        first = json.loads((out / "summary.json").read_text())
        (out / "naive" / "seed-0" / "evaluate" / "summary.json").unlink()
        trained = {file: file.stat().st_mtime_ns for file in out.rglob("metrics.jsonl")}
        assert duvlm.main(command) == 0
    finally:
        ray.shutdown()
    assert {file: file.stat().st_mtime_ns for file in out.rglob("metrics.jsonl")} == trained
    second = json.loads((out / "summary.json").read_text())
    assert second["variants"] == first["variants"]  # the same policy, greedily asked, answers the same
    assert list(second["variants"]) == ["warm_start", "structured", "sft", "naive"]
    structured, sft = (second["variants"][name]["seconds"][0] for name in ("structured", "sft"))
    steps = json.loads((out / "sft" / "seed-0" / "steps.json").read_text())
    assert steps["seconds"] == structured
    assert abs(steps["steps"] * steps["seconds_a_step"] - structured) <= steps["seconds_a_step"] / 2 + 1e-6
    assert sft > 0
    assert second["variants"]["warm_start"]["measures"]["t_acc"][0] > 0.5  # the shipped policy
    assert set(second["differences"]) >= {"structured - warm_start", "structured - sft", "structured - naive"}
