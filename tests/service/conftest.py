"""A service started as people start it, and what is sent to it."""

import cv2
import numpy as np
import pytest
from serving import an_open_port, served

SIGMA = 2.0


@pytest.fixture(scope="module")
def port() -> int:
    return an_open_port()


@pytest.fixture(scope="module")
def service(port, tmp_path_factory):
    """The address of a service started as people start it."""
    with served(tmp_path_factory.mktemp("service"), port) as (address, _):
        yield address


@pytest.fixture(scope="module")
def blurred(photo) -> np.ndarray:
    return cv2.GaussianBlur(photo, (0, 0), SIGMA, borderType=cv2.BORDER_REFLECT)
