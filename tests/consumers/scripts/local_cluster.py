"""Runs a LocalCluster of processes: prints its address, and sends signals to workers until its input ends."""

from __future__ import annotations

import os
import signal
import sys

from distributed import LocalCluster


def main() -> None:
    with LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)  # noqa: T201  # for the test
        for line in sys.stdin:
            name, number = line.split()
            process = list(cluster.workers.values())[int(number)].pid
            os.kill(process, signal.Signals[name])
            print(process, flush=True)  # noqa: T201  # as above


if __name__ == "__main__":
    main()
