"""Runs one model on one image each time it is told to: `python worker.py mxnet FOLDER`, or `… artifact FILE`.

Prints a line of JSON when it is ready, after a first run, and one with its costs after each further run; a line on
stdin asks for it. Works in the peers' environment too.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIZE = 640


def plain_mxnet(folder: Path) -> Callable[[], object]:
    """As MXNet's tutorials do it."""
    import mxnet

    symbol = mxnet.sym.load(str(folder / "sshb-symbol.json"))
    arrays = mxnet.nd.load(str(folder / "sshb-0000.params"))
    arguments = {name[4:]: array for name, array in arrays.items()}
    arguments["data"] = mxnet.nd.array(image().transpose(2, 0, 1)[None])
    executor = symbol.bind(mxnet.cpu(), arguments, grad_req="null")
    return lambda: [value.asnumpy() for value in executor.forward(is_train=False)]


def artifact(path: Path) -> Callable[[], object]:
    from sshconvert.models.registry import load_model
    from sshtool.runtimes.loading import load

    runtime = load(path, load_model("ssh-mxnet"))
    images = image().astype(np.uint8)[None]
    return lambda: runtime.run(images)


def image() -> NDArray[np.float32]:
    return np.random.RandomState(0).randint(0, 256, (SIZE, SIZE, 3)).astype(np.float32)


def main(kind: str, path: str) -> None:
    run = {"mxnet": plain_mxnet, "artifact": artifact}[kind](Path(path))
    run()
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        cpu, start = time.process_time(), time.perf_counter()
        run()
        cost = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - start}
        cost["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps(cost) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
