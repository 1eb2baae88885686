"""Where the project's own files lie."""

from __future__ import annotations

from pathlib import Path
from typing import Final

SUPPORT: Final = Path(__file__).parent
TESTS: Final = SUPPORT.parent
ROOT: Final = TESTS.parent
SHARED: Final = ROOT.parent / "shared"  # real checkpoints and reference figures, which are no part of the project
