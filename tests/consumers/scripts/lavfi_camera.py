"""Runs sshtool with a test pattern of FFmpeg in place of the system's cameras: `lavfi_camera.py ARGUMENTS`.

The pattern is a device to FFmpeg, has no end, and gives 30 frames a second.
"""

from __future__ import annotations

import sys

from sshtool.main import main
from sshtool.video import naming

naming._DEVICES[sys.platform] = ("lavfi", "testsrc2=size=320x240:rate=30,realtime")
main()
