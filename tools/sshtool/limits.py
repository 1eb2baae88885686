"""How much may be asked for: one set of limits for the options of all verbs, stated in their help.

They are far beyond what is useful, and below what takes hours, all memory, or makes files that no verb takes again.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from sshconvert.errors import UsageError

# Of threads and of computations at once. A runtime that is asked for more spends its time on them.
MOST_THREADS: Final = 1024
MOST_REQUESTS: Final = 1024
THREADS_OF_A_CORE: Final = 16

# Of an input. In the first layers, a value for each of 64 channels of each pixel is computed: screening takes no more.
MOST_AT_ONCE: Final = 1024
MOST_PIXELS: Final = 1 << 24

MOST_RESULTS: Final = 100_000  # of an image: more than any network has candidates
MOST_SCENES: Final = 1000
MOST_FILES: Final = 100_000  # of images
MOST_VERIFIED: Final = 10_000  # of images, each in the report with all its figures
MOST_NAMED: Final = 1000  # of artifacts, sources, journals, tolerances
MOST_EVALUATED: Final = 10_000_000
MOST_RUNS: Final = 10_000_000
MOST_ROUNDS: Final = 10_000
LONGEST_DURATION: Final = 86_400.0  # seconds
MOST_DRAWN: Final = 10_000  # scenes of a data set
MOST_SEED: Final = 100_000
MOST_POINTS: Final = 100.0  # of average precision

# Of the process that runs models: gigabytes, and seconds without an answer.
LEAST_MEMORY: Final = 0.5
MOST_MEMORY: Final = 1e6
SHORTEST_PATIENCE: Final = 1.0
LONGEST_PATIENCE: Final = 86_400.0


def check_threads(option: str, wanted: int) -> None:
    """Raises UsageError for more threads than this machine has any use for."""
    cores = os.cpu_count() or 1
    most = THREADS_OF_A_CORE * cores
    if wanted > most:
        raise UsageError(f"{option}: {wanted} is more than {most}, for {cores} cores; 0 leaves it to the runtime")


def check_shape(option: str, shape: Sequence[int]) -> None:
    """Raises UsageError for an input N, C, H, W that no verb would take again."""
    batch, _, height, width = shape
    if batch > MOST_AT_ONCE or batch * height * width > MOST_PIXELS:
        text = ",".join(map(str, shape))
        raise UsageError(
            f"{option}: {text} is too large; at most N={MOST_AT_ONCE}, and N*H*W={MOST_PIXELS}, that is 4096x4096"
        )


def check_number(option: str, given: Sequence[object], most: int) -> None:
    """Raises UsageError where an option, or an argument, is given more often than that."""
    if len(given) > most:
        raise UsageError(f"{option}: {len(given)} are given, at most {most} are taken")
