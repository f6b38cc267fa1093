"""Answers made by anyone are scored through the command line, without an engine."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpora import written

import duvlm
from benchmarks.quality.report import tables
from benchmarks.quality.report.pictures import words
from benchmarks.quality.report.report import write_report
from configs.schema import Config, Reward, World
from envs.corpus import build, generate
from envs.corpus.card import make_card
from envs.corpus.reader import read_card, read_samples
from envs.corpus.shards import as_table
from envs.degradations import physics
from envs.world import world_taxonomy
from reward_actors.restoration.running_batch import to_uint8
from reward_actors.scoring.scorer import psnr

TAXONOMY = world_taxonomy(World())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of 12 test samples."""
    return written(tmp_path_factory.mktemp("corpus"), 120)


@pytest.fixture(scope="module")
def samples(folder):
    return read_samples(folder, "test", TAXONOMY)


def evaluate(folder, tmp_path, lines, *settings) -> tuple[int, dict]:
    """(exit status, summary.json) of the command line for predictions given as lines."""
    predictions, out = tmp_path / "answers.jsonl", tmp_path / "out"
    rows = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    predictions.write_bytes(b"\n".join(rows))
    arguments = [f"corpus={folder}", "split=test", f"policy={predictions}", f"out={out}", *settings]
    status = duvlm.main(["run", "evaluate", *arguments])
    summary = out / "summary.json"
    return status, json.loads(summary.read_text()) if summary.exists() else {}


def test_perfect_answers_score_perfectly_as_text_and_as_objects(folder, samples, tmp_path):
    from envs.language.answer import write

    lines = [
        {"sample_id": s.sample_id, "text": write(s.degradation, TAXONOMY)}
        if number % 2
        else {"sample_id": s.sample_id, "degradation": s.degradation.as_dict()}
        for number, s in enumerate(samples)
    ]
    status, summary = evaluate(folder, tmp_path, lines)
    assert status == 0
    assert [summary[name] for name in ("t_acc", "t_f1", "j_acc", "p_abs", "p_rel")] == [1, 1, 1, 0, 0]
    assert set(summary["keys"]) == set(TAXONOMY.keys)
    assert all(key["p_rel"] == 0 for key in summary["keys"].values())


def test_missing_null_and_garbled_answers_are_no_answers(folder, samples, tmp_path):
    ids = samples.sample_ids()
    garbled = [{"sample_id": ids[0], "degradation": None}, {"sample_id": ids[1], "text": "x" * 100_000}]
    status, summary = evaluate(folder, tmp_path, garbled)
    assert status == 0
    assert (summary["t_acc"], summary["p_rel"]) == (0, 1)
    assert summary["invalid"] == {"missing": len(ids) - 2, "no_answer": 1, "too_long": 1}


def test_the_error_of_a_key_is_the_one_made(folder, samples, tmp_path):
    lines = []
    for sample in samples:
        answer = sample.degradation.as_dict()
        if answer["type"] == "blur":
            answer["values"]["sigma"] += 0.5
        lines.append({"sample_id": sample.sample_id, "degradation": answer})
    _, summary = evaluate(folder, tmp_path, lines)
    assert summary["keys"]["sigma"]["p_abs"] == pytest.approx(0.5)
    assert summary["p_abs"] == pytest.approx(0.5 / len(summary["keys"]))
    assert summary["j_acc"] == 1


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"sample_id": "test-9999999", "text": ""}, "unknown sample_id 'test-9999999'"),
        ({"text": "[T-blur]"}, "expected"),
        ({"sample_id": "test-0000000"}, "neither text nor degradation"),
        (b"{not json", "not JSON"),
        (bytes(range(128, 256)), "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_and_nothing_is_written(folder, tmp_path, capsys, line, words):
    status, summary = evaluate(folder, tmp_path, [{"sample_id": "test-0000001", "text": ""}, line])
    assert status == 2
    assert not summary
    assert "line 2" in (error := capsys.readouterr().err)
    assert words in error


def test_answers_are_scored_without_torch_or_ray(folder, tmp_path):
    (tmp_path / "answers.jsonl").write_text("")
    arguments = [f"corpus={folder}", f"policy={tmp_path / 'answers.jsonl'}", f"out={tmp_path / 'out'}"]
    program = (
        f"import duvlm, sys; status = duvlm.main(['run', 'evaluate', *{arguments!r}]);"
        "loaded = {'torch', 'ray', 'vllm', 'deepspeed', 'diffusers'} & set(sys.modules);"
        "sys.exit(f'{status} {loaded}' if status or loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(duvlm.__file__).parent)


@pytest.mark.parametrize("prior", ["/nowhere", "/nowhere/adm.pt"])
def test_a_prior_that_is_not_there_is_told_before_any_answer_is_sampled(folder, tmp_path, capsys, prior):
    loaded = {name for name in ("torch", "ray") if name in sys.modules}
    out = tmp_path / "out"
    assert duvlm.main(["run", "evaluate", f"corpus={folder}", f"reward.prior={prior}", f"out={out}"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"duvlm: reward.prior={prior}: expected")
    assert "rollout engine" not in said.out  # the plan, which is printed before an engine starts
    assert {name for name in ("torch", "ray") if name in sys.modules} == loaded
    assert not out.exists()


def test_an_answer_given_twice_is_refused(folder, tmp_path, capsys):
    assert evaluate(folder, tmp_path, [{"sample_id": "test-0000000", "text": ""}] * 2)[0] == 2
    assert "twice" in capsys.readouterr().err


def test_a_corpus_of_another_taxonomy_is_refused(folder, tmp_path, capsys):
    assert evaluate(folder, tmp_path, [], "world.step_scale=10")[0] == 2
    assert "taxonomy" in capsys.readouterr().err


def test_the_report_needs_nothing_from_outside(folder, tmp_path):
    evaluate(folder, tmp_path, [])
    page = (tmp_path / "out" / "report.html").read_text()
    assert "T-Acc" in page
    assert "<svg" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)
    assert "@import" not in page


def test_every_table_and_figure_has_its_numbers_beside_it(folder, tmp_path):
    evaluate(folder, tmp_path, [])
    out = tmp_path / "out"
    drawn = {file.stem for file in (out / "figures").glob("*.svg")}
    assert drawn == {"radar", "confusion", "keys", "values"}
    assert drawn == {file.stem for file in (out / "figures").glob("*.csv")}
    page = (out / "report.html").read_text()
    named = set(re.findall(r"data: ((?:tables|figures)/\w+\.csv)", page))
    assert named == {str(file.relative_to(out)) for file in out.glob("*/*.csv")}
    assert 'href="#bounds"' in page


@pytest.mark.engine
def test_restorations_fill_the_tables_and_figures_of_the_paper(ray_cluster, folder, samples, tmp_path):
    """The whole evaluation of perfect answers, restored by a reward pool."""
    from benchmarks.quality import columns, output
    from benchmarks.quality.analysis import bias
    from benchmarks.quality.restorations import restore
    from benchmarks.quality.sources.predictions import Answered
    from benchmarks.quality.summary import summarise
    from envs.language.reading import read_degradation

    config = Config(corpus=str(folder), reward=Reward(prior="gaussian", restorer="closed_form"), world=World(size=48))
    truths = samples.degradations()
    answers = {"after": [Answered(truth.as_dict(), read_degradation(truth)) for truth in truths]}
    tasks = columns.columns_of(truths, {"after": truths})
    moved = bias.tasks(truths, sorted(columns.first_of_each(truths, 1)), TAXONOMY)
    made = restore(config, samples, [*(p for column in tasks.values() for p in enumerate(column)), *moved.values()])
    qualities = {name: [made[pair] for pair in enumerate(column)] for name, column in tasks.items()}
    rows = bias.rows({place: made[pair] for place, pair in moved.items()})
    summary = summarise(config, truths, answers, qualities, rows, TAXONOMY)
    output.write(tmp_path, summary, samples, answers, qualities, TAXONOMY)
    page = write_report(tmp_path).read_text()
    for title in ("Table 1", "Table 2", "Table 3", "Figures 6, 10, 11", "What no-reference scores prefer"):
        assert title in page, title
    means = summary["restoration"]["all"]
    assert means["after"] == means["true parameters"]
    assert means["not restored"]["psnr"] == pytest.approx(np.mean([psnr(s.degraded, s.clean) for s in samples]))
    methods = [physics(s.degradation.type).restore_classically for s in samples]
    made = [to_uint8(method(s.degraded, s.degradation)) for method, s in zip(methods, samples, strict=True)]
    expected = [psnr(picture, s.clean) for picture, s in zip(made, samples, strict=True)]
    assert [quality.psnr for quality in qualities["classical, true parameters"]] == pytest.approx(expected)
    for kind in ("all", "haze", "low_light", "low_resolution"):
        cells = summary["restoration"][kind]
        assert cells["true parameters"]["psnr"] > cells["not restored"]["psnr"], kind
    low, high = means["true parameters"]["psnr_interval"]
    assert low < means["true parameters"]["psnr"] < high
    assert summary["no_reference"]["all"]["clean"]["samples"] == len(samples)  # all of them
    assert "clean" not in means
    assert summary["tolerance"]["sigma"]["psnr"]["pearson"] is None  # perfect answers have no error
    assert summary["bias"]["psnr"]["gamma"]["optimum"] == 1
    assert {"tolerance_psnr", "tolerance_ssim", "bias"} <= {f.stem for f in (tmp_path / "figures").glob("*.csv")}
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_the_report_draws_the_curves_of_every_job(tmp_path):
    (tmp_path / "sft").mkdir()
    lines = [{"step": step, "loss": 1 / (step + 1), "seconds": {"busy": step % 3}} for step in range(30)]
    (tmp_path / "sft" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = write_report(tmp_path).read_text()
    assert "Training: sft, 29 steps" in page
    assert "seconds/busy" in page


def test_an_answer_is_put_into_words():
    degradation = TAXONOMY.degradation("blur", {"sigma": 3.2})
    assert words(degradation.as_dict()).endswith("blur degradation: sigma 3.20 px.")
    assert words(None) == "no valid answer"


def test_the_restorers_are_measured_beside_every_classical_method(folder, tmp_path, capsys):
    from benchmarks.__main__ import main

    settings = [f"corpus={folder}", "limit=4", "reward.prior=gaussian"]
    assert main(["quality", *settings, "--json", str(tmp_path / "figures.json")]) == 0
    types = json.loads((tmp_path / "figures.json").read_text())["types"]
    assert set(types["low_resolution"]["classical"]) == {"bicubic", "pseudo-inverse"}
    assert set(types["low_light"]["classical"]) == {"TV in the interval", "interval midpoint"}
    for kind, found in types.items():
        best = found["classical"][found["best_classical"]]
        average = found["restorers"]["average"]
        assert average["gain"][0] == pytest.approx(average["psnr"] - best), kind
        assert found["classical"][found["best_classical"]] == max(found["classical"].values())
    assert types["haze"]["restorers"]["closed_form"]["gain"][0] == pytest.approx(0, abs=0.01)  # the haze formula
    assert types["haze"]["meets_bar"]
    assert "seconds" in capsys.readouterr().out


def test_a_difference_within_the_noise_is_called_so():
    gains = {"j_acc": [0.1, -0.1, 0.3], "p_rel": [0.0, -0.1, 0.1]}
    summary = {"samples": 9, "before": {}, "differences": gains}
    assert "exceeds the noise" in tables.verdict(summary)
    summary["differences"]["p_rel"] = [-0.1, -0.2, -0.05]
    assert "P-Rel -0.100" in tables.verdict(summary)
    assert "J-Acc: within the noise" in tables.verdict(summary)


@pytest.mark.engine
def test_a_policy_is_evaluated_beside_the_truth(tmp_path):
    """A policy with random weights knows nothing: its pictures stay as they are, the truth restores them."""
    from envs.world import write_world
    from learner.policy.tiny import build_tiny_policy

    recipe, _ = build.plan(Config(count=40))
    rows = [generate.row(recipe, "test", index) for index in range(4)]
    pq.write_table(as_table(rows, World()), tmp_path / "test-00000-of-00001.parquet")
    (tmp_path / "corpus.json").write_text(json.dumps(make_card(recipe, {})))
    policy = build_tiny_policy(tmp_path / "policy", TAXONOMY, World().size)
    write_world(policy, World())
    arguments = [f"corpus={tmp_path}", f"policy={policy}", "reward.prior=gaussian", f"out={tmp_path / 'out'}"]
    assert duvlm.main(["run", "evaluate", *arguments]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    columns = summary["restoration"]["all"]
    assert columns["true parameters"]["psnr"] > columns["not restored"]["psnr"]
    if summary["invalid"].get("no_answer") == 4:
        assert columns["after"] == columns["not restored"]
    assert columns["classical, true parameters"]["psnr"] > columns["not restored"]["psnr"]
    assert all(cell["optimum"] == 1 for cell in summary["bias"]["psnr"].values() if cell["optimum"])
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == 4 * 6


def test_predictions_is_another_name_of_policy_and_the_size_is_that_of_the_corpus(folder, samples, tmp_path):
    lines = [{"sample_id": s.sample_id, "degradation": s.degradation.as_dict()} for s in samples]
    (tmp_path / "other.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert read_card(folder)["size"] != World().size
    status, summary = evaluate(folder, tmp_path, [], f"predictions={tmp_path / 'other.jsonl'}")
    assert (status, summary["j_acc"]) == (0, 1)
    restored = tmp_path / "restored"
    restored.mkdir()
    status, _ = evaluate(folder, tmp_path, lines, f"restored={restored}", "reward.prior=nowhere")
    assert status == 2  # for want of a prior, not of the size
