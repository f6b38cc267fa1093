"""`compare` joins evaluations of the same samples; every number is computed again here, by other means."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from corpora import written

import duvlm
from benchmarks.quality.analysis import no_network
from benchmarks.quality.report import paper
from configs.schema import World
from envs.corpus.generate import degrade
from envs.corpus.reader import read_samples
from envs.language.answer import write
from envs.world import world_taxonomy

TAXONOMY = world_taxonomy(World())
KINDS = [kind.name for kind in TAXONOMY.types]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A corpus of 40 training and 24 test samples of 48 px."""
    return written(tmp_path_factory.mktemp("corpus"), 240, train=40)


@pytest.fixture(scope="module")
def samples(folder):
    return read_samples(folder, "test", TAXONOMY)


def scaled(truth, factor):
    keys = {key.name: key for key in TAXONOMY[truth.type].keys}
    values = {n: v if keys[n].is_class else keys[n].snap(v * factor) for n, v in truth.values}
    return TAXONOMY.degradation(truth.type, values)


def another(truth):
    """The next type, in the middle of its ranges."""
    kind = TAXONOMY[KINDS[(KINDS.index(truth.type) + 1) % len(KINDS)]]
    return TAXONOMY.degradation(kind.name, {key.name: key.snap((key.low + key.high) / 2) for key in kind.keys})


def answers_of(name, samples):
    """Three models: a near one; one that errs by types, forgets some samples and names what is no type; a constant."""
    lines = []
    for number, (sample_id, truth) in enumerate(zip(samples.sample_ids(), samples.degradations(), strict=True)):
        line = {"sample_id": sample_id}
        if name == "near":
            line["text"] = write(scaled(truth, 1.1), TAXONOMY)
        elif name == "rough":
            line["text"] = write(another(truth) if number % 4 == 0 else scaled(truth, 1.3), TAXONOMY)
            if number % 4 == 1:
                line["text"] = "[T-fog][K-density][V-0.50]"
            if number % 8 == 2:
                continue
        else:
            highest = {key.name: key.high for key in TAXONOMY[KINDS[0]].keys}
            line["degradation"] = {"type": KINDS[0], "values": highest}
        lines.append(line)
    return lines


@pytest.fixture(scope="module")
def evaluations(folder, samples, tmp_path_factory):
    """{name: folder of a finished evaluation} of three models."""
    out = tmp_path_factory.mktemp("evaluations")
    for name in ("near", "rough", "constant"):
        file = out / f"{name}.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in answers_of(name, samples)))
        settings = [f"corpus={folder}", f"policy={file}", f"out={out / name / 'evaluate'}"]
        assert duvlm.main(["run", "evaluate", *settings]) == 0
    return {name: out / name / "evaluate" for name in ("near", "rough", "constant")}


def compare(evaluations, out, *settings):
    scores = ",".join(map(str, evaluations.values()))
    return duvlm.main(["run", "compare", f"scores={scores}", f"out={out}", *settings])


@pytest.fixture(scope="module")
def compared(evaluations, folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    assert compare(evaluations, out, f"corpus={folder}") == 0
    return out, json.loads((out / "summary.json").read_text())


def by_hand(name, samples):
    """Type right, P-Rel and P-Abs of every sample, by plain arithmetic: {sample_id: (right, {key: (abs, rel)})}."""
    lines = {line["sample_id"]: line for line in answers_of(name, samples)}
    found = {}
    for number, (sample_id, truth) in enumerate(zip(samples.sample_ids(), samples.degradations(), strict=True)):
        if name == "near":
            answer = scaled(truth, 1.1)
        elif name == "rough":
            gone = sample_id not in lines or number % 4 == 1
            answer = None if gone else another(truth) if number % 4 == 0 else scaled(truth, 1.3)
        else:
            answer = TAXONOMY.degradation(KINDS[0], lines[sample_id]["degradation"]["values"])
        right = answer is not None and answer.type == truth.type
        errors = {}
        for key, value in truth.values:
            error = abs(answer[key] - value) if right else abs(value)
            errors[key] = (error, error / abs(value))
        found[sample_id] = (right, errors)
    return found


def means(found):
    """(J-Acc, {key: (P-Abs, P-Rel)}, P-Abs, P-Rel)."""
    table = {}
    for _, errors in found.values():
        for key, pair in errors.items():
            table.setdefault(key, []).append(pair)
    keys = {key: tuple(np.mean(pairs, axis=0)) for key, pairs in table.items()}
    return np.mean([right for right, _ in found.values()]), keys, *np.mean(list(keys.values()), axis=0)


def test_every_number_of_the_joint_table_is_that_of_plain_arithmetic(compared, samples):
    out, summary = compared
    assert summary["samples"] == len(samples) == 24
    for name in ("near", "rough", "constant"):
        j_acc, keys, p_abs, p_rel = means(by_hand(name, samples))
        column = summary["columns"][name]
        assert [column[m] for m in ("t_acc", "j_acc", "p_abs", "p_rel")] == pytest.approx([j_acc, j_acc, p_abs, p_rel])
        for key, (absolute, relative) in keys.items():
            assert (column["keys"][key]["p_abs"], column["keys"][key]["p_rel"]) == pytest.approx((absolute, relative))
    records = list(csv.DictReader((out / "tables" / "table1.csv").open()))
    assert {(r["column"], r["key"]): float(r["p_rel"]) for r in records if r["column"] == "near"} == {
        ("near", key): pytest.approx(pair[1]) for key, pair in means(by_hand("near", samples))[1].items()
    }
    zero = {}
    for truth in samples.degradations():
        for key, value in truth.values:
            zero.setdefault(key, []).append(abs(value))
    assert summary["zero_prediction"]["mean"] == pytest.approx(np.mean([np.mean(sizes) for sizes in zero.values()]))


def test_differences_are_of_pairs_of_samples_with_their_bootstrap(compared, samples):
    _, summary = compared
    near, rough = by_hand("near", samples), by_hand("rough", samples)
    gain, low, high = summary["differences"]["rough - near"]["p_rel"]
    assert gain == pytest.approx(means(rough)[3] - means(near)[3])
    rng, ids, draws = np.random.default_rng(0), samples.sample_ids(), []
    for _ in range(1000):
        picks = [ids[i] for i in rng.integers(len(ids), size=len(ids))]
        drawn = [means({n: column[i] for n, i in enumerate(picks)})[3] for column in (rough, near)]
        draws.append(drawn[0] - drawn[1])
    assert (low, high) == pytest.approx(np.percentile(draws, [2.5, 97.5]))
    assert set(summary["differences"]) >= {"rough - near", "constant - near", "constant - rough"}


def test_other_types_and_no_answers_are_columns_of_their_own(compared, samples):
    _, summary = compared
    table = summary["columns"]["rough"]["confusion"]
    rows = list(zip(range(len(samples)), samples.degradations(), strict=True))
    for kind in KINDS:
        mine = [number for number, truth in rows if truth.type == kind]
        assert table[kind]["other"] == sum(number % 4 == 1 for number in mine)
        assert table[kind]["no answer"] == sum(number % 8 == 2 for number in mine)
        assert sum(table[kind].values()) == len(mine)
    assert summary["columns"]["near"]["confusion"][KINDS[0]]["other"] == 0


def test_the_report_shows_every_figure_and_needs_nothing_from_outside(compared):
    out, summary = compared
    page = (out / "report.html").read_text()
    assert "src=\"http" not in page
    for name in ("radar", "confusion_near", "confusion_rough", "keys_constant", "keys_no_network_type_told"):
        assert (out / "figures" / f"{name}.svg").is_file()
        assert f"figures/{name}.csv" in page
    for model in paper.TABLE1:
        assert f"paper: {model}" in page
    radar = list(csv.DictReader((out / "figures" / "radar.csv").open()))
    assert {row["column"] for row in radar} == set(summary["columns"])


def test_the_paper_s_mean_runs_over_the_keys_that_are_there():
    """The issue's own numbers: on six keys .119 and .105 are .126 and .1095."""
    six = [key for key in paper.KEYS if key != "camera"]
    rows = paper.table1(six)
    assert len(rows) == 8
    assert rows["Qwen3VL-8B-SFT"]["mean"][1] == pytest.approx(0.126, abs=5e-4)
    assert rows["DU-VLM"]["mean"][1] == pytest.approx(0.1095, abs=5e-5)
    for model, text in paper.TABLE1.items():
        *cells, mean = [tuple(map(float, cell.split("/"))) for cell in text.split()]
        assert len(cells) == 7
        assert np.mean(cells, axis=0) == pytest.approx(mean, abs=0.002), model
        assert paper.table1(paper.KEYS)[model]["mean"] == pytest.approx(np.mean(cells, axis=0))


@pytest.mark.parametrize("fault", ["one", "nowhere", "unfinished", "other samples", "twice", "another corpus"])
def test_what_cannot_be_compared_is_refused(evaluations, folder, samples, tmp_path, capsys, fault):
    near, rough = evaluations["near"], evaluations["rough"]
    settings = []
    if fault == "one":
        given, words = {"a": near}, "two evaluations or more"
    elif fault == "nowhere":
        given, words = {"a": near, "b": tmp_path / "nothing"}, "expected a folder"
    elif fault == "unfinished":
        given, words = {"a": near, "b": tmp_path}, "no finished evaluation"
    elif fault == "other samples":
        shorter = tmp_path / "shorter"
        (tmp_path / "answers.jsonl").write_text("")
        few = ["limit=8", f"corpus={folder}", f"policy={tmp_path / 'answers.jsonl'}", f"out={shorter}"]
        assert duvlm.main(["run", "evaluate", *few]) == 0
        given, words = {"a": near, "b": shorter}, "different samples (8 and 24"
    elif fault == "twice":
        given, words = {"a": Path(f"same:{near}"), "b": Path(f"same:{rough}")}, "two are called 'same'"
    else:
        other = tmp_path / "other"
        other.mkdir()
        settings = [f"corpus={written(other, 80, train=20)}"]
        given, words = {"a": near, "b": rough}, "has no sample"
    assert compare(given, tmp_path / "out", *settings) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_evaluation_from_before_types_were_written_is_read_the_same(evaluations, compared, tmp_path):
    for name in ("near", "rough"):
        target = tmp_path / name
        target.mkdir()
        (target / "summary.json").write_text((evaluations[name] / "summary.json").read_text())
        rows = [json.loads(line) for line in (evaluations[name] / "answers.jsonl").read_text().splitlines()]
        for row in rows:
            del row["after"]["type"], row["after"]["keys_right"]
        (target / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert compare({name: tmp_path / name for name in ("near", "rough")}, tmp_path / "out") == 0
    again = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert again["columns"]["rough"] == compared[1]["columns"]["rough"]
    assert again["differences"]["rough - near"] == compared[1]["differences"]["rough - near"]


def test_without_a_network_the_spectrum_and_statistics_read_what_the_picture_shows(compared, samples, photo):
    """Told the type, it is better than a constant answer; sigma and scale are read closely."""
    column = compared[1]["columns"]["no network, type told"]
    assert column["j_acc"] == 1
    assert column["keys"]["scale"]["p_rel"] == 0
    assert column["keys"]["sigma"]["p_rel"] < 0.2
    kind = next(kind for kind in TAXONOMY.types if [key.name for key in kind.keys] == ["sigma"])
    key = kind.keys[0]
    assert no_network._is_diagonal(kind.name, key)
    grid = tuple(np.arange(1.0, 4.01, 0.05))
    gains = no_network._gains(kind.name, "sigma", grid, (128, 128))
    for sigma in (1.5, 3.0):
        blurred = degrade(photo, TAXONOMY.degradation(kind.name, {"sigma": sigma}))
        assert no_network.spectral_evidence(blurred, grid, gains) == pytest.approx(sigma, rel=0.1)
    scale = next(kind for kind in TAXONOMY.types if any(key.is_class for key in kind.keys))
    assert no_network.replication(degrade(photo, TAXONOMY.degradation(scale.name, {"scale": 4}))) == pytest.approx(4)
