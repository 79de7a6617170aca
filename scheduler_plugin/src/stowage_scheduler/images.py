"""Images that a node has, in few bytes: large clusters have a quarter of a million entries."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
UNKNOWN = 0
"""Stands for the image of a container that tells none."""


def image_list(images: Iterable[tuple[int, int]]) -> bytes:
    """Pairs of an image, by the digest of one of its names, and its size in bytes."""
    return np.array([number for pair in images for number in pair], dtype="<i8").tobytes()


def listed_images(images: bytes) -> tuple[Ints, Ints]:
    """Digests and sizes of an `image_list`; what is no such list has none."""
    if len(images) % 16:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    pairs = np.frombuffer(images, dtype="<i8").reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]
