"""Guards against a green run that tested another environment than it says, or that skipped what it is there for."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

ENVIRONMENT = os.environ.get("SSHTOOL_TEST_ENVIRONMENT", "")
EXPECTED: dict[str, dict[str, str | None]] = {
    "reference": {"numpy": "1.26.", "mxnet": "1.9.1", "openvino": "2026."},
    "legacy": {"numpy": "1.26.", "mxnet": "1.9.1", "openvino": "2024.6.", "openvino-dev": "2024.6.0"},
    "modern": {"numpy": "2.", "mxnet": None, "openvino": "2026."},
}


@pytest.mark.skipif(not ENVIRONMENT, reason="SSHTOOL_TEST_ENVIRONMENT is set by .ci/run only")
def test_the_environment_is_what_it_is_called() -> None:
    for package, prefix in EXPECTED[ENVIRONMENT].items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = None
        assert (found is None) == (prefix is None), package
        assert found is None or found.startswith(prefix or ""), (package, found)
    assert (sys.version_info >= (3, 13)) == (ENVIRONMENT == "modern")
