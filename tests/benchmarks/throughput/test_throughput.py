"""What the benchmarks of the reward engine compute, without engines; one of them runs, small, with them."""

import asyncio
import json

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.throughput.reward import scaling
from benchmarks.throughput.reward.fidelity import fidelity
from benchmarks.throughput.reward.recording import read
from benchmarks.throughput.reward.scaling import LAWS, draw, makespan
from benchmarks.throughput.soak import fitted
from configs import UserError, load


def test_equal_rewards_keep_the_whole_signal():
    found = fidelity([[-1, -2, -3], [-3, -1, -2]], [[-10, -20, -30], [-3, -1, -2]], ["blur", "haze"])
    assert (found["groups"], found["spearman"], found["sign_agreement"], found["regret"]) == (2, 1, 1, 0)


def test_a_reversed_ranking_is_reported_by_type_with_its_regret():
    found = fidelity([[-1, -2, -3], [-1, -2, -3]], [[-3, -2, -1], [-1, -2, -3]], ["blur", "haze"])
    assert (found["spearman_blur"], found["spearman_haze"], found["spearman"]) == (-1, 1, 0)
    assert found["regret"] == pytest.approx(1)  # one group of two loses 2


def test_groups_without_three_different_rewards_have_no_ranking_to_lose():
    tied = [[-1, -1, -1 - 1e-8, -1 + 1e-8], [-1, -1, -2, -2]]
    assert fidelity(tied, tied, ["blur", "blur"]) == {"groups": 0}


def test_a_constant_reward_ranks_nothing():
    assert fidelity([[-1, -2, -3]], [[-1, -1, -1]], ["blur"])["spearman"] == 0


@pytest.mark.parametrize("law", LAWS)
def test_service_times_have_the_mean_they_are_asked_for(law):
    times = draw(law, 1000, 0.5, np.random.default_rng(0))
    assert times[times > 0].mean() == pytest.approx(0.5)
    assert (times == 0).sum() == (300 if law == "gated" else 0)


def test_a_pull_queue_ends_before_chunks_and_round_robin():
    times = draw("gated", 32 * 24, 0.5, np.random.default_rng(0))
    ends = {way: makespan(times, 32, way) for way in ("pull", "chunks", "round_robin")}
    assert times.sum() / 32 <= ends["pull"] < min(ends["chunks"], ends["round_robin"])
    assert makespan([3, 1, 1, 1], 2, "pull") == 3
    assert makespan([3, 1, 1, 1], 2, "chunks") == 4


def test_a_recording_that_is_too_short_is_refused(tmp_path):
    file = tmp_path / "recorded.jsonl"
    file.write_text(json.dumps({"sample_id": "a", "texts": ["x", "y"], "corpus": "c0"}) + "\n")
    assert read(file, 1, 2, "c0", {"a"})[0].texts == ("x", "y")
    with pytest.raises(UserError, match="fewer than 2 prompts x 2 completions"):
        read(file, 2, 2, "c0", {"a"})
    for line in ("{}", "[]", '{"sample_id": "a", "texts": ["x"]}'):
        file.write_text(f"{line}\n")
        with pytest.raises(UserError, match="expected a line {sample_id, texts, corpus} per prompt"):
            read(file, 1, 1, "c0", {"a"})


@pytest.mark.parametrize(("corpus", "ids"), [("c1", {"a"}), ("c0", {"b"})])
def test_a_recording_of_other_pictures_is_refused(tmp_path, corpus, ids):
    """Every corpus has a sample of that id."""
    file = tmp_path / "recorded.jsonl"
    file.write_text(json.dumps({"sample_id": "a", "texts": ["x", "y"], "corpus": corpus}) + "\n")
    with pytest.raises(UserError, match="expected answers to samples of this split of the corpus c0, got a of"):
        read(file, 1, 2, "c0", ids)


class Waiting:
    """A pool whose actors take turns as a perfect pull queue has it, and no time for anything else."""

    def __init__(self, *_, **__):
        self.actors = 1

    async def start(self):
        pass

    async def resize(self, actors):
        self.actors = actors

    def stats(self):
        return self

    async def close(self):
        pass


def test_an_ideal_pool_is_no_better_than_ideal(monkeypatch):
    """Though the gate answers 29 % of 24 draws and 30 % of 96."""

    async def time_queries(pool, times, name):
        return times.sum() / pool.actors

    monkeypatch.setattr(scaling, "RewardPool", Waiting)
    monkeypatch.setattr(scaling, "time_queries", time_queries)
    rows = asyncio.run(scaling._measure(load("evaluate"), [1, 2, 4, 8], 24, 0.5))
    assert [row["efficiency"] for row in rows] == pytest.approx([1.0] * len(rows))


def test_the_rise_of_memory_is_that_of_the_last_two_thirds():
    seconds = list(range(31))
    line = fitted(seconds, [100 * s if s < 10 else 1000 + s for s in seconds])
    assert line["rise"] == pytest.approx(20)


def test_a_benchmark_without_its_corpus_says_so(capsys):
    for name in ("reward", "engine", "soak"):
        assert main([name]) == 2
        assert "expected corpus=FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pipeline", "--steps", "3"], "expected at least 4"),
        (["corpus", "count=100"], "expected more than 100"),
        (["scaling", "--json", "/nowhere/figures.json"], "/nowhere/figures.json: expected a file to write to"),
        (["scaling", "--json", "."], "expected a file to write to"),
        (["reward", "corpus=/nowhere", "--recorded", "/nowhere/recorded.jsonl"], "expected a file to write to"),
    ],
)
def test_what_could_not_be_finished_is_not_begun(arguments, words, capsys):
    assert main(arguments) == 2
    assert words in capsys.readouterr().err


def test_settings_may_follow_flags_and_what_is_neither_is_refused(capsys):
    assert main(["soak", "corpus=/nowhere", "--minutes", "1", "reward.actors=0"]) == 2
    assert "reward.actors" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["soak", "--minutes", "1", "--hours=2", "corpus=/nowhere"])
    assert "unrecognized arguments: --hours=2" in capsys.readouterr().err


@pytest.mark.engine
def test_the_pool_scales_to_four_actors_and_writes_its_figures(tmp_path, ray_cluster):
    file = tmp_path / "scaling.json"
    assert main(["scaling", "--most", "4", "--queries", "6", "--seconds", "0.2", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert len(rows) == 3 * len(LAWS)
    assert all(0.3 < row["efficiency"] < 1.3 for row in rows)  # one after the other it would be .25
