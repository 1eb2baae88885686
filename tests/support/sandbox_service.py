"""A service for a sandbox child that behaves as a harmful model does."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

import numpy as np

from sshconvert.arrays import Array
from sshconvert.errors import ArtifactError
from sshtool.sandbox.child import Answer


def make() -> Any:
    return serve


def serve(body: dict[str, Any], arrays: tuple[Array, ...]) -> Answer:
    if body["do"] == "allocate":
        try:
            return {"sum": int(np.ones(body["bytes"], np.uint8)[-1])}, []
        except MemoryError as error:  # as runtimes have it
            raise ArtifactError(f"it cannot: {error}") from None
    if body["do"] == "sleep":
        time.sleep(body["seconds"])
    if body["do"] == "compute":  # natively, and without ever letting Python run
        ctypes.PyDLL(None).sleep(int(body["seconds"]))
    if body["do"] == "crash":
        os.kill(os.getpid(), body["signal"])
        time.sleep(60)  # another thread may be the one that gets it
    if body["do"] == "leave":
        os._exit(7)
    if body["do"] == "print":
        os.write(1, b"noise")
        print("more of it", flush=True)  # noqa: T201  # that is the point
    if body["do"] == "fail":
        raise ZeroDivisionError("an unexpected error")
    return {"echo": body}, list(arrays)
