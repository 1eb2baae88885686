"""MXNet's symbol JSON, in every dialect from 0.8 to 1.9, as one `Graph`.

=========  ============================================  =========================  ============================
writer     node fields                                   input entries              top level
=========  ============================================  =========================  ============================
0.8        op, param, name, inputs, backward_source_id,  [node, output]             nodes, arg_nodes, heads
           attr
0.9-0.12   op, name, attr, inputs, control_deps          [node, output, version]    + node_row_ptr, attrs
>= 1.0     op, name, attrs, inputs, control_deps         the same                   the same
=========  ============================================  =========================  ============================

The version, major * 10000 + minor * 100 + patch, is in `attrs.mxnet_version`; a file without it has version 800. The
parser upgrades older files as MXNet does (`src/nnvm/legacy_json_util.cc`): hidden keys, auxiliary inputs that 0.8
leaves out, attributes with a new meaning. It replaces aliases by the operator's one name.

MXNet's own loader checks next to nothing. This parser checks the place and the type of each value. Nodes read only
earlier nodes, so the graph has no cycles. The parser limits the size of the file and the number of values first, so
work and memory are proportional to the file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NoReturn

from sshconvert.errors import SymbolError
from sshconvert.graph import VARIABLE, Entry, Graph, Node
from sshconvert.messages import listed, shown, without_surrogates
from sshconvert.recognition import EMPTY, SYMBOL, recognised
from sshconvert.schema import refuse_constant, require_unique
from sshconvert.snapshot import Snapshot, take_snapshot

OLDEST_VERSION: Final = 800
NEWEST_VERSION: Final = 10999
MAX_BYTES: Final = 16 * 1024 * 1024
# Brackets and commas. A node has about 16, so 12,000 nodes fit; a value takes up to 250 bytes of memory.
MAX_VALUES: Final = 200_000
MAX_DEPTH: Final = 16  # five are in use
MAX_NAME: Final = 256
MAX_DIGITS: Final = 19  # of an integer of 64 bits

# Keys for the trainer and the scheduler. No operator reads them, and MXNet stores them as `__key__`.
HIDDEN_KEYS: Final = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage", "profiler_scope")

CONTROL_FLOW: Final = ("_foreach", "_while_loop", "_cond")

_TOP_FIELDS: Final = {"nodes", "arg_nodes", "heads", "node_row_ptr", "attrs"}
_NODE_FIELDS: Final = {"op", "name", "inputs", "param", "attr", "attrs", "backward_source_id", "control_deps"}


def snapshot_symbol(path: Path) -> Snapshot:
    """Read a symbol JSON file's bytes, with their hash. Raises SymbolError if reading fails or the file changes."""
    return take_snapshot(path, SymbolError, limit=MAX_BYTES, check=SymbolParser(str(path)).check_kind)


@dataclass(frozen=True, slots=True)
class Signature:
    """An operator as the parser sees it: its one name, and MXNet's names of its inputs.

    The last `auxiliaries` inputs are auxiliary states. `old_defaults` are attribute values that meant the default
    before MXNet 0.9.5.
    """

    name: str
    inputs: tuple[str, ...] = ()
    auxiliaries: int = 0
    old_defaults: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    """A node while the upgrades may still change it."""

    operator: str
    name: str
    attributes: dict[str, str]
    inputs: list[_Draft] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)  # output number of each input, beside `inputs`

    @property
    def is_variable(self) -> bool:
        return self.operator == VARIABLE


class SymbolParser:
    """Parses symbol JSON. Messages begin with `source`; `signatures` are by the operators' names and aliases."""

    def __init__(self, source: str, signatures: Mapping[str, Signature] = MappingProxyType({})) -> None:
        self.source, self._signatures = source, signatures

    def fail(self, place: str, problem: str) -> NoReturn:
        self.refuse(place, f"{problem}; get the file again or save the symbol anew")

    def refuse(self, place: str, problem: str) -> NoReturn:
        raise SymbolError(f"{self.source}: {place}: {problem}")

    def parse(self, text: str | bytes) -> Graph:
        """Parse and upgrade a symbol. Raises SymbolError with the file, the node and the problem."""
        document = self.fields(self.load(text), "the file", _TOP_FIELDS)
        version = self.version(document.get("attrs", {}))
        drafts: list[_Draft] = []
        names: set[str] = set()
        nodes = self.list_of(document, "nodes")
        self.refuse_subgraphs(nodes)
        for index, raw in enumerate(nodes):
            draft = self.node(index, raw, drafts)
            if draft.is_variable:
                if draft.name in names:
                    self.fail(f"node {index}", f"an earlier variable has the name {draft.name!r}")
                names.add(draft.name)
            drafts.append(draft)
        variables = [self.index(item, "arg_nodes", len(drafts)) for item in self.list_of(document, "arg_nodes")]
        if variables != [index for index, draft in enumerate(drafts) if draft.is_variable]:
            self.fail("arg_nodes", "is not the list of all nodes whose op is 'null'")
        heads = [self.entry(item, f"head {i}", drafts) for i, item in enumerate(self.list_of(document, "heads"))]
        if not heads:
            self.fail("heads", "is empty, so the network has no output")
        self.check_row_pointers(document, drafts, heads)
        upgraded = self.upgrade(drafts, version, names)
        outputs = [(drafts[head.node], head.output) for head in heads]
        self.name_operators(upgraded, [draft for draft, _ in outputs])
        return self.freeze(upgraded, outputs)

    def load(self, text: str | bytes) -> Any:
        most = MAX_BYTES if text.isascii() else MAX_BYTES // 4  # Python takes up to four bytes for a character
        if len(text) > most:
            self.fail("the file", f"is larger than {most} bytes, far more than any symbol needs")
        if isinstance(text, bytes):
            self.check_kind(text)
        try:
            # Without decoding, `json` guesses at UTF-16 and UTF-32, accepts surrogates, and skips a byte order mark.
            text = text.decode() if isinstance(text, bytes) else text
        except UnicodeDecodeError as error:
            self.fail("the file", f"is not valid JSON (byte {error.start} is not UTF-8)")
        if sum(map(text.count, "[{,")) > MAX_VALUES:
            self.fail("the file", f"holds more than {MAX_VALUES} values, far more than any symbol needs")
        try:
            document = json.loads(
                text, object_pairs_hook=require_unique, parse_constant=refuse_constant, parse_int=self.integer
            )
        except ValueError as error:
            self.fail("the file", f"is not valid JSON ({error})")
        except RecursionError:  # at a depth that depends on the version of Python
            self.fail("the file", f"is nested more than {MAX_DEPTH} deep")
        if _depth_exceeds(document, MAX_DEPTH):
            self.fail("the file", f"is nested more than {MAX_DEPTH} deep")
        return document

    def check_kind(self, head: bytes) -> None:
        description = recognised(head)
        if description not in ("", EMPTY, SYMBOL):
            self.fail("the file", f"is {description}, and no symbol JSON")

    def integer(self, digits: str) -> int:
        if len(digits) > MAX_DIGITS:  # before the conversion, which takes quadratic time
            self.fail("the file", f"the number {shown(digits)} has {len(digits)} digits")
        return int(digits)

    def version(self, attributes: Any) -> int:
        pair = self.fields(attributes, "attrs").get("mxnet_version", ["int", OLDEST_VERSION])
        if not isinstance(pair, list) or len(pair) != 2 or pair[0] != "int" or not _is_int(pair[1]):
            self.fail("attrs.mxnet_version", f"expected ['int', number], found {shown(pair)}")
        self.check_globals(attributes)
        version = int(pair[1])
        if not OLDEST_VERSION <= version <= NEWEST_VERSION:
            self.fail(
                "attrs.mxnet_version", f"expected {OLDEST_VERSION} (0.8) to {NEWEST_VERSION} (1.9.99), found {version}"
            )
        return version

    def check_globals(self, attributes: Mapping[str, Any]) -> None:
        for key, value in attributes.items():
            # With NumPy shapes a 0 in a Reshape or a weight's shape means a dimension of size 0, not "unknown".
            if key == "is_np_shape" and value not in (["int", 0], ["bool", False]):
                self.fail("attrs.is_np_shape", "symbols with NumPy shapes are not supported")
            if key not in ("is_np_shape", "mxnet_version"):
                self.fail("attrs", f"unknown key {shown(key)}")

    def refuse_subgraphs(self, nodes: list[Any]) -> None:
        """Refuse nodes that hold graphs: MXNet's control flow, or parts that it quantized or fused."""
        holders = [(index, raw) for index, raw in enumerate(nodes) if isinstance(raw, dict) and "subgraphs" in raw]
        if not holders:
            return
        kinds = Counter(shown(raw.get("op")) for _, raw in holders)
        counts = listed([f"{count} of {kind}" for kind, count in kinds.most_common()], ", ")
        if any(raw.get("op") in CONTROL_FLOW for _, raw in holders):
            reason = "control flow is not supported; export the network without loops and conditions"
        else:
            reason = "MXNet quantized or fused the network; give the original checkpoint, and convert that with "
            reason += "--precision INT8"
        self.refuse(f"node {holders[0][0]}", f"holds subgraphs, {counts} in all: {reason}")

    def node(self, index: int, raw: Any, earlier: list[_Draft]) -> _Draft:
        place = f"node {index}"
        fields = self.fields(raw, place, _NODE_FIELDS)
        operator = self.string(fields, "op", place)
        name = self.string(fields, "name", place, may_be_empty=operator != VARIABLE)
        place = f"node {index} ({name})"
        if fields.get("control_deps", []) != []:
            self.fail(place, "control dependencies are not supported")
        source = fields.get("backward_source_id", -1)
        if not _is_int(source) or source != -1:
            self.fail(
                place,
                f"backward_source_id {shown(source)} marks a gradient node, which inference does not have",
            )
        draft = _Draft(self.signature(operator).name, name, self.attributes(fields, place))
        for number, item in enumerate(self.list_of(fields, "inputs", place)):
            entry = self.entry(item, f"{place}, input {number}", earlier)
            draft.inputs.append(earlier[entry.node])
            draft.outputs.append(entry.output)
        if draft.is_variable and draft.inputs:
            self.fail(place, "a variable cannot have inputs")
        return draft

    def attributes(self, fields: Mapping[str, Any], place: str) -> dict[str, str]:
        merged: dict[str, str] = {}
        for key in ("param", "attr", "attrs"):
            for name, value in self.fields(fields.get(key, {}), f"{place}, {key}").items():
                self.check_name(name, f"{place}, {key}", "attribute")
                if not isinstance(value, str):
                    self.fail(place, f"attribute {name!r} is {shown(value)}, not a string")
                if without_surrogates(value) != value:
                    self.fail(place, f"attribute {name!r} is {shown(value)}, with half a surrogate pair")
                if merged.setdefault(name, value) != value:
                    self.fail(place, f"attribute {name!r} is both {shown(merged[name])} and {shown(value)}")
        return merged

    def entry(self, item: Any, place: str, drafts: list[_Draft]) -> Entry:
        is_numbers = isinstance(item, list) and all(_is_int(part) and part >= 0 for part in item)
        if not is_numbers or len(item) not in (2, 3):
            self.fail(place, f"expected [node, output] or [node, output, version], found {shown(item)}")
        node, output = item[:2]
        if node >= len(drafts):
            self.fail(place, f"refers to node {node}, which is not before it")
        if drafts[node].is_variable and output != 0:
            self.fail(place, f"refers to output {output} of the variable {drafts[node].name!r}, which has one")
        return Entry(node, output)

    def check_row_pointers(self, document: Mapping[str, Any], drafts: list[_Draft], heads: list[Entry]) -> None:
        """Check the references against `node_row_ptr`, whose differences are the nodes' numbers of outputs."""
        if "node_row_ptr" not in document:
            return
        pointers = self.list_of(document, "node_row_ptr")
        if not all(_is_int(item) for item in pointers) or not all(begin < end for begin, end in pairwise(pointers)):
            self.fail("node_row_ptr", f"expected rising numbers, found {shown(pointers)}")
        if len(pointers) != len(drafts) + 1 or pointers[0] != 0:
            self.fail("node_row_ptr", f"expected {len(drafts) + 1} numbers from 0, found {shown(pointers)}")
        counts = {id(draft): end - begin for draft, (begin, end) in zip(drafts, pairwise(pointers), strict=True)}
        reads = [
            (f"node {index} ({draft.name}), input {number}", node, output)
            for index, draft in enumerate(drafts)
            for number, (node, output) in enumerate(zip(draft.inputs, draft.outputs, strict=True))
        ]
        reads += [(f"head {number}", drafts[head.node], head.output) for number, head in enumerate(heads)]
        for place, node, output in reads:
            if output >= counts[id(node)]:
                self.fail(place, f"refers to output {output} of {node.name!r}, which has {counts[id(node)]}")

    def index(self, item: Any, place: str, limit: int) -> int:
        if not _is_int(item) or not 0 <= item < limit:
            self.fail(place, f"expected node numbers below {limit}, found {shown(item)}")
        return int(item)

    def fields(self, value: Any, place: str, known: set[str] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail(place, f"expected an object, found {type(value).__name__}")
        unknown = sorted(value.keys() - known) if known else []
        if unknown:
            self.fail(place, f"unknown fields {shown(unknown)}")
        return value

    def list_of(self, fields: Mapping[str, Any], key: str, place: str = "the file") -> list[Any]:
        value = fields.get(key)
        if not isinstance(value, list):
            self.fail(place, f"{key!r} is missing or not a list")
        return value

    def string(self, fields: Mapping[str, Any], key: str, place: str, *, may_be_empty: bool = False) -> str:
        value = fields.get(key)
        if not isinstance(value, str) or not (value or may_be_empty):
            self.fail(place, f"{key!r} is missing, empty or not a string")
        self.check_name(value, place, key)
        return value

    def check_name(self, name: str, place: str, role: str) -> None:
        """Refuse names with line breaks, NUL or lone surrogates: ONNX files and messages repeat the names."""
        if len(name) > MAX_NAME or not name.isprintable():
            self.fail(place, f"{role} {shown(name)} is longer than {MAX_NAME} characters or not printable")

    def signature(self, operator: str) -> Signature:
        return self._signatures.get(operator) or Signature(operator)

    def upgrade(self, drafts: list[_Draft], version: int, names: set[str]) -> list[_Draft]:
        upgraded: list[_Draft] = []
        for draft in drafts:
            _hide_keys(draft, self.signature(draft.operator).inputs)
            if version < 905:
                old = self.signature(draft.operator).old_defaults
                draft.attributes = {key: value for key, value in draft.attributes.items() if old.get(key) != value}
            if version < 900:
                upgraded.extend(self.missing_auxiliaries(draft, names))
            upgraded.append(draft)
        return upgraded

    def missing_auxiliaries(self, draft: _Draft, names: set[str]) -> list[_Draft]:
        signature = self.signature(draft.operator)
        missing = signature.inputs[len(draft.inputs) :]
        if len(missing) > signature.auxiliaries:
            return []  # `read_operators` reports the other missing inputs
        prefix = f"{draft.name}_" if draft.name else ""
        added = [_Draft(VARIABLE, f"{prefix}{argument}", dict(draft.attributes)) for argument in missing]
        for variable in added:
            if variable.name in names:
                self.fail(draft.name, f"another variable has the name of its state {variable.name!r}")
            names.add(variable.name)
            draft.inputs.append(variable)
            draft.outputs.append(0)
        return added

    def name_operators(self, drafts: list[_Draft], outputs: list[_Draft]) -> None:
        """Give each operator a unique name that is the same in every run.

        Variables keep their names, because MXNet addresses them by name. Of operators with the same name, the first
        output keeps it, or else the first operator, and the next become `name_1`, `name_2`. An operator without a name
        gets one from its kind and place.
        """
        owners = {draft.name: draft for draft in drafts if draft.is_variable}
        for output in outputs:
            if output.name and owners.setdefault(output.name, output).is_variable is not output.is_variable:
                self.fail("heads", f"an output and a variable have the same name {output.name!r}")
        taken = {draft.name for draft in drafts}
        counts: Counter[str] = Counter()
        for index, draft in enumerate(drafts):
            if draft.name and owners.setdefault(draft.name, draft) is draft:
                continue
            base = draft.name or f"{draft.operator.lower()}{index}"
            name = base
            while name in taken:
                counts[base] += 1
                name = f"{base}_{counts[base]}"
            taken.add(name)
            draft.name = name

    def freeze(self, drafts: list[_Draft], heads: list[tuple[_Draft, int]]) -> Graph:
        numbers = {id(draft): number for number, draft in enumerate(drafts)}

        def entries(ends: Iterable[tuple[_Draft, int]]) -> tuple[Entry, ...]:
            return tuple(Entry(numbers[id(draft)], output) for draft, output in ends)

        nodes = tuple(
            Node(
                draft.operator,
                draft.name,
                MappingProxyType(draft.attributes),
                entries(zip(draft.inputs, draft.outputs, strict=True)),
            )
            for draft in drafts
        )
        return Graph(nodes, entries(heads), self.source)


def _hide_keys(draft: _Draft, inputs: tuple[str, ...]) -> None:
    """Turn `lr_mult` into `__lr_mult__`, and `weight_lr_mult` into `__lr_mult__` of the variable `weight`."""
    for name in list(draft.attributes):
        key = next((key for key in HIDDEN_KEYS if name == key or name.endswith("_" + key)), None)
        if key is None:
            continue
        if name == key:
            draft.attributes[f"__{key}__"] = draft.attributes.pop(name)
            continue
        arguments = dict(zip(inputs, draft.inputs, strict=False))
        variable = arguments.get(name.removesuffix("_" + key))
        if variable is not None and variable.is_variable:
            variable.attributes[f"__{key}__"] = draft.attributes.pop(name)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _depth_exceeds(document: Any, limit: int) -> bool:
    level: list[Any] = [[document]]
    for _ in range(limit + 1):
        parts = [part.values() if isinstance(part, dict) else part for part in level]
        level = [inner for part in parts for inner in part if isinstance(inner, dict | list)]
    return bool(level)
