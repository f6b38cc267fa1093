import pytest
import torch

from envs.taxonomy import TAXONOMY
from learner.policy.targets import AnswerLanguage, sft_loss, target_logprobs


@pytest.fixture(scope="module")
def tokenizer(policy_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(policy_folder)


def answer(type_name, **values):
    return TAXONOMY.degradation(type_name, values)


def test_a_completion_is_the_written_answer_and_the_end_of_turn(tokenizer):
    ids = AnswerLanguage(tokenizer, TAXONOMY).completion(answer("blur", sigma=2.5))
    assert tokenizer.decode(ids) == "Moderate blur degradation.[T-blur][K-sigma][V-2.50]<|im_end|>"


def test_without_rationale_only_tokens_of_the_answer_language_are_left(tokenizer):
    ids = AnswerLanguage(tokenizer, TAXONOMY, rationale=False).completion(answer("low_resolution", scale=3))
    assert tokenizer.convert_ids_to_tokens(ids) == ["[T-low_resolution]", "[K-scale]", "[V-3]", "<|im_end|>"]


def test_the_plain_loss_is_cross_entropy_summed_over_completion_tokens(tokenizer):
    language = AnswerLanguage(tokenizer, TAXONOMY)
    completions = [
        language.completion(answer("blur", sigma=1.0)),
        language.completion(answer("low_resolution", scale=2)),
    ]
    width = max(map(len, completions))
    logits = torch.randn(2, width, len(tokenizer), generator=torch.Generator().manual_seed(0))
    expected = sum(
        torch.nn.functional.cross_entropy(logits[row, : len(c)], torch.tensor(c), reduction="sum")
        for row, c in enumerate(completions)
    )
    targets = language.targets(completions)
    assert sft_loss(*target_logprobs(logits, targets.ids), targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_smoothing_spreads_a_value_over_neighbours_of_its_own_key(tokenizer):
    language = AnswerLanguage(tokenizer, TAXONOMY, smooth=1.0)
    completion = language.completion(answer("haze", atmospheric_light=0.3, transmission=0.5))
    targets = language.targets([completion])
    tokens = tokenizer.convert_ids_to_tokens(completion)
    for position, token in enumerate(tokens):
        weights, ids = targets.weights[0, position], targets.ids[0, position]
        likely = {
            tokenizer.convert_ids_to_tokens(int(i)): float(w) for i, w in zip(ids, weights, strict=True) if w
        }
        assert sum(likely.values()) == pytest.approx(1, abs=1e-5)
        assert max(likely, key=likely.get) == token
        if not token.startswith("[V-"):
            assert likely == {token: 1.0}
    lowest = targets.ids[0, tokens.index("[V-0.30]")], targets.weights[0, tokens.index("[V-0.30]")]
    names = [tokenizer.convert_ids_to_tokens(int(i)) for i, w in zip(*lowest, strict=True) if w]
    assert names == ["[V-0.30]", "[V-0.31]", "[V-0.32]", "[V-0.33]"]  # the range ends at .30
    middle = targets.weights[0, tokens.index("[V-0.50]")]
    assert middle[4] / middle[3] == pytest.approx(torch.tensor(-0.5).exp().item(), rel=1e-4)


def test_padding_weighs_nothing(tokenizer):
    language = AnswerLanguage(tokenizer, TAXONOMY, smooth=0.5)
    targets = language.targets([[5, 6, 7], [5]])
    assert targets.weights.sum(-1).tolist() == [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
