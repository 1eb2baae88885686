"""The program on a terminal, and what a terminal would obey in what it prints."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from sshconvert.messages import printable

# What rich itself writes: colours, erasing lines, moving between the lines of a table or a bar, hiding the cursor.
_RICH: Final = re.compile(r"\x1b\[[0-9;]*m|\x1b\[[012]?K|\x1b\[1?A|\x1b\[\?25[hl]|\r")


def on_a_terminal(command: Sequence[str | Path], columns: int = 80, typed: bytes = b"") -> tuple[int, str]:
    """Exit code of a program, and all that it wrote on a terminal of that width.

    `typed` answers its first prompt; the terminal is then the controlling one, which asks for passwords.
    """
    import fcntl
    import pty
    import struct
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "TERM")}

    def control() -> None:
        fcntl.ioctl(its, termios.TIOCSCTTY, 0)

    with subprocess.Popen(
        command,
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment | {"TERM": "xterm"},
        start_new_session=bool(typed),
        preexec_fn=control if typed else None,  # noqa: PLW1509  # there are no other threads
    ) as process:
        os.close(its)
        written = b""
        try:
            while data := os.read(ours, 1 << 16):
                written += data
                if typed and written.endswith(b": "):
                    os.write(ours, typed)
                    typed = b""
        except OSError:  # so Linux says that the other end is closed
            pass
        finally:
            os.close(ours)
    return process.returncode, written.decode()


def obeyed(written: str, *, by_rich: bool = False) -> list[str]:
    """The lines in which something is left that a terminal obeys; with `by_rich`, apart from what rich writes."""
    text = _RICH.sub("", written.replace("\r\n", "\n")) if by_rich else written
    return [line for line in text.split("\n") if printable(line) != line]
