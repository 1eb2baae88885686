"""Merges the journals of shards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sshconvert.errors import EvaluationError
from sshconvert.reading import is_folder, matching
from sshtool.evaluate.journal import Header, read_header

JOURNAL: Final = ".jsonl"


def read_runs(places: Sequence[Path]) -> dict[str, list[tuple[Path, Header]]]:
    """The journals of all shards by artifact, from files and folders.

    Raises EvaluationError if the journal of a shard is missing, or if journals belong to different evaluations.
    """
    paths = [path for place in places for path in (matching(place, f"*{JOURNAL}") if is_folder(place) else [place])]
    if not paths:
        raise EvaluationError(f"{places[0]}: holds no journals ({JOURNAL}); name files or folders that shards wrote")
    headers = {path: read_header(path) for path in paths}
    first_path, first = next(iter(headers.items()))
    runs: dict[str, list[tuple[Path, Header]]] = {}
    for path, header in headers.items():
        for name in ("sshtool", "dataset", "images"):
            if getattr(header, name) != getattr(first, name):
                raise EvaluationError(
                    f"{path}: its {name} is {getattr(header, name)}, that of {first_path} {getattr(first, name)}; "
                    "merge journals of one evaluation"
                )
        others = runs.setdefault(header.artifact, [])
        difference = others[0][1].differing(header) if others else ""
        if difference:
            raise EvaluationError(f"{path}: does not belong to {others[0][0]}: {difference}; merge them apart")
        others.append((path, header))
    for label, parts in runs.items():
        _check_parts(label, parts)
    return runs


def _check_parts(label: str, parts: list[tuple[Path, Header]]) -> None:
    count = parts[0][1].shard[1]
    shards = [header.shard for _, header in parts]
    mixed = next((path for path, header in parts if header.shard[1] != count), None)
    if mixed is not None:
        raise EvaluationError(f"{mixed}: is of another split than {parts[0][0]}; merge the shards of one")
    for number, (path, header) in enumerate(parts):
        if header.shard in shards[:number]:
            raise EvaluationError(f"{path}: another journal is of the same shard; merge each once")
    missing = next((which for which in range(1, count + 1) if (which, count) not in shards), None)
    if missing is not None:
        raise EvaluationError(
            f"{label}: {count - len(parts)} of {count} shards are missing, the first is {missing}; merge all of them"
        )
