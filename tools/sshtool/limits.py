"""The limits of all verbs' options, which the help states.

They exceed useful values, and prevent runs that take hours, exhaust the memory, or write files that no verb accepts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Final

from sshconvert.errors import UsageError

# Beyond these, a runtime spends its time on switching threads and requests.
MOST_THREADS: Final = 1024
MOST_REQUESTS: Final = 1024
THREADS_OF_A_CORE: Final = 16

# Batch and pixels of an input. The first layers compute 64 values per pixel; validation accepts no larger tensors.
MOST_AT_ONCE: Final = 1024
MOST_PIXELS: Final = 1 << 24
MOST_ELEMENTS: Final = 3 * MOST_PIXELS

MOST_RESULTS: Final = 100_000  # per image: more than the candidates of any network
MOST_SCENES: Final = 1000
MOST_FILES: Final = 100_000  # images
MOST_IMAGES: Final = 10_000_000  # images of a job on a cluster
MOST_VERIFIED: Final = 10_000  # images, whose figures the report lists
MOST_NAMED: Final = 1000  # artifacts, sources, journals, tolerances
MOST_FRAMES: Final = 10_000_000  # of a video: four days
MOST_EVALUATED: Final = 10_000_000
MOST_RUNS: Final = 10_000_000
MOST_ROUNDS: Final = 10_000
LONGEST_DURATION: Final = 86_400.0  # seconds
MOST_DRAWN: Final = 10_000  # scenes of a data set
MOST_SEED: Final = 100_000
MOST_EPOCH: Final = 999_999  # of a parameter file's name
MOST_SCALE: Final = 1e6  # of an image
MOST_MARGIN: Final = 10.0  # of a cut-out, in sides of its box
MOST_POINTS: Final = 100.0  # average precision

# The process that runs models: gigabytes, and seconds without an answer.
LEAST_MEMORY: Final = 0.5
MOST_MEMORY: Final = 1e6
SHORTEST_PATIENCE: Final = 1.0
LONGEST_PATIENCE: Final = 86_400.0


def check_threads(option: str, threads: int) -> None:
    """Raises UsageError for more threads than this machine can use."""
    cores = os.cpu_count() or 1
    most = THREADS_OF_A_CORE * cores
    if threads > most:
        raise UsageError(f"{option}: {threads} is more than {most}, for {cores} cores; 0 leaves it to the runtime")


def check_shape(option: str, shape: Sequence[int]) -> None:
    """Raises UsageError for an input shape N, C, H, W beyond the limits."""
    batch, _, height, width = shape
    if batch > MOST_AT_ONCE or batch * height * width > MOST_PIXELS:
        text = ",".join(map(str, shape))
        raise UsageError(
            f"{option}: {text} is too large; at most N={MOST_AT_ONCE}, and N*H*W={MOST_PIXELS}, that is 4096x4096"
        )


def check_elements(option: str, shape: Sequence[int]) -> None:
    """Raises UsageError for an input of too many elements."""
    if math.prod(shape) > MOST_ELEMENTS:
        raise UsageError(f"{option}: {','.join(map(str, shape))} is too large; at most {MOST_ELEMENTS} elements")


def check_number(option: str, values: Sequence[object], most: int) -> None:
    """Raises UsageError for more than `most` values of an option or argument."""
    if len(values) > most:
        raise UsageError(f"{option}: {len(values)} are given, at most {most} are taken")
