"""COCO's format of data sets, with a score for each annotation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

from sshconvert.files import staged, staging_folder
from sshconvert.messages import name_text
from sshtool.results.base import RESULTS, Meaning, ResultFormat, Write
from sshtool.results.outcomes import Detected, rounded


@RESULTS.register("coco")
class Coco(ResultFormat):
    """`bbox` is [x, y, width, height] in COCO's coordinates, in which pixel k covers k to k + 1.

    A box with its corner pixels included, x1 to x2, is x1 and the width x2 - x1 + 1. Landmarks are `keypoints`, all of
    them visible (2). Images without detections are listed.

    Of a frame, `file_name` is the name that an extracted frame would have, and `video_id`, `frame_id` and `videos` are
    those of CocoVID.
    """

    place = "coco.json"

    @classmethod
    @contextmanager
    def opened(cls, path: Path, meaning: Meaning) -> Iterator[Write]:
        """See `ResultFormat.opened`."""
        categories = [{"id": number, "name": label} for number, label in enumerate(meaning.labels, 1)]
        with (
            staged(path) as part,
            staging_folder(path.parent) as folder,
            part.open("w", encoding="utf-8", newline="\n") as file,
            (folder / "annotations").open("w+", encoding="utf-8", newline="\n") as annotations,
        ):
            file.write(f'{{"categories": {json.dumps(categories, ensure_ascii=False)},\n"images": [')
            images, numbers = count(1), count(1)
            videos: dict[str, int] = {}

            def write(item: Detected) -> None:
                image = next(images)
                size = {"width": item.width, "height": item.height}
                name = name_text(item.image)
                frame = {}
                if item.frame is not None:
                    number = videos.setdefault(name, len(videos) + 1)
                    frame = {"video_id": number, "frame_id": item.frame, "time": item.time}
                    name = f"{name_text(item.name)}.png"
                _append(file, {"id": image, "file_name": name, **size, **frame}, first=image == 1)
                for detection in item.detections:
                    number = next(numbers)
                    line = rounded(detection)
                    category = meaning.class_id(detection.label) + 1
                    body = _annotation(line, meaning.last_pixel)
                    entry = {"id": number, "image_id": image, "category_id": category, **body}
                    _append(annotations, entry, first=number == 1)

            yield write
            file.write('\n],\n"annotations": [')
            annotations.seek(0)
            for text in annotations:
                file.write(text)
            file.write("\n]")
            if videos:
                listed = [{"id": number, "name": name} for name, number in videos.items()]
                file.write(f',\n"videos": {json.dumps(listed, ensure_ascii=False)}')
            file.write("}\n")


def _append(file: IO[str], entry: dict[str, Any], *, first: bool) -> None:
    file.write(f"{'' if first else ','}\n{json.dumps(entry, ensure_ascii=False)}")


def _annotation(line: dict[str, Any], last_pixel: int) -> dict[str, Any]:
    x1, y1, x2, y2 = line["box"]
    width, height = round(x2 - x1 + last_pixel, 3), round(y2 - y1 + last_pixel, 3)
    body = {
        "bbox": [x1, y1, width, height],
        "area": round(width * height, 3),
        "iscrowd": 0,
        "score": line["score"],
    }
    if points := line.get("landmarks"):
        body |= {"keypoints": [value for x, y in points for value in (x, y, 2)], "num_keypoints": len(points)}
    return body | ({"attributes": line["attributes"]} if "attributes" in line else {})
