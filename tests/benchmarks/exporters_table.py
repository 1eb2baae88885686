"""The results of `exporters.py` as tables: `exporters_table.py DIR [--json FILE] [--write]`, run like it.

`--write` puts the table and its summary between `<!-- exporters -->` and `<!-- end -->` in `convert/README.md`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import benchmark
import peers
import zoo
from exporters import LIMIT, MXNET, PROGRAMS, Result, read_results
from operator_table import README

EXACT: Final = 1e-5
CLOSE: Final = 1e-4
LONGEST_REASON: Final = 70
PLACE: Final = re.compile(r"(?<=<!-- exporters -->\n).*?(?=<!-- end -->)", re.DOTALL)
# The pairs whose costs are compared: what makes ONNX, and what makes IR.
RIVALS: Final = (("sshtool-onnx", "mx2onnx"), ("sshtool-openvino", "mo"))
# What surrounds the statement in a peer's message.
_NOISE: Final = re.compile(
    r"^sshtool convert: (\S+\.json: )?|^\[ ERROR \]\s*|Exception occurred during running replacer.*?\): "
    r"|onnxruntime\.capi\.\S+: \[ONNXRuntimeError\] : \d+ : |Load model from \S+ failed:|\S*/\S+/"
    r"|mxnet\.base\.|(MXNetError: )+|\[\d\d:\d\d:\d\d\] \S+?:\d+: "
)

Results = Mapping[tuple[str, str], Result]


def markdown(results: Results, circumstances: Mapping[str, str]) -> str:
    """Return the circumstances, the summary and the table of all networks."""
    facts = "; ".join(f"{key} {value}" for key, value in circumstances.items())
    ratios = [f"- {line}" for line in comparisons(results)]
    return "\n".join([f"{facts}.", "", *_aligned(summary(results)), "", *ratios, "", _table(results)]) + "\n"


def summary(results: Results) -> Iterator[tuple[str, ...]]:
    """Yield the rows of the summary: a program's counts, and its median costs where it converts."""
    names = networks(results)
    yield "program", "converted", "equal to 1e-5", "equal to 1e-4", "median CPU (s)", "median peak (MB)"
    yield (
        f"MXNet 1.9.1 runs {sum(_converted(results, name, MXNET) for name in names)} of {len(names)}",
        *("" for _ in "12345"),
    )
    for program in (each for each in PROGRAMS if each != MXNET):
        own = [results[name, program] for name in names if _converted(results, name, program)]
        matched = [str(sum(result.matches(limit) for result in own)) for limit in (EXACT, CLOSE)]
        costs = [statistics.median(getattr(each, part) for each in own) if own else 0 for part in ("cpu", "memory")]
        yield program, str(len(own)), *matched, f"{costs[0]:.2f}", f"{costs[1]:.0f}"


def comparisons(results: Results) -> Iterator[str]:
    """Yield the ratios of costs, over the networks that all programs convert."""
    common = [name for name in networks(results) if all(_converted(results, name, each) for each in PROGRAMS)]
    for ours, theirs in RIVALS if common else ():
        for part, what in (("cpu", "CPU"), ("memory", "Peak memory")):
            ratios = [getattr(results[name, ours], part) / getattr(results[name, theirs], part) for name in common]
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            yield f"{what} of {ours} to {theirs}: median {statistics.median(ratios):.3f} ({spread})."
    yield f"The ratios are those of the {len(common)} networks that all convert."


def networks(results: Results) -> list[str]:
    return sorted({network for network, _ in results})


def _converted(results: Results, network: str, program: str) -> bool:
    return (network, program) in results and results[network, program].converted


def _table(results: Results) -> str:
    programs = [program for program in PROGRAMS if program != MXNET]
    rows = [("network", *programs)]
    for name in networks(results):
        cells = (_cell(results.get((name, program))) for program in programs)
        rows.append((f"{name}{'' if _converted(results, name, MXNET) else ' †'}", *cells))
    note = f"A cell: difference; CPU seconds; peak MB. †: MXNet cannot run it. A conversion has {LIMIT} s of CPU."
    return "\n".join([note, "", *_aligned(rows)])


def _aligned(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, whose heads are the first row."""
    for number, row in enumerate(rows):
        yield f"| {' | '.join(row)} |"
        if number == 0:
            yield "|" + "---|" * len(row)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    if not result.converted:
        return f"✗ {_short(result.reason)}"
    cost = f"{result.cpu or 0:.1f}; {result.memory or 0:.0f}"
    if result.difference is None:
        is_wrong = result.mismatch and result.mismatch not in zoo.UNDEFINED.values()
        return f"{'≠ ' if is_wrong else ''}{_short(result.mismatch) or '—'}; {cost}"
    return f"{'' if result.matches(CLOSE) else '≠ '}{result.difference:.0e}; {cost}"


def _short(reason: str) -> str:
    text = _NOISE.sub("", reason).replace("|", "/").replace("<", "&lt;").strip()
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


def circumstances(results: Iterable[Result]) -> dict[str, str]:
    """Return dates, versions and processor."""
    dates = sorted({result.date for result in results})
    facts = benchmark.circumstances()
    kept = {key: facts[key] for key in ("cpu", "cores", "onnxruntime", "openvino")}
    return {"date": " to ".join(dict.fromkeys((dates[0], dates[-1]))), **kept, "peers": ", ".join(peers.REQUIREMENTS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path, help="--cache-dir of exporters.py")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--write", action="store_true", help="write the table into convert/README.md")
    options = parser.parse_args()
    results = read_results(options.cache)
    facts = circumstances(results.values())
    text = markdown(results, facts)
    if options.json:
        document = {
            "circumstances": facts,
            "summary": list(summary(results)),
            "ratios": list(comparisons(results)),
            "results": _documents(results),
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if options.write:
        README.write_text(PLACE.sub(lambda _: text, README.read_text("utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(text)


def _documents(results: Results) -> Sequence[Mapping[str, object]]:
    return [asdict(results[key]) for key in sorted(results)]


if __name__ == "__main__":
    main()
