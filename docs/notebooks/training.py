# %% [markdown]
# # A corpus, and a training watched live
#
# Photographs become samples whose degradations are known, and a policy learns to name them. Here with the bundled
# photographs and small numbers, for a minute or two; with `photos=FOLDER` and thousands for `count` and `steps` in
# earnest.

# %%
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
from datasets import load_dataset
from IPython.display import clear_output, display

import duvlm
from configs.run_folders import read_metrics

folder = Path(tempfile.mkdtemp())


def start(job, *settings):
    """Starts a job as `duvlm run` does, in a process of its own."""
    command = [sys.executable, duvlm.__file__, "run", job, *settings]
    return subprocess.Popen(command, cwd=folder, stdout=(folder / f"{job}.log").open("w"), stderr=subprocess.STDOUT)


# %% [markdown]
# ## A corpus

# %%
if start("corpus", "photos=bundled", "count=80", "out=corpus").wait():
    raise RuntimeError((folder / "corpus.log").read_text())
corpus = load_dataset(str(folder / "corpus"))
print(corpus)

# %%
_, axes = plt.subplots(2, 4, figsize=(12, 6.5))
for column, sample in zip(axes.T, corpus["train"], strict=False):
    column[0].imshow(sample["clean"])
    column[1].imshow(sample["degraded"])
    column[1].set_title(sample["type"])
    for axis in column:
        axis.axis("off")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## The training, while it runs
#
# `sft` continues the shipped policy. Every step is a line of `metrics.jsonl`, which the curve is drawn from.

# %%
settings = ["steps=6", "learner.batch=8", "learner.warmup=1", "learner.lr=1e-4", "learner.checkpoint_every=6"]
training = start("sft", "corpus=corpus", "out=sft", *settings)
running, steps = True, []
while running:
    running, before = training.poll() is None, len(steps)  # one last look after its end
    if (folder / "sft" / "metrics.jsonl").exists():
        steps = read_metrics(folder / "sft" / "metrics.jsonl")
    if len(steps) > before:
        clear_output(wait=True)
        figure, axis = plt.subplots(figsize=(6, 3.5))
        axis.plot([step["step"] for step in steps], [step["loss"] for step in steps], "o-")
        axis.set(xlabel="step", ylabel="cross-entropy of the answers", xlim=(0, 7))
        display(figure)
        plt.close(figure)
    time.sleep(1)
if training.returncode:
    raise RuntimeError((folder / "sft.log").read_text())

# %% [markdown]
# ## What it says now, of a photograph it was not trained on

# %%
reader, sample = duvlm.Reader(folder / "sft" / "policy"), corpus["test"][0]
plt.imshow(sample["degraded"])
plt.axis("off")
plt.show()
print("said:", reader(sample["degraded"]).text)
print("true:", sample["type"], sample["values"])

# %% [markdown]
# `duvlm run offline corpus=corpus policy=sft/policy` goes on from here by reinforcement, and `duvlm run evaluate`
# measures both; [the tutorial](../tutorials/photographs.md) has the commands.
