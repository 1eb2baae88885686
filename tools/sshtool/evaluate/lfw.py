"""LFW's verification of pairs as Open Model Zoo measured it: the metric `pairwise_accuracy_subsets`.

1. Images come in pairs, in the order of `lfw.bin`, and each is resized bilinearly to the network's input. The aligned
   images of `lfw.bin` have that size already.
2. Each vector v is divided by sqrt(sum(v²) + 1e-6).
3. The distance of a pair is (1 - v · w) / 2, a quarter of the squared Euclidean distance of unit vectors.
4. The pairs are divided, in their order, into ten subsets of equal size, of which subset k has the pairs from
   floor(k * P / 10) to floor((k + 1) * P / 10) - 1.
5. For each subset, the threshold is the median distance of the pairs of all others. A pair below it is the same person.
6. The figure is the mean of the accuracies of the ten subsets.

The rules come from the accuracy checker's sources (`metrics/reid.py`, `adapters/reidentification.py` and
`annotation_converters`). The data set could not be had, so the published figures are not reproduced here, and no image
was compared with OpenCV's decoding.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sshconvert.arrays import Doubles, Flags
from sshconvert.errors import DatasetError

PROTOCOL: Final = "LFW pairs"
MEASURE: Final = "LFW"
SUBSETS: Final = 10
BIAS: Final = 1e-6


def normalised(vectors: Doubles) -> Doubles:
    """Rule 2, for the network's vectors [N, D]."""
    lengths = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True) + BIAS)
    return np.asarray(vectors / lengths)


def distances(first: Doubles, second: Doubles) -> Doubles:
    """Rule 3, for the normalised vectors [P, D] of the first and the second images: float64 [P]."""
    return np.asarray(0.5 * (1 - (first * second).sum(axis=1)))


def accuracy(distance: Doubles, same: Flags) -> float:
    """Rules 4 to 6: the mean accuracy, 0-1, of float64 [P] distances and bool [P]. A distance that is NaN is wrong.

    Raises DatasetError for fewer pairs than subsets.
    """
    count = len(distance)
    if count < SUBSETS:
        raise DatasetError(f"{count} pairs cannot be divided into {SUBSETS} subsets; give at least {SUBSETS}")
    known = ~np.isnan(distance)
    shares = []
    for number in range(SUBSETS):
        tested = np.zeros(count, bool)
        tested[number * count // SUBSETS : (number + 1) * count // SUBSETS] = True
        others = distance[~tested & known]
        threshold = np.median(others) if len(others) else np.nan
        correct = known & ((distance < threshold) == same)
        shares.append(correct[tested].mean())
    return float(np.mean(shares))
