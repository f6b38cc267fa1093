"""The parts of `python -m benchmarks.gpu`, small and on the CPU; on a GPU `tests/test_on_gpu.py` runs them whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import PARTS, main
from configs import UserError

ROOT = Path(__file__).parents[2]
ABSENT = ("omegaconf", "cv2", "ray", "deepspeed", "vllm", "peft", "diffusers")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_each_part_says_so_and_nothing_fails(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{part}: no GPU: skipped" for part in PARTS]


def test_a_word_that_is_no_part_is_refused():
    with pytest.raises(UserError, match="unknown part 'reward': expected some of prior, learner"):
        main(["reward"])


def test_parts_measure_on_a_cpu_too(tmp_path, capsys):
    assert main(["prior", "learner", "logits", "device=cpu", "size=small", "--json", str(tmp_path / "f.json")]) == 0
    found = json.loads((tmp_path / "f.json").read_text())
    assert found["prior"]["float32: error of the noise, rms"] == 0
    assert 0 < found["prior"]["bfloat16: error of the noise, rms"] < 0.05
    assert found["logits"]["largest difference"] < 1e-5
    assert 0 < found["learner"]["MFU"] < 1
    assert "learner: MFU" in capsys.readouterr().out


def test_two_processes_exchange_bytes():
    from benchmarks.gpu.transfer import run

    assert run(torch.device("cpu"), small=True)["gloo: GB/s"] > 0


def test_pytorch_and_transformers_are_enough():
    """As on a machine where nothing of the project is installed."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\n"
        "from benchmarks.gpu.__main__ import main\n"
        "sys.exit(main(['learner', 'logits', 'prior', 'engine', 'device=cpu', 'size=small']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "learner: MFU" in done.stdout
    assert "prior: diffusers cannot be imported" in done.stdout
    assert "engine: no GPU: skipped" in done.stdout
