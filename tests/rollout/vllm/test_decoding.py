"""How a number is chosen from logits."""

import types

import pytest
import torch
from vllm import SamplingParams

from configs.schema import Rollout, World
from envs.language.posterior import Posterior
from envs.language.vocabulary import AnswerTokens, Place
from envs.taxonomy import TAXONOMY
from envs.world import write_world
from rollout.vllm.logits_processors import MeanDecoding, MedianDecoding, median, nearest_to_mean
from rollout.vllm.sampling import answer_temperature

FAR, GREEDY = -20.0, SamplingParams(temperature=0.0)


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """(folder with tokenizer and world, tokenizer)."""
    from learner.policy.tiny import build_tokenizer

    folder, tokenizer = tmp_path_factory.mktemp("policy"), build_tokenizer(TAXONOMY)
    tokenizer.save_pretrained(folder)
    write_world(folder, World())
    return folder, tokenizer


def chosen(policy, kind, written: str, likely: dict[str, float]) -> str:
    """The token that a decoding leaves after the text `written`."""
    folder, tokenizer = policy
    model = types.SimpleNamespace(model=str(folder), tokenizer=str(folder))
    decoding = kind(types.SimpleNamespace(model_config=model), torch.device("cpu"), False)
    assert decoding.new_req_logits_processor(SamplingParams(temperature=0.7)) is None  # a drawn answer stays as drawn
    logits = torch.full((len(tokenizer),), FAR)
    for token, probability in likely.items():
        logits[tokenizer.convert_tokens_to_ids(token)] = torch.tensor(probability).log()
    tokens = tokenizer.encode(written, add_special_tokens=False)
    return tokenizer.convert_ids_to_tokens(int(decoding.new_req_logits_processor(GREEDY)(tokens, logits).argmax()))


SIGMA = "Mild blur degradation.[T-blur][K-sigma]"
LOPSIDED = {"[V-1.00]": 0.4, "[V-2.00]": 0.3, "[V-6.00]": 0.3}


def test_median_and_mean_of_a_lopsided_posterior(policy):
    assert chosen(policy, MedianDecoding, SIGMA, LOPSIDED) == "[V-2.00]"
    assert chosen(policy, MeanDecoding, SIGMA, LOPSIDED) == "[V-2.80]"


def test_what_leaks_into_values_of_other_keys_does_not_count(policy):
    written = "Severe haze degradation.[T-haze][K-atmospheric_light][V-0.70][K-transmission]"
    likely = {"[V-0.20]": 0.35, "[V-0.30]": 0.25, "[V-12.00]": 0.4 - 1e-3, "[V-0.40]": 1e-3}
    assert chosen(policy, MeanDecoding, written, likely) == "[V-12.00]"  # likeliest, so not this key's turn
    likely |= {"[V-12.00]": 0.3}
    assert chosen(policy, MeanDecoding, written, likely) == "[V-0.24]"
    assert chosen(policy, MedianDecoding, written, likely) == "[V-0.20]"


@pytest.mark.parametrize("kind", [MedianDecoding, MeanDecoding])
def test_integers_and_words_are_no_densities(policy, kind):
    written = "Mild low-resolution degradation.[T-low_resolution][K-scale]"
    assert chosen(policy, kind, written, {"[V-2]": 0.4, "[V-4]": 0.3, "[V-8]": 0.3}) == "[V-2]"
    assert chosen(policy, kind, SIGMA[:-9], {"[K-sigma]": 0.6, "[V-1.00]": 0.4}) == "[K-sigma]"


@pytest.mark.parametrize("kind", [MedianDecoding, MeanDecoding])
def test_of_the_severities_the_median_is_written(policy, kind):
    assert chosen(policy, kind, "", {"Mild": 0.4, "Moderate": 0.3, "Severe": 0.3}) == "Moderate"


def test_what_a_grammar_ruled_out_stays_ruled_out(policy):
    ruled_out = {token: probability if token != "[V-6.00]" else 0.0 for token, probability in LOPSIDED.items()}
    assert chosen(policy, MeanDecoding, SIGMA, ruled_out) == "[V-1.43]"


def test_one_bin_with_all_the_mass_is_chosen():
    sure = torch.tensor([0.0, 0.0, 1.0])
    assert median(sure) == nearest_to_mean(sure, torch.tensor([1.0, 2.0, 3.0])) == 2


def test_the_places_of_numbers_and_their_posteriors(policy):
    tokens = AnswerTokens.of(policy[1], TAXONOMY)
    text = "Severe haze degradation.[T-haze][K-atmospheric_light][V-0.70][K-transmission][V-0.40]"
    places = list(tokens.places(policy[1].encode(text, add_special_tokens=False)))
    assert [(place.key, place.index) for place in places] == [("atmospheric_light", 0), ("transmission", 0)]
    low, high = (policy[1].convert_tokens_to_ids(token) for token in ("[V-0.40]", "[V-0.50]"))
    seen = [(0.75, listed({low: 0.9})), (0.25, listed({low: 0.4, high: 0.4}))]
    found = tokens.posterior(Place(8, "transmission", 0), seen)
    assert isinstance(found, Posterior)
    assert found.mass == pytest.approx(0.875)
    grid = list(TAXONOMY.keys["transmission"].grid())
    assert found.density[grid.index(0.4)] == pytest.approx(0.775 / 0.875)
    assert found.density[grid.index(0.5)] == pytest.approx(0.1 / 0.875)


def test_a_severity_without_a_chance_is_no_opening(policy):
    tokens = AnswerTokens.of(policy[1], TAXONOMY)
    mild, moderate, severe = (word[0] for word in tokens.severities)
    openings = tokens.openings(listed({mild: 0.6, moderate: 0.2, severe: 1e-5}))
    assert [start for _, start in openings] == list(tokens.severities[:2])
    assert [weight for weight, _ in openings] == pytest.approx([0.75, 0.25])
    assert tokens.opening([severe, mild]) == len(tokens.severities[2])
    assert tokens.opening([0, mild]) == tokens.opening([]) == 0


def listed(probabilities):
    """As vLLM lists the log-probs of a position."""
    return {
        token: types.SimpleNamespace(logprob=float(torch.tensor(p).log())) for token, p in probabilities.items()
    }


def test_a_tokenizer_without_answer_tokens_has_no_places(tmp_path):
    from envs.taxonomy import Taxonomy
    from learner.policy.tiny import build_tokenizer

    assert list(AnswerTokens.of(build_tokenizer(Taxonomy(())), TAXONOMY).places([1, 2, 3])) == []


def test_answers_are_greedy_unless_they_are_to_be_drawn():
    greedy = [answer_temperature(Rollout(decoding=name, temperature=0.7)) for name in ("argmax", "median", "mean")]
    assert greedy == [0.0, 0.0, 0.0]
    assert answer_temperature(Rollout(decoding="sample", temperature=0.7)) == 0.7
