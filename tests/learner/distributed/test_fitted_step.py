"""A step on fitted rewards, against the same objective written out in one plain process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_trainer import ReferenceTrainer

from configs.schema import Config
from envs.language.vocabulary import AnswerTokens
from envs.taxonomy import TAXONOMY
from learner.fitted.curve import fit
from learner.losses import Trajectory
from learner.policy.collator import Example

pytestmark = pytest.mark.usefixtures("alone")

BLURS = ((1.5,), (2.0,), (2.1,), (3.0,))
LIGHTS = ((2.0, 0.05), (2.2, 0.07), (2.2, 0.06), (2.6, 0.06))


def settings(**changes) -> Config:
    config = Config()
    config.world.size, config.learner.ranks, config.learner.warmup, config.grpo.kl = 64, 1, 1, 0.0
    config.grpo.estimator = "fitted"
    for name, value in changes.items():
        setattr(config.learner if hasattr(config.learner, name) else config.grpo, name, value)
    return config


def trainer(folder, **changes):
    from learner.distributed.trainer import Trainer

    return Trainer(Path(folder), settings(**changes), 8)


def group(kind, answers, image, language, seed=0):
    """Answers about one picture with advantages and their curve."""
    keys, rng = TAXONOMY[kind].keys, np.random.default_rng(seed)
    values = np.array(answers)
    worth = -(np.log(values / values.mean(0)) ** 2).sum(1)
    curve, found = fit(keys, values, 5 * worth + 3), []
    for row, advantage in zip(values.tolist(), worth, strict=True):
        answer = TAXONOMY.degradation(kind, dict(zip([key.name for key in keys], row, strict=True)))
        tokens = language.completion(answer)
        logprobs = tuple(rng.normal(-7, 0.3, len(tokens)).tolist())
        found.append(Trajectory(Example(image, tokens), logprobs, float(advantage), 0, curve))
    return found


def table(curve):
    """The worth of every point, written out."""
    return np.einsum("vr,ur->vu", *curve.factors)


def by_hand(reference: ReferenceTrainer, members: list[Trajectory], answers: AnswerTokens):
    """The loss of one group of an answer each: sums over the grid, written out."""
    logits = [reference.logits(reference.model, t.example) for t in members]
    places = [list(answers.places(t.example.completion)) for t in members]
    grids = [torch.tensor(answers.values[place.key]) for place in places[0]]
    rows = [
        [each.softmax(-1)[p.position][grid] for p, grid in zip(found, grids, strict=True)]
        for each, found in zip(logits, places, strict=True)
    ]
    drawn = [
        [answers.values[p.key].index(t.example.completion[p.position]) for p in found]
        for t, found in zip(members, places, strict=True)
    ]
    total = 0.0
    for t, each, found, row, index in zip(members, logits, places, rows, drawn, strict=True):
        tokens = torch.tensor(t.example.completion)
        logprobs = each.log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)
        weight = reference.weight(logprobs.detach(), torch.tensor(t.logprobs))
        losses = -weight * (logprobs - logprobs.detach()).exp() * t.advantage
        if len(found) == 1:
            worths = [torch.from_numpy(t.curve.factors[0][:, 0])]
        else:
            worth = torch.from_numpy(table(t.curve))
            firsts = sorted({i for i, _ in drawn})
            after = {i: [r[1].detach().numpy() for r, d in zip(rows, drawn, strict=True) if d[0] == i] for i in firsts}
            known = np.stack([np.mean(after[i], 0) for i in firsts])
            seconds = np.stack([np.interp(np.arange(len(grids[0])), firsts, column) for column in known.T], 1)
            worths = [torch.tensor((seconds * worth.numpy()).sum(1)), worth[index[0]]]
        for place, density, values in zip(found, row, worths, strict=True):
            losses[place.position] = -(density * values).sum()
        total = total + losses.mean()
    return total


@pytest.mark.parametrize(("kind", "answers"), [("blur", BLURS), ("low_light", LIGHTS)])
def test_a_step_is_the_objective_in_expectation(policy_folder, examples, language, kind, answers):
    members = group(kind, answers, examples[0].image, language)
    actor = trainer(policy_folder)
    reference = ReferenceTrainer(policy_folder, actor.config, 8)
    loss = by_hand(reference, members, actor.answer_tokens) / len(members)
    loss.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in reference.model.parameters() if p.grad is not None])
    metrics = actor.grpo_step(members)
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-4)
    assert metrics["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)


def test_the_cut_into_passes_and_pieces_changes_nothing(policy_folder, examples, language, monkeypatch):
    from learner.policy import model

    members = group("low_light", LIGHTS, examples[0].image, language)
    members += group("blur", BLURS, examples[1].image, language, seed=1)
    whole = trainer(policy_folder).grpo_step(members)
    monkeypatch.setattr(model, "MAX_LOGITS", 4000)
    cut = trainer(policy_folder, micro_tokens=200).grpo_step(members)
    assert cut["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert cut["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-4)


def test_without_curves_the_fitted_estimator_is_the_plain_one(policy_folder, examples, language):
    members = [replace(t, curve=None) for t in group("blur", BLURS, examples[0].image, language)]
    plain, fitted = (trainer(policy_folder, estimator=name).grpo_step(members) for name in ("plain", "fitted"))
    assert {**plain, "seconds": 0} == {**fitted, "seconds": 0}


def test_no_weight_of_a_fitted_number_depends_on_who_drew_it(policy_folder, examples, language):
    """Older weights drew it: the expectation is over the policy as it is. Other tokens keep their weights."""
    members = group("blur", BLURS, examples[0].image, language)
    actor = trainer(policy_folder)
    stale = [
        replace(t, logprobs=tuple(-1.0 if i in at else p for i, p in enumerate(t.logprobs)))
        for t in members
        for at in [{place.position for place in actor.answer_tokens.places(t.example.completion)}]
    ]
    assert stale != members
    first, second = actor.grpo_step(members)["loss"], trainer(policy_folder).grpo_step(stale)["loss"]
    assert second == pytest.approx(first, rel=1e-6)


@pytest.mark.parametrize("loss", ["dr_grpo", "gspo"])
def test_other_losses_and_several_passes_go_with_it(policy_folder, examples, language, loss):
    members = group("low_light", LIGHTS, examples[0].image, language)
    metrics = trainer(policy_folder, loss=loss, epochs=2).grpo_step(members)
    assert np.isfinite(metrics["loss"])
    assert metrics["grad_norm"] > 0
