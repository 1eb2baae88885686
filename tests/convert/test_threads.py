from __future__ import annotations

from collections.abc import Sequence

import pytest

from sshconvert import threads
from sshconvert.threads import in_threads


@pytest.mark.independent
@pytest.mark.parametrize("cores", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_part_is_done_once(cores: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: cores)
    done: list[int] = []
    in_threads(done.extend, range(count))
    assert sorted(done) == list(range(count))


@pytest.mark.independent
def test_an_error_in_any_thread_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)

    def work(parts: Sequence[int]) -> None:
        if 3 in parts:
            raise ValueError("part 3")

    with pytest.raises(ValueError, match="part 3"):
        in_threads(work, range(4))
