"""Several degradations at once: a set with a physical order, in taxonomy, answers, physics, gate and measures."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.degradations import PHENOMENA, closed_form, degrade, project, quantise, sample
from envs.environment import OfflineEnvironment
from envs.language.answer import REASONS, Answer, Invalid, answer_tokens, parse, rationale, severities, write
from envs.language.reading import read_object, read_text
from envs.metrics import differences, measure
from envs.taxonomy import TAXONOMY, taxonomy, turns
from envs.types import Completion, Gated, Prompt, RewardQuery

torch.set_num_threads(1)
PAIRS, TRIPLES = taxonomy(composites=2), taxonomy(composites=3)
COMPOSITES = [kind.name for kind in TRIPLES.types if len(kind.parts) > 1]
SIZES = st.tuples(st.integers(24, 60), st.integers(24, 60))


def drawn(name, seed=0, world=TRIPLES, size=128):
    return sample(world, name, np.random.default_rng(seed), size)


def as_batch(photo, height=96, width=96):
    x = torch.tensor(photo).permute(2, 0, 1)[None].float() / 255
    return quantise(F.interpolate(x, size=(height, width), mode="area"))


@st.composite
def composites(draw):
    """Values over the whole ranges of the keys."""
    kind = TRIPLES[draw(st.sampled_from(COMPOSITES))]
    return TRIPLES.degradation(kind.name, {key.name: draw(st.floats(key.low, key.high)) for key in kind.keys})


# ---- taxonomy


def test_a_world_of_single_degradations_is_what_it_was():
    assert taxonomy(composites=1) == TAXONOMY
    assert TAXONOMY.fingerprint() == "991f7872ad2ce60f"  # that of the shipped weights
    assert turns(TAXONOMY) == TAXONOMY.types == TAXONOMY.singles
    assert TAXONOMY.most_parts == 1


def test_pairs_and_triples_are_all_there_once_in_physical_order():
    assert len(PAIRS.types) == 4 + 6
    assert len(TRIPLES.types) == 4 + 6 + 4
    assert PAIRS.singles == TRIPLES.singles == TAXONOMY.types
    for kind in TRIPLES.types:
        assert list(kind.parts) == sorted(set(kind.parts), key=lambda name: PHENOMENA[name].place)
        assert [key for key in kind.keys] == [key for part in kind.parts for key in TAXONOMY[part].keys]
    assert len({world.fingerprint() for world in (TAXONOMY, PAIRS, TRIPLES)}) == 3
    with pytest.raises(ValueError, match="1 .. 3"):
        taxonomy(composites=4)


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_composite_is_the_set_of_its_parts_however_it_is_named(name):
    truth = drawn(name)
    values = truth.as_dict()["values"]
    for order in permutations(truth.types):
        assert TRIPLES.degradation("+".join(order), values) == truth
    assert "+".join(part.type for part in truth.parts) == name
    assert tuple(pair for part in truth.parts for pair in part.values) == truth.values
    assert all(TAXONOMY.degradation(p.type, p.as_dict()["values"]) == p for p in truth.parts)


@pytest.mark.parametrize("world", [PAIRS, TRIPLES], ids=["pairs", "triples"])
def test_singles_and_composites_take_turns_and_none_comes_more_often_than_its_like(world):
    order = turns(world)
    assert [len(kind.parts) == 1 for kind in order] == [True, False] * (len(order) // 2)
    for several in (True, False):
        counts = Counter(kind.name for kind in order if (len(kind.parts) > 1) == several)
        assert len(set(counts.values())) == 1
    assert {kind.name for kind in order} == {kind.name for kind in world.types}


# ---- answers


@given(truth=composites(), data=st.data())
def test_an_answer_is_a_set_its_parts_may_come_in_any_order(truth, data):
    assert parse(write(truth, TRIPLES), TRIPLES) == Answer(truth, rationale(truth))
    parts = [write(part, TRIPLES, with_rationale=False) for part in truth.parts]
    shuffled = "".join(data.draw(st.permutations(parts)))
    assert parse(shuffled, TRIPLES) == Answer(truth)


def test_a_composite_is_written_part_by_part_with_the_severity_of_each():
    truth = PAIRS.degradation("haze+blur", {"atmospheric_light": 0.8, "transmission": 0.3, "sigma": 1})
    assert write(truth, PAIRS) == (
        "Severe haze and mild blur degradation."
        "[T-haze][K-atmospheric_light][V-0.80][K-transmission][V-0.30][T-blur][K-sigma][V-1.00]"
    )
    three = TRIPLES.degradation("haze+blur+low_light", {**truth.as_dict()["values"], "gamma": 2.7, "gain": 0.2})
    assert rationale(three) == "Severe haze, mild blur and moderate low-light degradation."
    assert {rationale(drawn(name, i)) for name in COMPOSITES for i in range(9)} <= set(severities(TRIPLES))


def test_composites_need_no_new_tokens():
    assert answer_tokens(TRIPLES) == answer_tokens(TAXONOMY)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[T-blur][K-sigma][V-2.00][T-blur][K-sigma][V-2.00]", "wrong_keys"),  # a set has no member twice
        ("[T-haze+blur][K-sigma][V-2.00]", "unknown_type"),
        ("[T-blur][K-sigma][V-2.00][T-fog]", "unknown_type"),
        ("[T-blur][K-sigma][V-2.00][T-low_resolution]", "wrong_keys"),
        ("[T-blur][K-scale][V-2][T-low_resolution][K-sigma][V-2.00]", "wrong_keys"),  # keys of the other part
        ("[T-blur][K-sigma][V-2.00][T-low_resolution][V-2]", "wrong_keys"),
        ("[T-blur][K-sigma][V-2.00][T-low_resolution][K-scale][V-9]", "out_of_range"),
        ("[T-blur][K-sigma][V-2.00] and [T-low_resolution][K-scale][V-2]", "trailing_text"),
    ],
)
def test_a_wrong_composite_is_told_why(text, reason):
    assert parse(text, PAIRS).reason == reason


def test_more_parts_than_the_world_has_at_once_are_too_many():
    text = write(drawn("haze+blur+low_light"), TRIPLES)
    assert isinstance(parse(text, TRIPLES), Answer)
    assert parse(text, PAIRS).reason == parse(text, TAXONOMY).reason == "wrong_keys"


@given(st.lists(st.sampled_from([*answer_tokens(TAXONOMY)[:11], "[V-2.00]", "[V-4]", "[V-0.500]"]), max_size=16))
def test_any_string_of_tokens_gives_a_set_or_a_reason(tokens):
    found = parse("".join(tokens), TRIPLES)
    if isinstance(found, Invalid):
        assert found.reason in REASONS
    else:
        assert parse(write(found.degradation, TRIPLES), TRIPLES).degradation == found.degradation


# ---- physics


@given(truth=composites(), size=SIZES)
def test_a_composite_is_its_parts_one_after_the_other_rounded_once(photo, truth, size):
    x = as_batch(photo, *size)
    exact = x
    for part in truth.parts:
        exact = PHENOMENA[part.type].degrade(exact, {k: torch.tensor([v]) for k, v in part.values})
    torch.testing.assert_close(degrade(x, [truth]), quantise(exact), atol=1e-6, rtol=0)


@settings(max_examples=40)
@given(truth=composites(), size=SIZES)
def test_every_value_of_every_composite_can_be_inverted(photo, truth, size):
    x = as_batch(photo, *size)
    y = degrade(x, [truth])
    restored = closed_form(y, [truth])
    assert restored.isfinite().all()
    assert restored.min() >= 0
    assert restored.max() <= 1
    for level in (1e-3, 1.0, 1e3):
        assert project(x.flip(-1), y, [truth], torch.tensor([level])).isfinite().all()


@pytest.mark.parametrize("name", COMPOSITES)
def test_the_nested_inverse_explains_the_picture_to_a_grey_level_and_leaves_the_truth_alone(photo, name):
    x = as_batch(photo)
    trust = torch.tensor([1e3])
    for seed in range(3):
        truth = drawn(name, seed, size=96)
        y = degrade(x, [truth])

        def misfit(picture, truth=truth, y=y):
            return ((degrade(picture, [truth]) - y) * 255).square().mean().sqrt()

        assert misfit(closed_form(y, [truth])) < 1.2
        assert misfit(project(closed_form(y, [truth]), y, [truth], trust)) < 0.8
        assert misfit(project(x.flip(-1), y, [truth], trust)) < 1.5
        moved = project(x, y, [truth], torch.tensor([1e-2])) - x
        assert moved.square().mean().sqrt() * 255 < 2


@pytest.mark.parametrize("name", COMPOSITES)
def test_at_true_values_the_closed_form_of_a_composite_beats_the_picture_and_either_part_alone(photo, name):
    x = as_batch(photo)
    errors = {key: 0.0 for key in ("picture", "whole", *name.split("+"))}
    for seed in range(3):
        truth = drawn(name, seed, size=96)
        y = degrade(x, [truth])
        errors["picture"] += float((y - x).square().mean())
        errors["whole"] += float((closed_form(y, [truth]) - x).square().mean())
        for part in truth.parts:
            errors[part.type] += float((closed_form(y, [part]) - x).square().mean())
    assert min(errors, key=errors.get) == "whole", errors


def test_a_mixed_batch_of_singles_and_composites_is_its_rows_one_by_one(photo):
    rows = [drawn(kind.name, i, size=64) for i, kind in enumerate((*TRIPLES.types, *TRIPLES.types[::-1]))]
    x = as_batch(photo, 64, 48).repeat(len(rows), 1, 1, 1) * torch.linspace(0.5, 1, len(rows)).reshape(-1, 1, 1, 1)
    levels = torch.linspace(0.01, 1, len(rows))
    y = degrade(x, rows)
    together = project(x.flip(-1), y, rows, levels), closed_form(y, rows)
    for i, row in enumerate(rows):
        one = slice(i, i + 1)
        torch.testing.assert_close(degrade(x[one], [row]), y[one], atol=1e-6, rtol=0)
        alone = project(x[one].flip(-1), y[one], [row], levels[one]), closed_form(y[one], [row])
        for found, wanted in zip(alone, together, strict=True):
            torch.testing.assert_close(found, wanted[one], atol=1e-4, rtol=0)


def test_blur_and_reduction_are_one_matrix_per_dimension(photo):
    """The projection onto both together agrees with a dense NumPy solution of the same weighted least squares."""
    truth = TRIPLES.degradation("blur+low_resolution", {"sigma": 1.2, "scale": 2})
    n = 24
    x = 0.25 + as_batch(photo, n, n) / 2
    y = degrade(x, [truth])
    impulses = torch.eye(n * n).reshape(n * n, 1, n, n).expand(-1, 3, -1, -1)
    blurred = PHENOMENA["blur"].degrade(impulses, {"sigma": torch.full((n * n,), 1.2)})[:, 0]
    small = F.interpolate(blurred[:, None], (n // 2, n // 2), mode="bicubic", antialias=True)
    operator = small.reshape(n * n, -1).T.double().numpy()
    seen = y[0, 0, ::2, ::2].reshape(-1).double().numpy()
    level = 1e-3  # a prior so sure that photographs' own spread plays no part: ridge regression
    start = x.flip(-1)
    ridge = operator.T @ np.linalg.inv(operator @ operator.T + (1 / (255 * 12**0.5) / level) ** 2 * np.eye(len(seen)))
    wanted = start[0, 0].reshape(-1).double().numpy()
    wanted = wanted + ridge @ (seen - operator @ wanted)
    found = project(start, y, [truth], torch.tensor([level]))[0, 0].reshape(-1)
    moved = np.abs(wanted - start[0, 0].reshape(-1).numpy()).max()
    assert np.abs(found.numpy() - wanted).max() < 0.02 * moved


# ---- gate and measures


def said(text):
    return Completion(text, (1,), (-0.1,))


def test_the_gate_asks_for_the_same_set():
    truth, prompt = drawn("haze+blur", world=PAIRS), Prompt("s", None)
    judge = OfflineEnvironment([prompt], {"s": truth}, PAIRS).judge
    reordered = "".join(write(part, PAIRS, with_rationale=False) for part in truth.parts[::-1])
    other = drawn("haze+blur", 1, PAIRS)
    assert judge(prompt, said(reordered)) == RewardQuery("s", None, truth)
    assert isinstance(judge(prompt, said(write(other, PAIRS))), RewardQuery)
    for wrong in ("haze", "blur", "haze+low_resolution"):
        assert judge(prompt, said(write(drawn(wrong, world=PAIRS), PAIRS))) == Gated("wrong_type", -1.0)
    single = OfflineEnvironment([prompt], {"s": truth.parts[1]}, PAIRS).judge
    assert single(prompt, said(write(truth, PAIRS))) == Gated("wrong_type", -1.0)


def hazy_blur(transmission, sigma):
    return PAIRS.degradation("haze+blur", {"atmospheric_light": 0.5, "transmission": transmission, "sigma": sigma})


def test_set_measures_and_errors_are_those_worked_out_by_hand():
    haze = PAIRS.degradation("haze", {"atmospheric_light": 0.5, "transmission": 0.4})
    blur = PAIRS.degradation("blur", {"sigma": 2.0})
    truths = [hazy_blur(0.5, 2.0), hazy_blur(0.5, 2.0), blur, hazy_blur(0.5, 4.0)]
    answers = [hazy_blur(0.5, 2.5), haze, hazy_blur(0.5, 2.0), None]
    found = measure(truths, answers, PAIRS)
    assert found.t_acc == found.j_acc == pytest.approx(1 / 4)
    assert found.set_precision == pytest.approx((1 + 1 + 1 / 2 + 0) / 4)
    assert found.set_recall == pytest.approx((1 + 1 / 2 + 1 + 0) / 4)
    assert found.set_f1 == pytest.approx((1 + 2 / 3 + 2 / 3 + 0) / 4)
    # sigma: .5; missing part; a single with a part too many is a wrong type; no answer
    assert found.keys["sigma"]["p_abs"] == pytest.approx((0.5 + 2 + 2 + 4) / 4)
    assert found.keys["sigma"]["samples"] == 4
    # transmission: exact; its part was answered, so .1 counts though the set is wrong; no answer
    assert found.keys["transmission"]["p_abs"] == pytest.approx((0 + 0.1 + 0.5) / 3)
    assert found.keys["transmission"]["p_rel"] == pytest.approx((0 + 0.2 + 1) / 3)
    assert found.keys["sigma"]["t_f1"] == pytest.approx(2 * 2 / (4 + 2))  # blur: 2 hits, 4 there, 2 said
    answered = {kind: count for kind, count in found.confusion["haze+blur"].items() if count}
    assert answered == {"haze+blur": 1, "haze": 1, "no answer": 1}
    assert set(found.intervals) >= {"set_precision", "set_recall", "set_f1", "sigma.p_rel"}
    assert differences(truths, answers, truths, PAIRS)["set_recall"][0] == pytest.approx(1 - 2.5 / 4)


def test_for_single_degradations_set_measures_are_type_accuracy():
    truths = [drawn(kind.name, world=TAXONOMY) for kind in TAXONOMY.types]
    found = measure(truths, [truths[0], truths[0], None, truths[3]], TAXONOMY)
    assert found.set_precision == found.set_recall == found.set_f1 == found.t_acc == 0.5


def test_what_can_be_read_of_a_faulty_composite_is_its_set_of_types():
    faulty = read_text("[T-blur][K-sigma][V-99][T-haze][K-atmospheric_light][V-0.80][K-transmission][V-0.30]", PAIRS)
    assert (faulty.type, faulty.keys_right, faulty.reason) == ("haze+blur", True, "out_of_range")
    short = read_text("[T-blur][K-sigma][V-2][T-haze][K-transmission][V-0.30]", PAIRS)
    assert (short.type, short.keys_right, short.reason) == ("haze+blur", False, "wrong_keys")
    both = read_text("[T-haze][K-atmospheric_light][K-transmission][T-blur]", PAIRS)  # no numbers, and no keys
    assert (both.type, both.keys_right, both.reason) == ("haze+blur", False, "wrong_keys")
    written = {"type": "blur+haze", "values": hazy_blur(0.5, 2).as_dict()["values"]}
    assert read_object(written, PAIRS).degradation == hazy_blur(0.5, 2)
    assert read_object({**written, "type": "blur+fog"}, PAIRS).reason == "unknown_type"
