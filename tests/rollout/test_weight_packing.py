"""The arithmetic of a transfer, and the sender against bare gloo receivers; no engine."""

import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from rollout import weight_transfer
from rollout.weight_transfer import Manifest, WeightSender, buckets, gloo_group, pack, receive, unpack

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
    for (name, tensor), (expected, original) in zip(
        unpack(pack(t for _, t in TENSORS), manifest), TENSORS, strict=True
    ):
        assert name == expected
        assert tensor.dtype == original.dtype
        assert torch.equal(tensor, original)


def test_all_receivers_get_the_senders_weights_round_after_round():
    manifest, received = Manifest.of(TENSORS), {1: [], 2: []}
    sender = WeightSender("gloo", timeout=20)
    end = sender.bind("127.0.0.1")

    def receive(rank):
        group = gloo_group(end.address, end.port, rank, 3, 20)
        for where in 2 * list(buckets(manifest.sizes, end.bucket_bytes)):
            bucket = manifest.part(where)
            packed = torch.empty(bucket.bytes, dtype=torch.uint8)
            group.broadcast(packed, 0).wait()
            received[rank] += unpack(packed, bucket)

    threads = [threading.Thread(target=receive, args=(rank,)) for rank in received]
    for thread in threads:
        thread.start()
    sender.open(3)
    assert sender.send(manifest, TENSORS) == manifest.bytes
    assert sender.send(manifest, TENSORS) == manifest.bytes
    for thread in threads:
        thread.join()
    for rank in received:
        assert [name for name, _ in received[rank]] == 2 * [name for name, _ in TENSORS]
        pairs = zip(received[rank], 2 * TENSORS, strict=True)
        assert all(torch.equal(got, sent) for (_, got), (_, sent) in pairs)


@pytest.mark.parametrize("damage", [False, True])
def test_a_bit_that_changes_on_the_way_is_noticed_and_its_tensor_named(damage, monkeypatch):
    manifest, errors, packed = Manifest.of(TENSORS), [], weight_transfer.pack
    sender = WeightSender("gloo", timeout=20, bucket_bytes=90)
    end = sender.bind("127.0.0.1")

    def packed_badly(tensors, into=None):
        bytes_ = packed(tensors, into)
        if len(bytes_) > 100:  # the bucket of `turned`
            bytes_[7] ^= 4
        return bytes_

    def take():
        group = gloo_group(end.address, end.port, 1, 2, 20)
        try:
            assert len(list(receive(group, manifest, end.bucket_bytes, whole=True))) > 1
        except RuntimeError as error:
            errors.append(str(error))

    receiver = threading.Thread(target=take)
    receiver.start()
    sender.open(2)
    if damage:
        monkeypatch.setattr(weight_transfer, "pack", packed_badly)
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
    with pytest.raises(RuntimeError):
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
