# %% [markdown]
# # Read and restore your photographs
#
# `duvlm.Reader` reads what is wrong with a photograph, as numbers; `duvlm.restore` undoes it. Everything happens in
# this process, without Ray and without a GPU. Put your own files in place of the bundled ones.

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import duvlm
from envs.pictures import as_picture

bundled = Path(duvlm.__file__).parent / "envs" / "bundled"
photographs = {name: as_picture(bundled / f"{name}.jpg") for name in ("flower", "china", "life")}
reader = duvlm.Reader()


def show(**pictures):
    _, axes = plt.subplots(1, len(pictures), figsize=(4 * len(pictures), 3.5))
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture)
        axis.set(title=title.replace("_", " "), xticks=[], yticks=[])
    plt.tight_layout()
    plt.show()


# %% [markdown]
# ## What is wrong with them
#
# A reading names a degradation, gives its numbers in pixels of the photograph, each with a 90 % interval, and says how
# sure it is of the type.

# %%
show(**photographs)
for name, photograph in photographs.items():
    reading = reader(photograph)
    print(f"{name}: {reading.text} (type sure to {reading.confidence:.2f})")

# %% [markdown]
# ## Do something known to one, and look whether it is noticed

# %%
flower = photographs["flower"]
blurred = duvlm.degrade(flower, {"type": "blur", "values": {"sigma": 6.0}})
reading = reader(blurred)
print(reading.degradation.as_dict(), reading.intervals, f"type sure to {reading.confidence:.2f}")

# %% [markdown]
# ## Restore by what was read
#
# A photograph whose reading is too uncertain is left as it came (`restored.action` is `left`, `restored.reason` says
# why); `force=True` restores it all the same.

# %%
restored = duvlm.restore(blurred, reading, force=True)
print(restored.action, restored.restorer)
show(flower=flower, blurred=blurred, restored=restored.picture)

# %% [markdown]
# ## How well is a blur read?
#
# The same photograph, blurred more and more: what was read over what was done, with intervals.

# %%
sigmas = [2.0, 4.0, 6.0, 8.0]
readings = reader.batch([duvlm.degrade(flower, {"type": "blur", "values": {"sigma": sigma}}) for sigma in sigmas])
_, axis = plt.subplots(figsize=(5, 4))
axis.plot(sigmas, sigmas, color="grey", label="as it is")
for sigma, reading in zip(sigmas, readings, strict=True):
    if reading.degradation is None or reading.degradation.type != "blur":
        print(f"{sigma} px was taken for something else: {reading.text}")
        continue
    axis.vlines(sigma, *reading.intervals["sigma"], color="C0")
    axis.plot(sigma, reading.degradation["sigma"], "o", color="C0")
axis.set(xlabel="blur that was done, px", ylabel="blur that was read, px")
axis.legend()
plt.show()

# %% [markdown]
# ## Your own
#
# ```python
# reading = reader("PHOTO.jpg")
# picture = duvlm.restore("PHOTO.jpg", reading).picture
# ```
#
# `duvlm run restore image=FOLDER out=restored` does it for a folder, `duvlm serve` on a web page.
