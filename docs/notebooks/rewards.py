# %% [markdown]
# # Rewards for another trainer
#
# TRL's `GRPOTrainer` trains, the pool of reward actors restores: a step's completions are handed over at once, equal
# ones are restored once, and restorations share batches on all cores. [The tutorial](../tutorials/rewards.md) says what
# else it can do.

# %%
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import ray
from datasets import load_dataset
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import GRPOConfig, GRPOTrainer

import duvlm
from configs import load
from configs.jobs import jobs
from envs.language.answer import Answer, parse
from envs.observation import QUESTION, views
from envs.world import policy_folder, world_taxonomy

folder = Path(tempfile.mkdtemp())

# %% [markdown]
# ## What it is asked
#
# A small corpus of the bundled photographs. A row of the trainer's data set has the question, the views that the
# shipped policy wants of a picture, and `sample_id`, by which the pool knows what the answer is about.

# %%
jobs()["corpus"].start(load("corpus", ["photos=bundled", "count=60", f"out={folder / 'corpus'}"]))
corpus = load_dataset(str(folder / "corpus"), split="train").select(range(4))
config = load("offline", [f"corpus={folder / 'corpus'}", "reward.actors=2"])


def question(sample):
    shown = views(np.asarray(sample["degraded"]), config.world.views)
    images = [Image.fromarray(view) for view in shown]
    return {"prompt": [{"role": "user", "content": QUESTION}], "images": images, "sample_id": sample["sample_id"]}


rows = corpus.map(question, remove_columns=corpus.column_names)
_, axes = plt.subplots(1, 4, figsize=(12, 3.5))
for axis, image, view in zip(axes, rows[0]["images"], config.world.views, strict=True):
    axis.imshow(image)
    axis.set(title=view, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## The training
#
# `rewards` stands where TRL expects a reward function. It is wrapped here to keep what was asked.

# %%
asked = []


def restoration(prompts, completions, sample_id, **_):
    began = time.perf_counter()
    numbers = rewards(prompts, completions, sample_id=sample_id)
    asked.append((sample_id, [talk[-1]["content"] for talk in completions], numbers, time.perf_counter() - began))
    return numbers


policy = policy_folder("shipped", config.world)
arguments = GRPOConfig(
    str(folder / "trained"), per_device_train_batch_size=8, num_generations=4, max_completion_length=64, max_steps=2,
    learning_rate=2e-5, use_cpu=True, bf16=False, save_strategy="no", report_to="none", disable_tqdm=True,
)  # fmt: skip
with duvlm.RewardFunction(config) as rewards:
    model = AutoModelForImageTextToText.from_pretrained(policy)
    processor = AutoProcessor.from_pretrained(policy)
    GRPOTrainer(model, restoration, arguments, rows, processing_class=processor).train()
    pool = rewards.stats()
    samples = {sample.sample_id: sample for sample in rewards.samples}
print(f"{pool.asked} answers, {pool.scored} restored; is Ray still there? {ray.is_initialized()}")

# %% [markdown]
# ## What the answers were worth

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(11, 3.5))
for step, (_, _, numbers, _) in enumerate(asked, 1):
    left.scatter([step] * len(numbers), [np.nan if number is None else number for number in numbers], alpha=0.5)
left.set(xlabel="step", ylabel="reward", xticks=range(1, len(asked) + 1))
counts = {"asked": pool.asked, "restored": pool.scored, "equal to another": pool.shared + pool.memo_hits}
right.bar(counts.keys(), counts.values())
right.set(ylabel="answers that passed the gate")
plt.show()

# %%
taxonomy = world_taxonomy(config.world)
names, texts, numbers, seconds = asked[0]
answers = [parse(text, taxonomy) for text in texts]
best = max(range(len(numbers)), key=lambda place: -2 if numbers[place] is None else numbers[place])
sample = samples[names[best]]
restored = duvlm.restore(sample.degraded, answers[best].degradation, restorer=config.reward.restorer)
_, axes = plt.subplots(1, 3, figsize=(12, 4))
shown = {"degraded": sample.degraded, f"best answer: {texts[best]}": restored.picture, "clean": sample.clean}
for axis, (title, picture) in zip(axes, shown.items(), strict=True):
    axis.imshow(picture)
    axis.set_title(title, fontsize=8)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## And without the pool
#
# The first step's restorations once more, one after the other in this process, as reward functions are usually written.

# %%
valid = [
    (samples[name], answer.degradation)
    for name, answer in zip(names, answers, strict=True)
    if isinstance(answer, Answer)
]
began = time.perf_counter()
for sample, degradation in valid:
    duvlm.restore(sample.degraded, degradation, restorer=config.reward.restorer)
alone = time.perf_counter() - began
plt.barh(["by the pool", "one after the other"], [seconds, alone])
plt.xlabel(f"seconds for {len(texts)} completions")
plt.show()
