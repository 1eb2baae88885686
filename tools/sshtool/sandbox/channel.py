"""Messages between two processes: a JSON object, followed by the bytes of arrays."""

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
    """A question or its answer, which have the same number."""

    number: int
    body: dict[str, Any]
    arrays: tuple[Array, ...] = ()


class Channel:
    """Two streams. Any thread may send, one may receive. Raises OSError after the end of the other process."""

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        self._reader, self._writer = reader, writer
        self._turn = threading.Lock()

    def send(self, message: Message) -> None:
        arrays = [np.ascontiguousarray(array) for array in message.arrays]
        types = [(array.dtype.str, array.shape) for array in arrays]
        line = json.dumps({"number": message.number, "arrays": types, "body": message.body})
        with self._turn:
            self._writer.write(f"{line}\n".encode())
            for array in arrays:
                self._writer.write(array.reshape(-1).view(np.uint8).data)
            self._writer.flush()

    def receive(self, *, most: float = math.inf) -> Message | None:
        """The next message; None at the end. Raises ValueError for arrays of more than `most` bytes."""
        line = self._reader.readline()
        if not line.endswith(b"\n"):
            return None
        header = json.loads(line)
        types = [(np.dtype(dtype), tuple(shape)) for dtype, shape in header["arrays"]]
        if sum(dtype.itemsize * math.prod(shape) for dtype, shape in types) > most:
            raise ValueError(f"the arrays have more than {most} bytes")
        arrays = []
        for dtype, shape in types:
            array = np.empty(shape, dtype)
            if array.size and not self._fill(memoryview(array.reshape(-1).view(np.uint8).data)):
                return None
            arrays.append(array)
        return Message(header["number"], header["body"], tuple(arrays))

    def _fill(self, buffer: memoryview) -> bool:
        while buffer:
            count = self._reader.readinto(buffer)  # type: ignore[attr-defined]  # every buffered reader has it
            if not count:
                return False
            buffer = buffer[count:]
        return True
