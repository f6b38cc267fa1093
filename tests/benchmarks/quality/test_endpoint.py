"""Any model behind an OpenAI-compatible endpoint, against a server on a real socket that misbehaves as told."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmarks.quality.sources import endpoint
from configs import UserError
from configs.schema import Config, Rollout, World
from envs.corpus.generate import decode, encode
from envs.observation import QUESTION, VIEWS
from envs.types import Sample
from envs.world import world_taxonomy

TAXONOMY = world_taxonomy(World())
BLUR = 'Surely:\n```json\n{"type": "blur", "values": {"sigma": 2.0}}\n```'


def said(text="", finish="stop", **message):
    """A chat completion."""
    message = {"role": "assistant", "content": text, **message}
    return 200, {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107},
    }


def error(status, message="no", headers=None, **fields):
    return status, {"error": {"message": message, **fields}}, headers or {}


class Server(ThreadingHTTPServer):
    """Answers the n-th request for a completion with the n-th of `script`, its last for ever."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.requests, self.times, self.keys = list(script), [], [], []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        self._send(404, {"error": {"message": "no models listed"}}, {})

    def do_POST(self):  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            answer = server.script[min(len(server.requests), len(server.script) - 1)]
            server.requests.append(body)
            server.times.append(time.monotonic())
            server.keys.append(self.headers["Authorization"])
            server.at_once += 1
            server.most_at_once = max(server.at_once, server.most_at_once)
        answer = answer(body) if callable(answer) else answer
        time.sleep(0.02)
        with server.lock:
            server.at_once -= 1
        status, content, *headers = answer
        self._send(status, content, headers[0] if headers else {})

    def _send(self, status, content, headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    servers = []

    def start(*script):
        servers.append(Server(script))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Samples(list):
    def sample_ids(self):
        return [sample.sample_id for sample in self]


@pytest.fixture(scope="module")
def samples(photo):
    """Six samples with different pictures."""
    return Samples(Sample(f"s{i}", "p", "test", photo[i : i + 64, i : i + 64].copy()) for i in range(6))


def config(server, **settings):
    settings = {"policy": "gpt", "rollout": Rollout(in_flight=3, timeout=2.0), **settings}
    return Config(endpoint=server if isinstance(server, str) else server.url, **settings)


def ask(server, samples, folder, **settings):
    return endpoint.ask(config(server, **settings), samples, TAXONOMY, folder)


def test_free_text_with_json_is_read_and_tokens_are_counted(serve, samples, tmp_path):
    answers, usage = ask(serve(said(BLUR)), samples, tmp_path)
    assert {answer.reading.degradation for answer in answers.values()} == {TAXONOMY.degradation("blur", {"sigma": 2})}
    assert list(answers) == samples.sample_ids()
    assert (usage["requests"], usage["prompt_tokens"], usage["completion_tokens"]) == (6, 600, 42)


def test_the_question_states_the_taxonomy_and_shows_every_view_as_it_is(serve, samples, tmp_path):
    import base64
    import io

    import numpy as np
    from PIL import Image

    server = serve(said(BLUR))
    ask(server, Samples(samples[:1]), tmp_path)
    *pictures, text = server.requests[0]["messages"][0]["content"]
    assert len(pictures) == len(VIEWS)
    png = base64.b64decode(pictures[0]["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), samples[0].degraded)
    for kind in TAXONOMY.types:
        assert kind.name in text["text"]
        for key in kind.keys:
            assert f"{key.name}: " in text["text"]
            assert f"{key.low:.{key.decimals}f} to {key.high:.{key.decimals}f}" in text["text"]


def test_a_policy_of_ours_is_known_by_its_name_and_asked_as_in_training(serve, samples, tmp_path):
    server = serve(said("[T-blur][K-sigma][V-2.00]"))
    answers, _ = ask(server, samples, tmp_path, policy=f"duvlm-{TAXONOMY.fingerprint()}")
    assert all(answer.reading.degradation for answer in answers.values())
    assert server.requests[0]["messages"][0]["content"][-1]["text"] == QUESTION
    with pytest.raises(UserError, match="another world"):
        ask(server, samples, tmp_path, policy="duvlm-0123456789abcdef")


def test_no_more_requests_are_in_flight_than_allowed(serve, samples, tmp_path):
    server = serve(said(BLUR))
    ask(server, samples, tmp_path)
    assert 1 < server.most_at_once <= 3


def test_a_rate_limit_is_waited_out_as_long_as_the_server_says(serve, samples, tmp_path):
    server = serve(error(429, headers={"Retry-After": "1"}), said(BLUR))
    _, usage = ask(server, Samples(samples[:1]), tmp_path)
    assert usage["retries"] == 1
    assert 1.0 <= server.times[1] - server.times[0] < 2.0


def test_a_server_error_is_tried_again(serve, samples, tmp_path):
    _, usage = ask(serve(error(500), error(503), said(BLUR)), Samples(samples[:1]), tmp_path)
    assert usage["retries"] == 2


def test_a_request_that_hangs_is_given_up_and_sent_again(serve, samples, tmp_path):
    def hang(_):
        time.sleep(3)
        return said("late")

    answers, usage = ask(serve(hang, said(BLUR)), Samples(samples[:1]), tmp_path)
    assert answers["s0"].reading.type == "blur"
    assert usage["retries"] == 1


def test_refusals_are_counted_and_are_no_answers(serve, samples, tmp_path):
    script = [
        said(None, refusal="I cannot help with that"),
        said("", finish="content_filter"),
        error(400, "filtered", code="content_policy_violation"),
        said(BLUR),
    ]
    answers, usage = ask(serve(*script), samples, tmp_path)
    assert usage["refused"] == 3
    assert sorted(answer.reading.reason for answer in answers.values()) == [""] * 3 + ["refused"] * 3


def test_a_second_run_asks_only_what_is_missing(serve, samples, tmp_path):
    first = serve(said(BLUR))
    ask(first, Samples(samples[:4]), tmp_path)
    cache = tmp_path / endpoint.CACHE
    cache.write_bytes(cache.read_bytes()[:-20])  # killed while the last line was written
    first.requests.clear()
    answers, usage = ask(first, samples, tmp_path)
    assert len(first.requests) == usage["requests"] == 3
    assert len(answers) == 6
    ask(first, samples, tmp_path)
    assert len(first.requests) == 3
    ask(first, samples, tmp_path, policy="another")  # what another model said is no answer of this one
    ask(first, samples, tmp_path, resume=False)
    assert len(first.requests) == 15


def test_what_failed_for_good_is_an_error_and_the_rest_is_kept(serve, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    server = serve(said(BLUR), error(500, "broken"), (200, b"not json"), (200, {"choices": []}), said(BLUR))
    with pytest.raises(UserError, match="3 of 6 samples have no answer"):
        ask(server, samples, tmp_path)
    _, usage = ask(server, samples, tmp_path)
    assert usage["requests"] == 3


def test_a_server_that_only_fails_is_not_asked_for_ever(serve, samples, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "RETRIES", 0)
    server = serve(error(500))
    many = Samples(Sample(f"n{i}", "p", "test", samples[0].degraded) for i in range(40))
    with pytest.raises(UserError, match="40 of 40"):
        ask(server, many, tmp_path)
    assert len(server.requests) <= endpoint.FAILURES + 3


@pytest.mark.parametrize("parameter", ["temperature", "max_completion_tokens"])
def test_a_parameter_that_the_server_does_not_know_is_left_out(serve, samples, tmp_path, parameter):
    def picky(body):
        return error(400, f"Unsupported parameter: {parameter}") if parameter in body else said(BLUR)

    answers, _ = ask(serve(picky), samples, tmp_path)
    assert len(answers) == 6


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (error(401, "Incorrect API key: sk-secret"), "OPENAI_API_KEY"),
        (error(404, "no model gpt"), "no model gpt"),
        (error(400, "image too large"), "image too large"),
    ],
)
def test_a_wrong_key_model_or_request_is_one_clear_error(serve, samples, tmp_path, monkeypatch, answer, words):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server = serve(answer)
    with pytest.raises(UserError, match=words) as raised:
        ask(server, samples, tmp_path)
    assert "sk-secret" not in str(raised.value)
    assert len(server.requests) <= 3


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "host/v1", "http://[bad"])
def test_a_wrong_address_is_one_clear_error_at_once(samples, tmp_path, url):
    began = time.monotonic()
    with pytest.raises(UserError, match="endpoint="):
        ask(url, samples, tmp_path)
    assert time.monotonic() - began < 5
    assert not list(tmp_path.iterdir())


def test_the_key_goes_to_the_server_and_nowhere_else(serve, samples, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server = serve(said(BLUR))
    ask(server, samples, tmp_path)
    assert set(server.keys) == {"Bearer sk-secret"}
    assert not any(b"sk-secret" in file.read_bytes() for file in Path(tmp_path).rglob("*") if file.is_file())


def test_a_model_must_be_named(serve, samples, tmp_path):
    with pytest.raises(UserError, match="policy: expected the name of a model"):
        ask(serve(said(BLUR)), samples, tmp_path, policy="shipped")


def test_pictures_travel_without_loss(samples):
    assert decode(encode(samples[0].degraded)).tolist() == samples[0].degraded.tolist()
