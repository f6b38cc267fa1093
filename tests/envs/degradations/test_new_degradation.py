"""A new degradation is one new file: the rest of the code names no type, and takes what the file declares."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import envs.degradations as degradations
from configs.schema import Config, World
from envs.corpus import build
from envs.corpus.generate import degrade, generate_sample, row
from envs.corpus.reader import read_samples
from envs.corpus.verify import faults
from envs.environment import OfflineEnvironment
from envs.language.answer import Answer, answer_tokens, parse, write
from envs.language.grammar import json_grammar, token_grammar
from envs.language.reading import read_free_text
from envs.language.zero_shot import question
from envs.metrics import measure
from envs.taxonomy import TAXONOMY, taxonomy, turns
from envs.types import Completion, Gated, Prompt, RewardQuery
from reward_actors.priors.load import load_prior
from reward_actors.restoration.presets import RESTORERS
from reward_actors.restoration.running_batch import restore_batch, to_uint8
from reward_actors.scoring.scorer import psnr

ROOT = Path(degradations.__file__).parents[2]
TYPES = [*World().types, "fading"]
ROOMS = ("envs", "rollout", "reward_actors", "learner", "benchmarks", "service")


@pytest.fixture
def toy(monkeypatch):
    """The folder of a toy beside those of the package, read as the package reads its own."""
    monkeypatch.setattr(degradations, "__path__", [*degradations.__path__, str(Path(__file__).parent / "toy")])
    degradations.discover()
    yield degradations.PHENOMENA["fading"]
    del degradations.PHENOMENA["fading"], degradations.OWNERS["contrast"], sys.modules["envs.degradations.fading"]


def test_a_type_of_one_file_goes_the_whole_way(toy, photo, tmp_path):
    world, pairs = taxonomy(types=TYPES), taxonomy(types=TYPES, composites=2)
    assert [kind.name for kind in world.types] == [*(kind.name for kind in TAXONOMY.types), "fading"]
    assert world.fingerprint() != TAXONOMY.fingerprint()
    assert "fading+low_resolution" in pairs
    assert "fading" in {kind.name for kind in turns(pairs)}

    assert set(answer_tokens(world)) - set(answer_tokens(TAXONOMY)) >= {"[T-fading]", "[K-contrast]"}
    truth = world.degradation("fading", {"contrast": 0.35})
    text = write(truth, world)
    assert text == "Severe faded-print degradation.[T-fading][K-contrast][V-0.35]"
    assert parse(text, world) == Answer(truth, "Severe faded-print degradation.")
    assert parse(text, TAXONOMY).reason == "unknown_type"
    assert "value_contrast" in token_grammar(world, lambda token: len(token), True)
    assert "fading" in json_grammar(world)
    asked = question(world, ["image"])
    assert "- fading: y = contrast * x + (1 - contrast) / 2\n  - contrast: 0.20 to 0.90 in steps of 0.01" in asked
    assert read_free_text('{"type": "fading", "values": {"contrast": 0.35}}', world).degradation == truth

    prompt = Prompt("s", None)
    judge = OfflineEnvironment([prompt], {"s": truth}, world).judge
    assert judge(prompt, Completion(text, (1,), (-0.1,))) == RewardQuery("s", None, truth)
    blurred = world.degradation("blur", {"sigma": 2.0})
    assert judge(prompt, Completion(write(blurred, world), (1,), (-0.1,))) == Gated("wrong_type", -1.0)
    near = world.degradation("fading", {"contrast": 0.42})
    measured = measure([truth, blurred], [near, blurred], world, resamples=0)
    assert measured.keys["contrast"]["p_rel"] == pytest.approx(0.2)
    assert measured.confusion["fading"]["fading"] == 1

    recipe, skipped = build.plan(Config(count=60, size=48, world=World(types=TYPES)))
    drawn = generate_sample(recipe, "train", 4)
    assert drawn.degradation.type == row(recipe, "train", 4)["type"] == "fading"
    assert faults(photo, degrade(photo, truth), truth) == ()
    assert "fading_faint" in faults(photo, photo, truth)
    build.build(recipe, skipped, tmp_path / "corpus")
    samples = [s for s in read_samples(tmp_path / "corpus", "train", world) if s.degradation.type == "fading"]
    assert len(samples) >= 8

    for name in ("fast", "closed_form"):
        pictures = [[s.degraded for s in samples], [s.degradation for s in samples], [s.sample_id for s in samples]]
        restored = restore_batch(load_prior("gaussian", 48), RESTORERS[name], *pictures)
        for sample, picture in zip(samples, restored, strict=True):
            assert psnr(to_uint8(picture), sample.clean) > psnr(sample.degraded, sample.clean) + 5
    classical = degradations.physics("fading").restore_classically(samples[0].degraded, samples[0].degradation)
    np.testing.assert_allclose(classical, restored[0], atol=1e-6)


def test_a_name_or_a_key_belongs_to_one_phenomenon(toy):
    for clash in ({"name": "blur"}, {"name": "dust"}):
        with pytest.raises(ValueError, match="of its own"):
            degradations.register(type("Clash", (type(toy),), clash)())


def test_no_type_is_named_outside_its_file():
    """Prose may speak of blur; code that compares with it, or looks something up by it, belongs into its file."""
    names = set(degradations.PHENOMENA) - {"noise"}  # an ordinary word too: functions and a setting are called so
    found = []
    for file in (file for room in ROOMS for file in sorted((ROOT / room).rglob("*.py"))):
        if file.parent == Path(degradations.__file__).parent:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            literal = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            modules = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom | ast.Import) else []
            imported = [getattr(node, "module", None) or "", *modules]
            if set(literal.split("+")) & names or {part for name in imported for part in name.split(".")} & names:
                found.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not found


def test_declarations_are_complete_and_read_without_torch():
    code = "import sys, envs.taxonomy, envs.environment, envs.metrics; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "False"
    for phenomenon in degradations.PHENOMENA.values():
        declared = [key.name for key in phenomenon.keys]
        assert phenomenon.severity.key in declared
        assert phenomenon.formula
