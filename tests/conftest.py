"""Shared by all tests: one thread, a few deterministic hypothesis examples, a photograph."""

import os
import sys

for name, value in {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}.items():
    os.environ.setdefault(name, value)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

settings.register_profile(
    "quick", max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.register_profile("fuzz", max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that may take longest come first, so that no worker is left alone with one of them at the end."""
    limits: dict = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        seconds = (limit.args[0] if limit else config.getoption("timeout")) if item.get_closest_marker("engine") else 0
        limits[item.path] = max(limits.get(item.path, 0), seconds)
    items.sort(key=lambda item: -limits[item.path])


@pytest.fixture(autouse=True)
def one_thread():
    """Takes back the threads that a restoration in this process asked for: sums of several round differently."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """A real photograph: uint8 (128, 128, 3)."""
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:384:3, 64:448:3])


@pytest.fixture(scope="session")
def ray_cluster():
    """A real local Ray cluster of this test session, two CPUs; tests that ask for it are marked `engine`."""
    ray = pytest.importorskip("ray")
    from configs.cluster import connect as cluster

    cluster.connect()
    yield ray
    ray.shutdown()
