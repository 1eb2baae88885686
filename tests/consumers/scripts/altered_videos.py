"""Alters bytes of videos and reads them: `altered_videos.py FOLDER NUMBER VIDEO...`. Prints what came of it."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from sshconvert.errors import VideoError
from sshtool.video.reading import Damaged, missing, open_video

MOST_FRAMES = 100
HEAD = 3000  # bytes in which most heads and indices lie, at the beginning or the end


def altered(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(source.choice((1, 2, 5, 30))):
        reach = min(HEAD, len(changed))
        place = source.choice((source.randrange(len(changed)), source.randrange(reach), -1 - source.randrange(reach)))
        changed[place] = source.choice((0, 255, 127, 128, source.randrange(256)))
    if source.random() < 0.2:
        del changed[source.randrange(len(changed)) :]
    return bytes(changed)


def main(folder: Path, number: int, videos: list[Path]) -> None:
    found = {"read": 0, "refused": 0, "refused in many lines": 0, "damaged frames": 0}
    for video in videos:
        source = random.Random(video.name)  # noqa: S311  # no secret
        data = video.read_bytes()
        path = folder / f"altered{video.suffix}"
        for _ in range(number):
            path.write_bytes(altered(data, source))
            try:
                with open_video(path) as opened:
                    for frame, _ in zip(opened.frames(), range(MOST_FRAMES), strict=False):
                        if isinstance(frame, Damaged):
                            found["damaged frames"] += 1
                        else:
                            frame.pixels()
                missing(path)
                found["read"] += 1
            except VideoError as error:
                found["refused" if "\n" not in str(error) else "refused in many lines"] += 1
    print(json.dumps(found))  # noqa: T201  # a script


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
