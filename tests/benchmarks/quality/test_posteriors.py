"""What an evaluation says of the posteriors of its numbers."""

import json

import numpy as np
import pytest

from benchmarks.quality.analysis import posteriors
from benchmarks.quality.sources.predictions import Answered
from envs.language.posterior import Posterior
from envs.language.reading import Reading, read_degradation
from envs.taxonomy import TAXONOMY, taxonomy

SIGMA = TAXONOMY.keys["sigma"]
GRID = np.array(list(SIGMA.grid()))


def blur(sigma):
    return TAXONOMY.degradation("blur", {"sigma": sigma})


def believing(answer, centre, width):
    """An answer whose posterior is a Gaussian, cut to the range."""
    density = np.exp(-(((GRID - centre) / width) ** 2) / 2)
    belief = Posterior("sigma", 0, 0.99, (density / density.sum()).astype(np.float32))
    return Answered("", read_degradation(blur(answer)), (belief,))


@pytest.fixture(scope="module")
def drawn():
    """Truths scattered by .5 px around what the posteriors, of width .5, say; decoded a whole pixel too high."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(3, 8, 400)
    truths = [blur(centre + error) for centre, error in zip(centres, rng.normal(0, 0.5, 400), strict=True)]
    return truths, [believing(centre + 1, centre, 0.5) for centre in centres]


def test_intervals_of_calibrated_posteriors_hold_nine_of_ten_truths(drawn):
    found = posteriors.summarise(*drawn, TAXONOMY)
    share, low, high = found["coverage"]
    assert low <= 0.9 <= high
    assert found["numbers"] == 400
    losses = {temperature: scores["log_loss"] for temperature, scores in found["temperatures"].items()}
    assert min(losses, key=losses.get) in ("0.9", "1", "1.2")
    assert found["temperatures"]["0.5"]["coverage"] < share < found["temperatures"]["2"]["coverage"]
    assert found["keys"]["sigma"]["width"] == pytest.approx(2 * 1.645 * 0.5, abs=0.03)


def test_overconfident_posteriors_hold_fewer(drawn):
    truths, answers = drawn
    sharp = [believing(5, float(answer.posteriors[0].density @ GRID), 0.2) for answer in answers]
    found = posteriors.summarise(truths, sharp, TAXONOMY)
    assert found["coverage"][0] < 0.6
    assert min(found["temperatures"], key=lambda t: found["temperatures"][t]["log_loss"]) == "2"


def test_readings_of_the_posterior_are_compared_with_the_answers_as_decoded(drawn):
    found = posteriors.summarise(*drawn, TAXONOMY)
    assert found["p_rel"]["mean"] == pytest.approx(found["p_rel"]["median"], abs=1e-3)
    assert found["p_rel"]["median"] < found["p_rel"]["decoded"] - 0.05
    gain, low, high = found["gain"]["median - decoded"]
    assert low < gain < high < 0


def test_a_wrong_type_counts_against_every_reading_but_not_against_the_intervals():
    truths = [TAXONOMY.degradation("low_resolution", {"scale": 2}), blur(2.0)]
    found = posteriors.summarise(truths, [believing(2, 2, 0.1), believing(2, 2, 0.1)], TAXONOMY)
    assert found["p_rel"]["mean"] == pytest.approx(0.5)
    assert found["numbers"] == 1


def test_answers_without_posteriors_have_no_such_part():
    assert posteriors.summarise([blur(2)], [Answered("", read_degradation(blur(2)))], TAXONOMY) == {}


def test_the_files_hold_a_line_and_a_density_for_each_number(tmp_path):
    world = taxonomy(transmission_grid=2)
    key = world.keys["transmission"]
    truth = world.degradation("haze", {"atmospheric_light": 0.5, "transmission": [[0.1, 0.2], [0.3, 0.4]]})

    def sure(name, index, value):
        density = np.zeros(world.keys[name].bins, np.float32)
        density[list(world.keys[name].grid()).index(value)] = 1
        return Posterior(name, index, 1.0, density)

    beliefs = [sure("transmission", index, value) for index, value in enumerate((0.1, 0.2, 0.3, 0.9))]
    beliefs.insert(0, sure("atmospheric_light", 0, 0.5))
    answer = Answered("", read_degradation(truth), tuple(beliefs))
    posteriors.write(tmp_path, ["s"], [truth], [answer], world)
    lines = [json.loads(line) for line in (tmp_path / "posteriors.jsonl").read_text().splitlines()]
    assert [(line["key"], line["index"], line["truth"], line["mean"]) for line in lines[1:]] == [
        ("transmission", 0, 0.1, 0.1),
        ("transmission", 1, 0.2, 0.2),
        ("transmission", 2, 0.3, 0.3),
        ("transmission", 3, 0.4, 0.9),
    ]
    assert np.load(tmp_path / "posteriors.npz")["transmission"].shape == (4, key.bins)
    read = posteriors.reread(answer, posteriors.ESTIMATORS["mean"], world)
    assert read.degradation["transmission"] == ((0.1, 0.2), (0.3, 0.9))


def test_numbers_that_the_type_does_not_have_have_no_truth():
    """`[T-blur][K-gamma]...`: the right type with a foreign key, or with a number too many."""
    density = np.ones(SIGMA.bins, np.float32) / SIGMA.bins
    gamma = TAXONOMY.keys["gamma"]
    beliefs = (
        Posterior("gamma", 0, 0.9, np.ones(gamma.bins, np.float32) / gamma.bins),
        Posterior("sigma", 0, 0.9, density),
        Posterior("sigma", 1, 0.9, density),
    )
    answers = [Answered("", Reading("blur", reason="wrong_keys"), beliefs)]
    assert [row["truth"] for row in posteriors.rows(["a"], [blur(2.0)], answers, TAXONOMY)] == [None, 2.0, None]
    assert posteriors.summarise([blur(2.0)], answers, TAXONOMY)["numbers"] == 1
