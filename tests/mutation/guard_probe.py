"""What `guards.py` loads into pytest: it runs the tests that it is told to, in that order, and says how each went."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

PLAN: Final = "GUARD_PLAN"  # in the environment: a JSON file, {"tests": node ids, or null for all of them}
LOG: Final = "GUARD_LOG"  # a file, to which a JSON document a line is appended
CONTEXT: Final = "GUARD_CONTEXT"  # the test that runs, for coverage in the processes that it starts

# Fixtures of tests that are left out: MXNet takes seconds to import, and no reader needs it to refuse.
_SLOW_FIXTURES: Final = {"mxnet"}

# Opened once: some tests make it impossible to open a file.
_log_file: Final = os.open(os.environ.get(LOG, os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tests = json.loads(Path(os.environ[PLAN]).read_text(encoding="utf-8"))["tests"]
    order = None if tests is None else {test: number for number, test in enumerate(tests)}
    wanted = [item for item in items if not _SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))]
    if order is not None:
        wanted = sorted((item for item in wanted if item.nodeid in order), key=lambda item: order[item.nodeid])
    config.hook.pytest_deselected(items=[item for item in items if item not in set(wanted)])
    items[:] = wanted


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    _log(start=item.nodeid)
    os.environ[CONTEXT] = item.nodeid
    with contextlib.suppress(ImportError):
        import coverage

        if (current := coverage.Coverage.current()) is not None:
            current.switch_context(item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _log(test=report.nodeid, when=report.when, outcome=report.outcome, seconds=report.duration)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _log(broken=report.nodeid, why=report.longreprtext.strip().splitlines()[-1:])


def _log(**entry: object) -> None:
    os.write(_log_file, json.dumps(entry).encode() + b"\n")
