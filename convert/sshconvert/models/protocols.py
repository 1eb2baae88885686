"""The settings of the protocols that measure detectors on WIDER FACE. The defaults are those of SSH's figures."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from sshconvert.schema import Dimension, Share, Strict

Count = Annotated[int, pydantic.Field(ge=0, le=1 << 24)]
Score = Annotated[float, pydantic.Field(ge=0, le=1)]


class OmzRules(Strict):
    """Settings of Open Model Zoo's protocol, by the numbers of the rules in `sshtool.evaluate.omz`.

    Attributes:
        candidates_per_stride: Rule 3: the number of candidates that each stride keeps; 0 keeps all.
        suppression: Rule 3: `stride` suppresses in each stride, in pixels of the input. `image` suppresses over all
            strides, in pixels of the image.
        overlap: Rule 3: boxes that overlap a better one by more are suppressed.
        overlap_with_corners: Rule 3: whether that overlap includes the corner pixels.
        least_score: Rule 3: predictions with a lower score are dropped.
        clipped: Rule 3: whether predictions are clipped to the image after the suppression.
        rounded: Rule 4: whether coordinates are rounded.
        largest_coordinate: Rule 5: annotations are clipped to 0 and this; 0 leaves them as they are.
        least_height: Rule 5: lower annotations are difficult.
        largest_height: Rule 5: higher annotations are difficult; 0 for none.
        match_with_corners: Rule 6: whether the overlap with annotations includes the corner pixels.
        difficult_once: Rule 6: False matches a difficult annotation any number of times, by the share of the prediction
            that it covers.

    """

    candidates_per_stride: Count = 1000
    suppression: Literal["stride", "image"] = "stride"
    overlap: Share = 0.3
    overlap_with_corners: bool = True
    least_score: Score = 0.0
    clipped: bool = False
    rounded: bool = True
    largest_coordinate: Count = 1024
    least_height: Count = 64
    largest_height: Count = 1024
    match_with_corners: bool = True
    difficult_once: bool = True

    def differences(self) -> str:
        """Return the settings that are not the defaults in words, "" without any."""
        changed = self.model_dump(exclude_defaults=True)
        return ", ".join(f"{name} {str(value).lower()}" for name, value in changed.items())


class WiderRules(Strict):
    """Settings of upstream's test for the official evaluation.

    Attributes:
        shorter_side: The length of the shorter side of images.
        longer_side: The limit of the longer side.
        score_threshold: The least score of predictions; None takes the task's.

    """

    shorter_side: Dimension = 1200
    longer_side: Dimension = 1600
    score_threshold: Share | None = None
