"""Policies of any kind in the rollout engine: constrained by the grammar, read with posteriors, asked zero-shot."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from benchmarks.quality.sources import endpoint
from benchmarks.quality.sources import policy as policies
from configs import load
from envs.corpus.reader import read_samples
from envs.taxonomy import Taxonomy
from envs.types import Prompt, Sample
from envs.world import SHIPPED, world_taxonomy, write_world

CONFIG = load("evaluate", ["world=paper", "rollout.grammar=true", "rollout.decoding=mean", "rollout.kv_cache_gb=0.2"])
TAXONOMY = world_taxonomy(CONFIG.world)


class Samples(list):
    def sample_ids(self):
        return [sample.sample_id for sample in self]


@pytest.fixture(scope="module")
def samples():
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 255, (128, 128, 3), dtype=np.uint8) for _ in range(6)]
    return Samples(Sample(f"s{i}", "p", "test", seen) for i, seen in enumerate(pictures))


@pytest.mark.engine
@pytest.mark.slow
def test_a_policy_that_knows_nothing_answers_well_formed_under_the_grammar(ray_cluster, samples, tmp_path):
    import asyncio

    from envs.language.answer import Answer, parse
    from learner.policy.tiny import build_tiny_policy
    from rollout.pool import RolloutPool
    from rollout.vllm.prompting import answer_limit

    write_world(build_tiny_policy(tmp_path, TAXONOMY, CONFIG.world.size), CONFIG.world)
    prompts, pool = [Prompt(sample.sample_id, sample) for sample in samples], RolloutPool(CONFIG, tmp_path)

    async def sample():
        await pool.start()
        ways = {
            "free": {"n": 8, "temperature": 1.0},
            "sampled": {"n": 8, "temperature": 1.0, "grammar": True},
            "greedy": {"n": 1, "temperature": 0.0, "grammar": True, "posteriors": True},
        }
        try:
            limit = answer_limit(CONFIG, trained=True)
            found = {}
            for name, way in ways.items():
                groups = [group async for group in pool.sample(prompts, max_tokens=limit, **way)]
                found[name] = [made for group in groups for made in group.completions]
            return found
        finally:
            await pool.close()

    found = asyncio.run(sample())
    assert not any(isinstance(parse(made.text, TAXONOMY), Answer) for made in found["free"])
    for made in found["sampled"] + found["greedy"]:
        assert made.finished
        assert isinstance(parse(made.text, TAXONOMY), Answer), made.text
    assert len({made.text for made in found["sampled"]}) > 12


def _posteriors_are_those_of_the_learner(folder, sample, made):
    """p(number) = sum over severities of p(severity) p(number | severity), by one forward pass for each severity."""
    import torch

    from envs.language.vocabulary import NEGLIGIBLE, AnswerTokens
    from learner.policy.collator import Collator, Example
    from learner.policy.model import Policy, load_policy

    model, processor = load_policy(folder)
    collate = Collator(processor, model.model, CONFIG.world.views)
    tokens = AnswerTokens.of(processor.tokenizer, TAXONOMY)
    ids = processor.tokenizer.encode(made.given, add_special_tokens=False)
    length, logits = tokens.opening(ids), []
    with torch.no_grad():
        for word in tokens.severities:
            found = Policy(model)(collate([Example(sample.degraded, (*word, *ids[length:]))]))[0].softmax(-1)
            logits.append(found[len(word) :])
        weights = found[0, [word[0] for word in tokens.severities]]
    weights = torch.where(weights < NEGLIGIBLE * weights.max(), 0.0, weights)
    places = list(tokens.places(ids))
    assert len(places) == len(made.posteriors) > 0
    for place, belief in zip(places, made.posteriors, strict=True):
        at = [part[place.position - length, list(tokens.values[place.key])] for part in logits]
        density = sum(weight * part for weight, part in zip(weights, at, strict=True))
        assert np.abs((density / density.sum()).numpy() - belief.density).max() < 1e-4


@pytest.mark.engine
@pytest.mark.slow
def test_a_model_that_is_not_ours_is_asked_zero_shot_and_held_to_json(ray_cluster, samples, tmp_path):
    from learner.policy.tiny import build_tiny_policy

    build_tiny_policy(tmp_path, Taxonomy(()), CONFIG.world.size)  # a Qwen3-VL without answer tokens
    card = json.loads((tmp_path / "config.json").read_text())
    card["text_config"]["max_position_embeddings"] = 4096  # the zero-shot question is long
    (tmp_path / "config.json").write_text(json.dumps(card))
    source = policies.find(str(tmp_path), CONFIG)
    assert not source.trained
    answers = policies.ask(CONFIG, source, samples, TAXONOMY)
    for answer in answers.values():
        assert json.loads(answer.given)["type"] in TAXONOMY
        assert answer.reading.degradation is not None
        assert answer.posteriors == ()


@contextlib.contextmanager
def serving(folder, name):
    """The URL of vLLM's server on a policy folder, as docs/models.md shows it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {
        "--served-model-name": name,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": "float32",
        "--max-model-len": "256",
        "--limit-mm-per-prompt": '{"image": 4, "video": 0}',
        "--logits-processors": "rollout.vllm.logits_processors:MedianDecoding",
        "--kv-cache-memory-bytes": str(2**28),
        "--block-size": "32",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += [word for pair in flags.items() for word in pair] + ["--enforce-eager", "--skip-mm-profiling"]
    environment = os.environ | {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        for _ in range(400):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            assert server.poll() is None, "vllm serve ended"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow  # a server and an engine of its own: a minute and a half
def test_an_endpoint_and_the_engine_give_the_same_answers(ray_cluster, tmp_path):
    """The shipped policy, in process and behind vLLM's server, on the same samples; its posteriors are exact."""
    import duvlm

    settings = ["rollout.decoding=median", "rollout.kv_cache_gb=0.2"]
    config = load("evaluate", settings)
    build = ["run", "corpus", "world=paper", "count=200", "photos=bundled", f"out={tmp_path / 'corpus'}"]
    assert duvlm.main(build) == 0
    samples = read_samples(tmp_path / "corpus", "test", TAXONOMY, 24)
    here = policies.ask(config, policies.Source(SHIPPED, trained=True), samples, TAXONOMY)
    name = f"duvlm-{TAXONOMY.fingerprint()}"
    with serving(SHIPPED, name) as url:
        served = load("evaluate", [*settings, f"endpoint={url}", f"policy={name}"])
        there, usage = endpoint.ask(served, samples, TAXONOMY, tmp_path)
        again, cached = endpoint.ask(served, samples, TAXONOMY, tmp_path)
    assert [there[i].given for i in samples.sample_ids()] == [here[i].given for i in samples.sample_ids()]
    for sample in samples[:3]:
        _posteriors_are_those_of_the_learner(SHIPPED, sample, here[sample.sample_id])
    right = sum(there[s.sample_id].reading.type == s.degradation.type for s in samples)
    assert right >= len(samples) - 2  # the policy does see the pictures
    assert usage["requests"] == len(samples)
    assert cached["requests"] == 0
    assert {i: answer.reading for i, answer in again.items()} == {i: answer.reading for i, answer in there.items()}
