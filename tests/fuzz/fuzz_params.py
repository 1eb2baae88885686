"""Fuzzes the `.params` reader: `python tests/fuzz/fuzz_params.py CORPUS -max_total_time=60`."""

from __future__ import annotations

from collections.abc import Callable

from fuzzing import fuzz


def load() -> Callable[[bytes], None]:
    from sshconvert.errors import ParamsError
    from sshconvert.mxnet.params import parse_params

    def check(raw: bytes) -> None:
        try:
            arrays = parse_params(raw, source="fuzz")
        except ParamsError as error:
            message = str(error)
        else:
            assert sum(array.nbytes for array in arrays.values()) < len(raw)
            return
        assert message.startswith("fuzz: offset ")
        assert "\n" not in message

    return check


if __name__ == "__main__":
    fuzz(load)
