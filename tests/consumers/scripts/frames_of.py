"""Reads a video with PyAV alone: `frames_of.py VIDEO [FOLDER]`. Prints the time and size of each frame.

With a folder, it saves the frames there as PNG, with the names that `detect` gives frames.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
from PIL import Image

found = []
with av.open(sys.argv[1]) as container:
    start = (container.start_time or 0) / 1e6
    for number, frame in enumerate(container.decode(video=0)):
        found.append([round(frame.time - start, 4), frame.width, frame.height])
        if len(sys.argv) > 2:
            path = Path(sys.argv[2], f"{Path(sys.argv[1]).stem}-{number:06}.png")
            Image.fromarray(frame.to_ndarray(format="rgb24")).rotate(frame.rotation, expand=True).save(path)
print(json.dumps(found))  # noqa: T201  # a script
