"""A GPU that learner and engines have shares of: how weights travel there, and what an engine may take of it."""

import multiprocessing

import pytest
import torch
from transformers import AutoProcessor

from configs import load
from envs.world import SHIPPED
from rollout.vllm.arguments import engine_arguments, transfer_backend
from rollout.weights.channel import Channel
from rollout.weights.manifest import Manifest
from rollout.weights.transfer import WeightSender, receive

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize(
    ("engine", "rank", "backend"),
    [(0, 0, "gloo"), (1, 1, "nccl"), (2, 1, "nccl"), (0.4, 0.4, "gloo"), (1, 0.5, "gloo"), (0.5, 1, "gloo")],
)
def test_nccl_is_for_whole_gpus_which_nobody_shares(engine, rank, backend):
    config = load("offline", [f"rollout.gpus={engine}", f"learner.gpus={rank}"])
    assert transfer_backend(config) == backend


def test_an_engine_with_a_share_of_a_gpu_expects_no_more_of_its_memory_to_be_free():
    processor = AutoProcessor.from_pretrained(SHIPPED)
    share = engine_arguments("policy", processor, load("offline", ["rollout.gpus=0.4", "learner.gpus=0.4"]))
    assert share["gpu_memory_utilization"] == 0.4
    assert share["weight_transfer_config"] == {"backend": "gloo"}
    whole = engine_arguments("policy", processor, load("offline", ["rollout.gpus=1", "learner.gpus=1"]))
    assert "gpu_memory_utilization" not in whole
    assert whole["weight_transfer_config"] == {"backend": "nccl"}


@needs_gpu
@pytest.mark.parametrize("limit", [64, 2**20])  # some tensors are larger; none is
def test_weights_stay_on_a_gpu_that_both_ends_see(limit):
    spawn, device = multiprocessing.get_context("spawn"), torch.device("cuda:0")
    queue, tensors = spawn.Queue(), weights(device)
    sender = WeightSender("gloo", timeout=60, bucket_bytes=limit, device=device)
    end = sender.bind("127.0.0.1")
    taker = spawn.Process(target=take, args=(end.address, end.port, limit, Manifest.of(tensors), queue))
    taker.start()
    sender.open(2)
    assert sender._group._place.type == "cuda"
    for _ in range(3):
        sender.send(Manifest.of(tensors), tensors, whole=True)
    got = queue.get(timeout=60)
    taker.join()
    assert all(torch.equal(got[name], tensor.cpu()) for name, tensor in tensors)


def weights(device):
    torch.manual_seed(0)
    return [("matrix", torch.randn(300, 70, device=device)), ("half", torch.arange(9, device=device).bfloat16())]


def take(address, port, limit, manifest, queue):
    channel, found = Channel(address, port, 1, 2, 60, limit, device=torch.device("cuda:0")), {}
    for _ in range(3):
        for bucket in receive(channel, manifest, limit, whole=True):
            found |= {name: tensor.cpu() for name, tensor in bucket}
    queue.put(found)
