"""The locks of the consumers' environments."""

from __future__ import annotations

import json
import re

import pytest

from environments import LOCKS, NODE

pytestmark = pytest.mark.independent


def test_each_requirement_of_a_consumer_is_pinned_with_hashes_and_no_address() -> None:
    names = {path.stem for path in LOCKS.iterdir()}
    assert names
    for name in names:
        assert (LOCKS / f"{name}.in").is_file()
        lock = (LOCKS / f"{name}.lock").read_text(encoding="utf-8")
        pins = re.findall(r"^\w[^ ]*==.*\n.*$", lock, re.MULTILINE)
        assert pins
        assert all(" \\\n    --hash=" in pin for pin in pins)
        assert "://" not in lock


def test_each_package_from_npm_is_pinned_with_a_hash_and_no_address() -> None:
    for lock in NODE.glob("*/package-lock.json"):
        packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
        assert all("integrity" in package for name, package in packages.items() if name)
        assert not any("resolved" in package for package in packages.values())
