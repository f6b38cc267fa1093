"""A process group of one rank in this process, for trainers that need a group and no Ray."""

import gc
import os
import socket

import pytest


@pytest.fixture(scope="session")
def group_of_one():
    import torch.distributed as dist

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**place, "DS_ACCELERATOR": "cpu", "GLOO_SOCKET_IFNAME": "lo"}.items():
            patch.setitem(os.environ, name, str(value))
        from learner.distributed.deepspeed import join

        join("gloo")
    yield
    dist.destroy_process_group()


@pytest.fixture
def alone(group_of_one, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")  # DeepSpeed wants it of every engine; nobody else may see it
    yield
    gc.collect()  # engines are cycles: gigabytes of few objects, which Python would not look for
