"""Import hook that lets `import torchvision` succeed where its compiled operators cannot load.

The wheel of torchvision on the package index is a CUDA build. Beside a CPU build of torch its operators do
not load, and the import dies while registering fake kernels for `torchvision::nms`. Declaring the two schemas
first cures it for all that is used here (transforms, image processors). A `.pth` file installs the hook in
every interpreter of the environment, the engine children of vLLM included. Where the operators load, it does
nothing.
"""

import importlib.abc
import importlib.util
import sys

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class _Finder(importlib.abc.MetaPathFinder):
    """Declares the schemas once, right before torchvision is imported, then steps aside."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "torchvision":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("torchvision")
        if spec is not None:
            _declare_missing(spec)
        return spec


def _declare_missing(spec):
    import glob
    import os

    import torch

    if torch.version.cuda or not spec.submodule_search_locations:
        return  # a CUDA torch loads the CUDA operators
    folder = spec.submodule_search_locations[0]
    for library in glob.glob(os.path.join(folder, "_C*.so")):
        try:
            torch.ops.load_library(library)
            return
        except OSError:
            continue
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(name + _SCHEMA)
    torch._duvlm_torchvision_schemas = library  # kept alive: a collected Library takes its schemas with it


sys.meta_path.insert(0, _Finder())
