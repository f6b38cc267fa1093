"""Which transfer carries weights where, and whether what is called of vLLM is what vLLM has.

No GPU is needed but where a test says so: there the signatures, and the order of events around a stand-in
communicator, are all that is checked.
"""

import inspect
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoProcessor

from configs import load
from envs.world import SHIPPED
from learner.distributed import weights as policy_weights
from rollout.vllm.arguments import engine_arguments, environment, start_timeout, transfer_backend
from rollout.weights.manifest import Manifest
from rollout.weights.transfer import EngineClient, TensorSource, WeightSender


@pytest.mark.parametrize(
    ("engine", "rank", "ranks", "backend"),
    [
        *[(0, 0, 2, "gloo"), (1, 1, 2, "nccl"), (2, 1, 2, "nccl")],
        *[(0.4, 0.4, 1, "ipc"), (0.4, 0.4, 2, "gloo"), (1, 0.5, 1, "gloo"), (0.5, 1, 1, "gloo"), (0.5, 0, 1, "gloo")],
    ],
)
def test_nccl_is_for_whole_gpus_and_ipc_for_one_gpu_that_all_share(engine, rank, ranks, backend):
    config = load("offline", [f"rollout.gpus={engine}", f"learner.gpus={rank}", f"learner.ranks={ranks}"])
    assert transfer_backend(config) == backend
    assert ("VLLM_ALLOW_INSECURE_SERIALIZATION" in environment(config)) == (backend == "ipc")


def test_an_engine_with_a_share_of_a_gpu_expects_no_more_of_its_memory_to_be_free():
    processor = AutoProcessor.from_pretrained(SHIPPED)
    config = load("offline", ["rollout.gpus=0.4", "learner.gpus=0.4", "learner.ranks=1"])
    share = engine_arguments("policy", processor, config)
    assert share["gpu_memory_utilization"] == 0.4
    assert share["weight_transfer_config"] == {"backend": "ipc"}
    whole = engine_arguments("policy", processor, load("offline", ["rollout.gpus=1", "learner.gpus=1"]))
    assert "gpu_memory_utilization" not in whole
    assert whole["weight_transfer_config"] == {"backend": "nccl"}


def test_an_engine_is_profiled_with_pictures_of_the_size_that_it_will_see():
    from vllm.config.multimodal import ImageDummyOptions

    config = load("offline", ["rollout.gpus=1", "world.views=[image,fft]"])
    arguments = engine_arguments("policy", AutoProcessor.from_pretrained(SHIPPED), config)
    view = ImageDummyOptions(**arguments["limit_mm_per_prompt"]["image"])
    assert (view.count, view.width, view.height) == (2, 128, 128)


def test_a_large_policy_has_longer_to_start_and_the_setting_has_the_last_word(tmp_path):
    config = load("offline", [])
    small = start_timeout(tmp_path, config)
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(16 * 2**30)  # a hole
    assert small == 300
    assert start_timeout(tmp_path, config) > 600
    assert start_timeout(tmp_path, load("offline", ["rollout.start_timeout=42"])) == 42


def test_the_client_is_one_that_vllm_can_call():
    from vllm.distributed.weight_transfer.base import VLLMWeightSyncClient

    for name in ("init_weight_transfer_engine", "start_weight_update", "update_weights", "finish_weight_update"):
        ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (EngineClient, VLLMWeightSyncClient))
        assert list(ours.parameters) == list(theirs.parameters)


@pytest.mark.parametrize("backend", ["nccl", "ipc"])
def test_vllm_opens_a_transfer_with_what_the_sender_says(backend, monkeypatch):
    """vLLM's own classes, up to where they would ask for a GPU."""
    from vllm.distributed.weight_transfer import ipc_engine, nccl_engine

    invitations, client = [], EngineClient([], 2, 20, 0)
    client.engines = ("a", "b")
    client._call = lambda method, arguments: invitations.extend((method, given) for (given,) in arguments)
    monkeypatch.setattr(nccl_engine, "open_trainer_endpoint", lambda info: SimpleNamespace(destroy=lambda: None))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="GPU-0"))
    source = TensorSource(Manifest(("a",), ("bfloat16",), ((1000,),)), [])
    trainer = WeightSender(backend, "10.0.0.1", bucket_bytes=64)._open(client, source)
    worker_info = {"nccl": nccl_engine.NCCLWeightTransferInitInfo, "ipc": ipc_engine.IPCWeightTransferInitInfo}[backend]
    parsed = [worker_info(**given) for _, given in invitations]
    assert [method for method, _ in invitations] == ["open_transfer"] * 2
    assert all(info.packed for info in parsed)
    assert trainer.packed
    if backend == "nccl":
        assert [info.rank_offset for info in parsed] == [1, 3]
        assert {info.world_size for info in parsed} == {5}
        assert {info.packed_buffer_size_bytes for info in parsed} == {64} == {trainer.packed_buffer_size_bytes}
    else:
        assert trainer.packed_buffer_size_bytes == 2000  # must hold the largest tensor
    assert [(meta.name, meta.dtype, meta.shape) for meta in source.metadata()] == [("a", torch.bfloat16, (1000,))]
    trainer.shutdown()


def test_updates_are_announced_as_vllms_engines_read_them():
    from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferUpdateInfo
    from vllm.v1.engine.async_llm import AsyncLLM

    from rollout.weights.receiver import GlooWeightTransferEngine

    assert [field.name for field in fields(NCCLWeightTransferUpdateInfo)] == ["names", "dtype_names", "shapes"]
    assert GlooWeightTransferEngine.update_info_cls is NCCLWeightTransferUpdateInfo
    for name in ("init_weight_transfer_engine", "start_weight_update", "update_weights", "finish_weight_update"):
        required = inspect.signature(getattr(AsyncLLM, name)).parameters.values()
        assert [p.name for p in required if p.default is p.empty][1:] in ([], ["request"])


def test_tensors_are_gathered_then_awaited_then_packed_and_packed_before_they_are_released(monkeypatch):
    """vLLM packs on streams of its own: a gather that is still running, or memory that is given back while it is
    packed, would send other bytes. Its real producer, on stand-ins for streams and communicator: on NCCL itself
    nothing is checked here."""
    from vllm.distributed.weight_transfer import packed_tensor

    events, count = [], 6

    @contextmanager
    def gathered(parameters, write=False):
        events.append(f"gather {len(parameters)}")
        yield
        events.append("release")

    class Stream:
        def synchronize(self): ...

    class Communicator:
        def broadcast(self, tensor, src):
            events.append(f"broadcast {tensor.numel()}")

    monkeypatch.setattr(policy_weights, "gathered", gathered)
    monkeypatch.setattr(policy_weights, "synchronize", lambda: events.append("synchronise"))
    monkeypatch.setattr(policy_weights, "BUCKET_BYTES", 80)
    monkeypatch.setattr(packed_tensor, "_get_streams", lambda device, number: [Stream()] * number)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    listed = [
        policy_weights.Weight(f"layer {i}", f"layer {i}", torch.nn.Parameter(torch.zeros(10)), None, True)
        for i in range(count)
    ]
    packed_tensor.packed_nccl_broadcast_producer(
        policy_weights.named_tensors(listed), Communicator(), 0, lambda row: row[1], buffer_size_bytes=79
    )
    one_bucket = ["gather 2", "synchronise", "broadcast 80", "synchronise", "release"]
    assert events == one_bucket * (count // 2)
