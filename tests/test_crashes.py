"""Verbs stopped at chosen moments (`crash_trials.py`) leave old files, new files or none, but never a part of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from crash_trials import JOBS, UNSHARED, make_inputs
from project import SUPPORT

pytestmark = pytest.mark.independent

Trial: TypeAlias = dict[str, Any]
Workshop: TypeAlias = Callable[[str], dict[str, list[Trial]]]


# What is done when everything is in place.
TIDYING: Final = ("os.remove", "os.rmdir", "fcntl.flock")

# For each job: how many moments of each way. Of kills, a few after renames come on top. The long run takes every
# operation.
DOSES: Final[dict[str, dict[str, dict[str, int]]]] = {
    "short": {
        "kills": {"event": 1},
        "signals": {"interrupt": 1},
        "limits": {"limit": 1},
        "disks": {"full": 1, "read-only": 1},
    },
    "long": {
        "kills": {"event": -1, "time": 25, "size": 20},
        "signals": {"interrupt": -1, "interrupt again": -1, "terminate": 20},
        "limits": {"limit": 20},
        "disks": {"full": 20, "read-only": 1},
    },
}

# The demo is of full size and runs in the long dose only; the others are slim.
DEMO: Final = "download --demo"
DEMO_DOSE: Final[dict[str, dict[str, int]]] = {
    "kills": {"event": -1, "time": 20, "size": 5},
    "signals": {"interrupt": 20, "terminate": 5},
    "limits": {"limit": 5},
    "disks": {"full": 5, "read-only": 1},
}
SLIM: Final = [job for job in JOBS if job != DEMO]
# Jobs write in the same ways, so that the short dose takes a full disk or a read-only one and a limit for each.
FULL: Final = SLIM[::2]
REFUSED: Final = SLIM[1::2]


def short_dose(job: str) -> dict[str, dict[str, int]]:
    """The moments of a job in the default suite."""
    dose = DOSES["short"]
    others = {"limits": {}, "disks": {"full": 1}} if job in FULL else {"disks": {"read-only": 1}}
    return dose | others


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("PIL")
    folder = tmp_path_factory.mktemp("inputs")
    make_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def can_mount(tmp_path_factory: pytest.TempPathFactory) -> bool:
    if shutil.which(UNSHARED[0]) is None:
        return False
    command = [*UNSHARED, "mount", "-t", "tmpfs", "none", str(tmp_path_factory.mktemp("mount"))]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def workshop(inputs: Path, can_mount: bool, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """`workshop("short")` gives the trials of each job. All are done in one process."""

    @cache
    def trials(dose: str) -> dict[str, list[Trial]]:
        long = {job: DEMO_DOSE if job == DEMO else DOSES["long"] for job in JOBS}
        doses = long if dose == "long" else {job: short_dose(job) for job in SLIM}
        ways = {
            job: {
                way: count
                for name, part in parts.items()
                for way, count in part.items()
                if name != "disks" or can_mount
            }
            for job, parts in doses.items()
        }
        work = tmp_path_factory.mktemp("work")
        command = [*(UNSHARED if can_mount else ()), sys.executable, str(SUPPORT / "crash_trials.py")]
        done = subprocess.run(
            [*command, str(inputs), str(work), json.dumps(ways)],
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # no signal of a trial reaches the tests
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(sys.path),
                "SSHTOOL_SOURCES": "",
                "XDG_CONFIG_HOME": str(work),
            },
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, list[Trial]] = {job: [] for job in JOBS}
        for trial in map(json.loads, done.stdout.splitlines()):
            found[trial["job"]].append(trial)
        return found

    return trials


def of(trials: Sequence[Trial], *ways: str) -> list[Trial]:
    chosen = [trial for trial in trials if trial["way"] in ways]
    assert {trial["way"] for trial in chosen} == set(ways)
    return chosen


def check_rerun(trial: Trial) -> None:
    """Whatever happened: the next run does the job, and nothing that the first one left remains."""
    assert trial["again"] == 0, trial
    assert trial["same"], trial
    assert trial["left_again"] == [], trial


def check_killed(trial: Trial) -> None:
    assert set(trial["outcomes"]) <= {"absent", "old", "new"}, trial
    check_rerun(trial)


def check_stopped(trial: Trial) -> None:
    """A process that could clean up did, and left what was there before, unless it had something new in its place."""
    allowed = {"absent", "new"} if trial["fresh"] else {"old", "new"}
    assert set(trial["outcomes"]) <= allowed, trial
    assert trial["left"] == [], trial
    check_rerun(trial)


def check_one_line(trial: Trial, *parts: str) -> None:
    assert trial["stderr"].count("\n") == 1, trial
    assert trial["stderr"].startswith("sshtool"), trial
    assert any(part in trial["stderr"] for part in parts), trial


def print_counts(job: str, trials: Sequence[Trial]) -> None:
    for way in dict.fromkeys(trial["way"] for trial in trials):
        chosen = [trial for trial in trials if trial["way"] == way]
        killed = sum(trial["status"] == -9 for trial in chosen)
        outcomes = dict(Counter(outcome for trial in chosen for outcome in trial["outcomes"]))
        sys.stdout.write(f"{job}: {way}: {len(chosen)} trials, {killed} SIGKILL, {outcomes}\n")


@pytest.mark.parametrize(
    "job", [pytest.param(job, marks=pytest.mark.long) if job == "download" else job for job in SLIM]
)
def test_a_killed_verb_leaves_old_or_new_or_nothing_and_a_rerun_succeeds(workshop: Workshop, job: str) -> None:
    for trial in of(workshop("short")[job], *DOSES["short"]["kills"]):
        check_killed(trial)


@pytest.mark.parametrize("job", SLIM)
def test_a_signal_ends_a_verb_with_its_code_and_one_line_and_cleans_up(workshop: Workshop, job: str) -> None:
    for trial in of(workshop("short")[job], *DOSES["short"]["signals"]):
        check_signalled(trial)


def check_signalled(trial: Trial) -> None:
    if trial["status"] == 0 and set(trial["outcomes"]) == {"new"} and trial["event"].startswith(TIDYING):
        # On a busy machine a signal may come too late: everything was in place, and only leftovers went away.
        check_stopped(trial)
        return
    assert trial["status"] == (143 if trial["way"] == "terminate" else 130), trial
    check_one_line(trial, "nothing was left half done")
    check_stopped(trial)


@pytest.mark.parametrize("job", REFUSED)
def test_a_limit_on_the_size_of_files_is_one_line_and_leaves_what_was_there(workshop: Workshop, job: str) -> None:
    for trial in of(workshop("short")[job], "limit"):
        check_refused(trial, "File too large", "OpenVINO")


@pytest.mark.parametrize("job", FULL)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(workshop: Workshop, job: str, can_mount: bool) -> None:
    if not can_mount:
        pytest.skip("no disk can be mounted here")
    for trial in of(workshop("short")[job], "full"):
        check_refused(trial, "No space left", "OpenVINO")


@pytest.mark.parametrize("job", REFUSED)
def test_a_read_only_disk_is_one_line_and_leaves_what_was_there(workshop: Workshop, job: str, can_mount: bool) -> None:
    if not can_mount:
        pytest.skip("no disk can be mounted here")
    for trial in of(workshop("short")[job], "read-only"):
        assert trial["status"] == 1
        check_refused(trial, "Read-only file system")


def check_refused(trial: Trial, *causes: str) -> None:
    assert trial["status"] in (0, 1), trial
    if trial["status"] == 1:
        check_one_line(trial, *causes)
        assert ".sshtool-" not in trial["stderr"], trial
    check_stopped(trial)


@pytest.mark.long
@pytest.mark.parametrize("job", JOBS)
def test_every_moment(workshop: Workshop, job: str) -> None:
    trials = workshop("long")[job]
    print_counts(job, trials)
    for trial in trials:
        if trial["way"] in DOSES["long"]["kills"]:
            check_killed(trial)
        elif trial["way"] in DOSES["long"]["signals"]:
            check_signalled(trial)
        else:
            check_refused(trial, "File too large", "OpenVINO", "No space left", "Read-only file system")
