"""The arithmetic of a transfer, and the sender against bare gloo receivers in threads; no engine."""

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from rollout.weights import gloo
from rollout.weights.manifest import Manifest, as_bytes, buckets, unpack
from rollout.weights.transfer import TransferError, WeightSender

TENSORS = [
    ("half", torch.arange(3, dtype=torch.bfloat16)),
    ("matrix", torch.randn(4, 5)),
    ("scalar", torch.tensor(2.5, dtype=torch.float64)),
    ("turned", torch.randn(6, 7).T),
]


class ThreadEngines:
    """Receivers in threads, called as vLLM calls engines. received: per engine, the tensors as they arrived."""

    def __init__(self, count=2):
        self.engines = tuple(range(count))
        self.world_size = 1 + count
        self.received = [[] for _ in self.engines]
        self.events = []
        self._threads = ThreadPoolExecutor()

    def init_weight_transfer_engine(self, info):
        self.events.append("open")
        where = (info["master_address"], info["master_port"])
        joining = [
            self._threads.submit(gloo.join, *where, 1 + i, info["world_size"], info["timeout"]) for i in self.engines
        ]
        self.groups = [task.result() for task in joining]
        self._limit = info["packed_buffer_size_bytes"]

    def start_weight_update(self):
        self.events.append("start")

    def update_weights(self, update):
        manifest = Manifest(*(tuple(update[name]) for name in ("names", "dtype_names")), self.shapes(update))

        def take(group, received):
            for tensors in gloo.receive(group, manifest, self._limit):
                received += tensors  # as they are: vLLM keeps some until their layer is whole

        for task in [self._threads.submit(take, *pair) for pair in zip(self.groups, self.received, strict=True)]:
            task.result()

    def finish_weight_update(self, weight_version=None):
        self.events.append("finish")

    def explain(self, error):
        return TransferError(str(error))

    @staticmethod
    def shapes(update):
        return tuple(tuple(shape) for shape in update["shapes"])


@given(st.lists(st.integers(0, 100)), st.integers(1, 150))
def test_buckets_cover_every_tensor_once_and_in_order(sizes, limit):
    cut = list(buckets(sizes, limit))
    assert [i for where in cut for i in range(where.start, where.stop)] == list(range(len(sizes)))
    assert all(sum(sizes[where]) <= limit or where.stop - where.start == 1 for where in cut)


def test_unpacking_gives_back_what_was_packed_whatever_the_alignment():
    manifest = Manifest.of(TENSORS)
    packed = torch.cat([as_bytes(tensor) for _, tensor in TENSORS])
    for (name, tensor), (expected, original) in zip(unpack(packed, manifest), TENSORS, strict=True):
        assert name == expected
        assert tensor.dtype == original.dtype
        assert torch.equal(tensor, original)


@pytest.mark.parametrize("limit", [16, 64, 4096])  # all tensors but one are larger; some are; none is
def test_all_receivers_get_the_senders_weights_round_after_round_and_keep_them(limit):
    engines, manifest = ThreadEngines(), Manifest.of(TENSORS)
    sender = WeightSender("gloo", "127.0.0.1", timeout=20, bucket_bytes=limit)
    for _ in range(3):
        assert sender.send(engines, manifest, TENSORS) == manifest.bytes
    assert engines.events == ["open", *3 * ["start", "finish"]]
    for received in engines.received:
        assert [name for name, _ in received] == 3 * [name for name, _ in TENSORS]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(received, 3 * TENSORS, strict=True))


def test_other_engines_are_met_anew():
    sender = WeightSender("gloo", "127.0.0.1", timeout=20)
    first, second = ThreadEngines(1), ThreadEngines(2)
    for engines in (first, second, second):
        sender.send(engines, Manifest.of(TENSORS), TENSORS)
    assert first.events == ["open", "start", "finish"]
    assert second.events == ["open", "start", "finish", "start", "finish"]


def test_a_bit_that_changes_on_the_way_is_noticed_in_every_update_and_its_tensor_named(monkeypatch):
    engines, sender = ThreadEngines(1), WeightSender("gloo", "127.0.0.1", timeout=20, bucket_bytes=90)
    sender.send(engines, Manifest.of(TENSORS), TENSORS)

    def changed(tensor):
        sent = as_bytes(tensor).clone()
        if len(sent) > 100:  # `turned`
            sent[7] ^= 4
        return sent

    monkeypatch.setattr(gloo, "as_bytes", changed)
    with pytest.raises(TransferError, match=r"damaged: the checksums of 1 tensors differ \(turned\)"):
        sender.send(engines, Manifest.of(TENSORS), TENSORS)


def test_a_bucket_that_is_shorter_than_announced_is_noticed(monkeypatch):
    """gloo itself says nothing, and leaves the end of the receiver's memory as it was."""
    engines, sender = ThreadEngines(1), WeightSender("gloo", "127.0.0.1", timeout=20)
    monkeypatch.setattr(gloo.torch, "cat", lambda pieces, cat=torch.cat: cat(pieces)[:-8])
    with pytest.raises(TransferError, match=r"damaged: .* \(turned\)"):
        sender.send(engines, Manifest.of(TENSORS), TENSORS)


def test_a_receiver_that_goes_away_is_noticed_and_the_next_update_meets_the_engines_anew():
    engines, sender = ThreadEngines(1), WeightSender("gloo", "127.0.0.1", timeout=20, bucket_bytes=64)
    many = [(f"row {i}", torch.zeros(1000)) for i in range(100)]
    sender.send(engines, Manifest.of(many), many)
    engines.groups.clear()
    receive, engines.update_weights = engines.update_weights, lambda update: None
    with pytest.raises(TransferError):
        sender.send(engines, Manifest.of(many), many)
    engines.update_weights = receive
    sender.send(engines, Manifest.of(many), many)
    assert engines.events.count("open") == 2


MANY = [(f"row {i}", torch.zeros(16000)) for i in range(200)]


def receive_or_die(rank, info, dies, answers):
    """Runs in a process of its own: joins, then is killed, or says with which error receiving ended."""
    group = gloo.join(info["master_address"], info["master_port"], rank, info["world_size"], info["timeout"])
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        list(gloo.receive(group, Manifest.of(MANY), info["packed_buffer_size_bytes"]))
    except RuntimeError as error:
        answers.put(str(error))


class ProcessEngines(ThreadEngines):
    """Two receivers in processes; the second is killed as soon as it has joined."""

    def init_weight_transfer_engine(self, info):
        spawn = multiprocessing.get_context("spawn")
        self.answers = spawn.Queue()
        for rank, dies in ((1, False), (2, True)):
            process = spawn.Process(target=receive_or_die, args=(rank, info, dies, self.answers), daemon=True)
            process.start()
        process.join()

    def update_weights(self, update): ...

    def explain(self, error):
        return TransferError(f"the other engine: {self.answers.get(timeout=60)}")


def test_the_others_need_not_wait_for_their_deadline_when_one_of_them_is_killed():
    engines, sender = ProcessEngines(2), WeightSender("gloo", "127.0.0.1", timeout=120, bucket_bytes=2**16)
    with pytest.raises(TransferError, match="the other engine: .*(closed|reset)"):
        sender.send(engines, Manifest.of(MANY), MANY)


def test_what_training_never_changes_is_left_out_of_later_transfers():
    manifest = replace(Manifest.of(TENSORS), frozen=frozenset(["matrix", "half"]))
    assert manifest.changing().names == ("scalar", "turned")
    assert manifest.changing().bytes == manifest.bytes - 4 * 20 - 2 * 3
    assert Manifest.of(TENSORS).changing() == Manifest.of(TENSORS)


def test_a_sender_nobody_joins_fails_at_its_deadline_instead_of_hanging():
    engines = ThreadEngines(1)
    engines.init_weight_transfer_engine = lambda info: None
    with pytest.raises(TransferError, match=r"(?i)time"):
        WeightSender("gloo", "127.0.0.1", timeout=1).send(engines, Manifest.of(TENSORS), TENSORS)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (TENSORS[:-1], "end before turned"),
        ([*TENSORS, ("more", torch.zeros(1))], "announces None"),
        ([("half", torch.zeros(3)), *TENSORS[1:]], "float32"),
    ],
)
def test_a_learner_that_yields_other_tensors_than_announced_is_stopped(tensors, message):
    with pytest.raises(ValueError, match=message):
        WeightSender("gloo", "127.0.0.1", timeout=5).send(ThreadEngines(1), Manifest.of(TENSORS), tensors)


def test_tensors_that_are_not_the_checkpoints_are_refused_by_name(tmp_path):
    right = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(1)}
    save_file(right, tmp_path / "model.safetensors")
    Manifest.of(right.items()).check(tmp_path)
    wrong = {"a": torch.ones(2, 3), "b": torch.ones(5), "x": torch.ones(1)}
    with pytest.raises(ValueError, match=r"c is missing; x is unknown; b has the shape \(5,\), not \(4,\)"):
        Manifest.of(wrong.items()).check(tmp_path)
