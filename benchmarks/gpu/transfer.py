"""Bytes a second between two processes: CUDA's memory handles on one GPU (`ipc`), collectives between two (`nccl`); on
CPUs Gloo."""

from __future__ import annotations

import os
import socket
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

ROUNDS = 5


def run(device: torch.device, small: bool) -> dict[str, float]:
    """Measures what the machine has: `nccl` needs two GPUs, which it says where there is one."""
    count = 2**18 if small else 2**28
    if device.type == "cpu":
        return {"gloo: GB/s": _broadcast("gloo", count)}
    figures = {"ipc: GB/s": _shared(count)}
    if torch.cuda.device_count() > 1:
        figures["nccl: GB/s"] = _broadcast("nccl", count)
    else:
        print("transfer: nccl needs two GPUs: skipped")
    return figures


def _broadcast(backend: str, count: int) -> float:
    """GB/s of a broadcast of `count` bytes from one process to another."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = processes.get_context("spawn")
    answers = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(rank, backend, port, count, answers)) for rank in range(2)]
    return _result(ranks, answers)


def _rank(rank: int, backend: str, port: int, count: int, answers) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    dist.init_process_group(backend, rank=rank, world_size=2)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    sent = torch.full((count,), rank, dtype=torch.uint8, device=device)
    best = 0.0
    for _ in range(ROUNDS):
        dist.barrier()
        began = time.perf_counter()
        dist.broadcast(sent, 0)
        if backend == "nccl":
            torch.cuda.synchronize()
        best = max(best, count / (time.perf_counter() - began) / 1e9)
    if rank:
        answers.put(best if not sent.any() else float("nan"))
    dist.destroy_process_group()


def _shared(count: int) -> float:
    """GB/s at which a process copies what another holds on the same GPU."""
    context = processes.get_context("spawn")
    given, answers = context.Queue(), context.SimpleQueue()
    reader = context.Process(target=_reader, args=(given, answers))
    tensor = torch.zeros(count, dtype=torch.uint8, device="cuda")
    given.put(tensor)  # it must live until the other has read it
    return _result([reader], answers)


def _reader(given, answers) -> None:
    shared = given.get()
    best = 0.0
    for _ in range(ROUNDS):
        torch.cuda.synchronize()
        began = time.perf_counter()
        own = shared.clone()
        torch.cuda.synchronize()
        best = max(best, len(own) / (time.perf_counter() - began) / 1e9)
    answers.put(best if not own.any() else float("nan"))


def _result(started: list, answers) -> float:
    """Starts processes and returns what one of them answers. Raises RuntimeError where one fails."""
    for process in started:
        process.start()
    for process in started:
        process.join(300)
        if process.exitcode != 0:
            for other in started:
                other.kill()
            raise RuntimeError(f"a process of the transfer ended with {process.exitcode}")
    return answers.get()
