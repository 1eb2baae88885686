"""Messages between two processes: a JSON object, and arrays beside it, byte for byte."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from sshconvert.arrays import Array


@dataclass(frozen=True)
class Message:
    """`number` belongs to a question and its answer."""

    number: int
    body: dict[str, Any]
    arrays: tuple[Array, ...] = ()


class Channel:
    """Two streams. Any thread may send, one may receive. Raises OSError where the other process has ended."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader, self._writer = reader, writer
        self._turn = threading.Lock()

    def send(self, message: Message) -> None:
        arrays = [np.ascontiguousarray(array) for array in message.arrays]
        described = [(array.dtype.str, array.shape) for array in arrays]
        line = json.dumps({"number": message.number, "arrays": described, "body": message.body})
        with self._turn:
            self._writer.write(f"{line}\n".encode())
            for array in arrays:
                self._writer.write(array.reshape(-1).view(np.uint8).data)
            self._writer.flush()

    def receive(self, *, most: float = math.inf) -> Message | None:
        """The next one; None at the end. Raises ValueError for arrays of more than `most` bytes."""
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            return None
        said = json.loads(line)
        kinds = [(np.dtype(kind), tuple(shape)) for kind, shape in said["arrays"]]
        if sum(kind.itemsize * math.prod(shape) for kind, shape in kinds) > most:
            raise ValueError("more than may be sent")
        arrays = []
        for kind, shape in kinds:
            array = np.empty(shape, kind)
            if array.size and not self._fill(memoryview(array.reshape(-1).view(np.uint8).data)):
                return None
            arrays.append(array)
        return Message(said["number"], said["body"], tuple(arrays))

    def _fill(self, room: memoryview) -> bool:
        while room:
            read = self._reader.readinto(room)  # type: ignore[attr-defined]  # of every buffered reader
            if not read:
                return False
            room = room[read:]
        return True
