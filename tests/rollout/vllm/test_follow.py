"""An engine's process does not outlive the process that started it."""

import subprocess
import sys
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[3]
PARENT = """
import multiprocessing, sys, time
from rollout.vllm.plugin import follow_parent

def engine(ready):
    follow_parent()
    ready.set()
    time.sleep(600)

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    child = spawn.Process(target=engine, args=(ready,))
    child.start()
    ready.wait()
    print(child.pid, flush=True)
    time.sleep(600)
"""


def test_a_spawned_process_ends_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        engine = psutil.Process(int(parent.stdout.readline()))
        assert engine.is_running()
        parent.kill()
    gone, alive = psutil.wait_procs([engine], timeout=20)
    for process in alive:
        process.kill()
    assert gone
