"""The arithmetic of a transfer, and the sender against bare gloo receivers; no engine."""

import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from rollout.weights import shared_memory
from rollout.weights import transfer as weight_transfer
from rollout.weights.channel import Channel
from rollout.weights.manifest import Manifest, as_bytes, buckets, unpack
from rollout.weights.transfer import TransferError, WeightSender, receive

TENSORS = [
    ("half", torch.arange(3, dtype=torch.bfloat16)),
    ("matrix", torch.randn(4, 5)),
    ("scalar", torch.tensor(2.5, dtype=torch.float64)),
    ("turned", torch.randn(6, 7).T),
]


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


def transfer(manifest, tensors, receivers=2, rounds=1, limit=64):
    """Sends `rounds` times to threads that copy what they get; (what each got, the sender's channel)."""
    got, sender = {rank: [] for rank in range(1, receivers + 1)}, WeightSender("gloo", timeout=20, bucket_bytes=limit)
    end = sender.bind("127.0.0.1")

    def take(rank):
        channel = Channel(end.address, end.port, rank, receivers + 1, 20, limit)
        for _ in range(rounds):
            for bucket in receive(channel, manifest, limit):
                got[rank] += [(name, tensor.clone()) for name, tensor in bucket]

    threads = [threading.Thread(target=take, args=(rank,)) for rank in got]
    for thread in threads:
        thread.start()
    sender.open(receivers + 1)
    for _ in range(rounds):
        assert sender.send(manifest, tensors) == manifest.bytes
    for thread in threads:
        thread.join()
    assert not shared_memory.file(end.port).exists()
    return got, sender._group


@pytest.mark.parametrize("limit", [16, 64, 4096])  # all tensors but one are larger; some are; none is
@pytest.mark.parametrize("blind", [0, 1])
def test_all_receivers_get_the_senders_weights_round_after_round(blind, limit, monkeypatch):
    manifest, opened, left = Manifest.of(TENSORS), shared_memory.opened, [blind]

    def maybe(*where):
        if left and left.pop():
            raise FileNotFoundError  # as on another machine
        return opened(*where)

    monkeypatch.setattr(shared_memory, "opened", maybe)
    got, channel = transfer(manifest, TENSORS, rounds=3, limit=limit)
    assert channel.shared == (not blind)  # one who cannot see the memory decides for all
    for received in got.values():
        assert [name for name, _ in received] == 3 * [name for name, _ in TENSORS]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(received, 3 * TENSORS, strict=True))


def test_memory_of_another_machine_under_the_same_name_is_not_taken_for_the_senders(monkeypatch, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"x" * 4096)
    opened = shared_memory.opened
    monkeypatch.setattr(shared_memory, "opened", lambda file, *rest: opened(other, *rest))
    got, channel = transfer(Manifest.of(TENSORS), TENSORS)
    assert not channel.shared
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(got[1], TENSORS, strict=True))


def test_where_no_memory_can_be_shared_weights_travel_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(shared_memory, "file", lambda port: tmp_path / "no such folder" / str(port))
    got, channel = transfer(Manifest.of(TENSORS), TENSORS)
    assert not channel.shared
    assert len(got[2]) == len(TENSORS)


def test_memory_does_not_outlive_a_meeting_that_fails(tmp_path):
    class Alone:
        def broadcast(self, *_):
            return self

        def wait(self):
            raise RuntimeError("the other end has gone away")

    channel, file = Channel.__new__(Channel), tmp_path / "weights"
    channel.group, channel._limit, channel._sender = Alone(), 64, True
    with pytest.raises(RuntimeError, match="gone away"):
        channel._meet(file)
    assert not file.exists()


def test_what_a_receiver_keeps_is_not_written_over():
    numbers = [(f"row {i}", torch.full((8,), float(i))) for i in range(40)]
    kept = []
    sender = WeightSender("gloo", timeout=20, bucket_bytes=64)
    end = sender.bind("127.0.0.1")

    def take():
        for bucket in receive(Channel(end.address, end.port, 1, 2, 20, 64), Manifest.of(numbers), 64):
            kept.extend(bucket)  # as they are: vLLM keeps some until their layer is whole

    receiver = threading.Thread(target=take)
    receiver.start()
    sender.open(2)
    sender.send(Manifest.of(numbers), numbers)
    receiver.join()
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(kept, numbers, strict=True))


@pytest.mark.parametrize("damage", [False, True])
def test_a_bit_that_changes_on_the_way_is_noticed_and_its_tensor_named(damage, monkeypatch):
    manifest, errors = Manifest.of(TENSORS), []
    sender = WeightSender("gloo", timeout=20, bucket_bytes=90)
    end = sender.bind("127.0.0.1")

    def changed(tensor):
        sent = as_bytes(tensor).clone()
        if len(sent) > 100:  # `turned`
            sent[7] ^= 4
        return sent

    def take():
        channel = Channel(end.address, end.port, 1, 2, 20, end.bucket_bytes)
        try:
            assert len(list(receive(channel, manifest, end.bucket_bytes, whole=True))) > 1
        except RuntimeError as error:
            errors.append(str(error))

    receiver = threading.Thread(target=take)
    receiver.start()
    sender.open(2)
    if damage:
        monkeypatch.setattr(weight_transfer, "as_bytes", changed)
    sender.send(manifest, TENSORS, whole=True)
    receiver.join()
    assert errors == ["weights arrived damaged: the checksums of 1 tensors differ (turned)"] * damage


def test_what_training_never_changes_is_left_out_of_later_transfers():
    manifest = replace(Manifest.of(TENSORS), frozen=frozenset(["matrix", "half"]))
    assert manifest.changing().names == ("scalar", "turned")
    assert manifest.changing().bytes == manifest.bytes - 4 * 20 - 2 * 3
    assert Manifest.of(TENSORS).changing() == Manifest.of(TENSORS)


def test_a_sender_nobody_joins_fails_at_its_deadline_instead_of_hanging():
    sender = WeightSender("gloo", timeout=1)
    sender.bind("127.0.0.1")
    with pytest.raises(TransferError, match="1 engine workers did not all join within 1 s"):
        sender.open(2)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (TENSORS[:-1], "end before turned"),
        ([*TENSORS, ("more", torch.zeros(1))], "announces None"),
        ([("half", torch.zeros(3)), *TENSORS[1:]], "float32"),
    ],
)
def test_a_learner_that_yields_other_tensors_than_announced_is_stopped(tensors, message):
    sender, alone = WeightSender("gloo", timeout=5), 1
    sender.bind("127.0.0.1")
    sender.open(alone)
    with pytest.raises(ValueError, match=message):
        sender.send(Manifest.of(TENSORS), tensors)


def test_tensors_that_are_not_the_checkpoints_are_refused_by_name(tmp_path):
    right = {"a": torch.zeros(2, 3), "b": torch.zeros(4), "c": torch.zeros(1)}
    save_file(right, tmp_path / "model.safetensors")
    Manifest.of(right.items()).check(tmp_path)
    wrong = {"a": torch.ones(2, 3), "b": torch.ones(5), "x": torch.ones(1)}
    with pytest.raises(ValueError, match=r"c is missing; x is unknown; b has the shape \(5,\), not \(4,\)"):
        Manifest.of(wrong.items()).check(tmp_path)
