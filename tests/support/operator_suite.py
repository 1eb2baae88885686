"""The suite of an operator: MXNet, `evaluate`, ONNX Runtime and OpenVINO compute the same.

A test module derives a class from `OperatorSuite` and gives it cases.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

import hypothesis
import numpy as np
import pytest
from hypothesis.strategies import SearchStrategy

from dialects import written
from one_node import (
    Parameter,
    Value,
    assert_misshapen,
    assert_unsupported,
    node,
    run_mxnet,
    run_onnx,
    values_for as normal_values,
    variable,
)
from sshconvert.arrays import Array, DType
from sshconvert.cutting import cut
from sshconvert.errors import ShapeError
from sshconvert.evaluation import evaluate
from sshconvert.export import export
from sshconvert.graph import Dimensions, Entry, Graph, Shape
from sshconvert.mxnet.attributes import Attributes
from sshconvert.network import Network, parse_symbol, resolve
from sshconvert.onnx.model import OnnxModel
from sshconvert.operators.registry import OPERATORS
from sshconvert.validation import check_ir, check_ir_sizes, read_onnx
from sshtool.runtimes.mxnet import import_mxnet

Openvino: TypeAlias = Any
TOLERANCE: Final = 1e-5  # of the largest absolute value of the output
DOSE: Final = 5
LONG_DOSE: Final = 300


@dataclass(frozen=True)
class Case:
    """One node over variables of these shapes, by name and in order, with the attributes that `mx.sym` takes.

    Attributes:
        operator: MXNet's name or an alias.
        inputs: the shapes of the first inputs. The suite makes variables for the others, such as weights.
        attributes: as `mx.sym` takes them.
        dtypes: the types of inputs other than float32.
        values: makes values of some inputs in place of the seeded normal ones, from their shapes and a generator.
        tolerance: the largest difference relative to the output's largest absolute value; 0 for indices and orders.
        mxnet_differs: the reason for not comparing with MXNet, where MXNet contradicts itself.
        free: the axes of all inputs that may be free: by default the first, and the last two of images.

    """

    operator: str
    inputs: Mapping[str, Shape]
    attributes: Mapping[str, Value] = field(default_factory=dict)
    dtypes: Mapping[str, str] = field(default_factory=dict)
    values: Callable[[Mapping[str, Shape], np.random.Generator], Mapping[str, Array]] | None = None
    tolerance: float = TOLERANCE
    mxnet_differs: str = ""
    free: tuple[int, ...] | None = None

    @property
    def symbol(self) -> str:
        """The symbol JSON of the node, with a variable for each input that its class reads."""
        attributes = {key: str(value) for key, value in self.attributes.items()}
        operator = OPERATORS[self.operator].read(Attributes(attributes))
        names = [*self.inputs]
        names += (f"node_{name}" for name in operator.inputs[len(names) : operator.input_count()])
        outputs = tuple(Entry(len(names), output) for output in range(len(operator.output_names())))
        nodes = (*map(variable, names), node(self.operator, "node", range(len(names)), **attributes))
        return json.dumps(written(Graph(nodes, outputs, "model-symbol.json")))

    def network(self, inputs: Mapping[str, Shape] | None = None) -> Network:
        types: dict[str, DType] = {name: np.dtype(dtype) for name, dtype in self.dtypes.items()}
        return resolve(cut(parse_symbol(self.symbol)), inputs or self.inputs, dtypes=types)

    def arrays(self, shapes: Mapping[str, Shape]) -> dict[str, Array]:
        arrays = normal_values(shapes)
        if self.values:
            arrays |= self.values(shapes, np.random.default_rng(20))
        return {name: arrays[name].astype(self.dtypes.get(name, "float32")) for name in shapes}


def suite_case(name: str, operator: str, *shapes: Shape, **attributes: Value) -> Parameter:
    """Return a case over `data`, `other` and `third`. `Case` itself takes more options."""
    inputs = dict(zip(("data", "other", "third"), shapes, strict=False))
    return pytest.param(Case(operator, inputs, attributes), id=f"{operator} {name}")


class OperatorSuite:
    """The tests of one topic. A test class overrides the attributes."""

    cases: ClassVar[Sequence[Parameter]] = ()
    unsupported: ClassVar[Sequence[Parameter]] = ()  # pairs of a graph and the problem that the message names
    misshapen: ClassVar[Sequence[Parameter]] = ()  # a graph, the shapes of its inputs, and the problem
    random: ClassVar[SearchStrategy[Case] | None] = None

    @classmethod
    def generate(cls, metafunc: pytest.Metafunc) -> None:
        """Make the parameters of a test, for `pytest_generate_tests`."""
        if {"graph", "inputs"} <= set(metafunc.fixturenames):
            metafunc.parametrize(("graph", "inputs", "problem"), cls.misshapen)
        elif "graph" in metafunc.fixturenames:
            metafunc.parametrize(("graph", "problem"), cls.unsupported)
        elif "tested" in metafunc.fixturenames:
            metafunc.parametrize("tested", cls.cases)

    def test_it_computes_what_mxnet_computes(self, tested: Case, tmp_path: Path) -> None:
        assert_same_everywhere(tested, tmp_path)

    @pytest.mark.independent
    def test_with_free_dimensions_it_computes_the_same_at_every_size(self, tested: Case, tmp_path: Path) -> None:
        assert_same_at_every_size(tested, tmp_path)

    @pytest.mark.independent
    def test_unsupported_attributes_are_refused_with_file_and_node(self, graph: Graph, problem: str) -> None:
        assert_unsupported(graph, problem)

    @pytest.mark.independent
    def test_shapes_that_do_not_fit_are_refused(self, graph: Graph, inputs: Mapping[str, Shape], problem: str) -> None:
        assert_misshapen(graph, inputs, problem)

    def test_random_nodes_compute_what_mxnet_computes(self, tmp_path: Path, request: pytest.FixtureRequest) -> None:
        if self.random is None:
            pytest.skip("this topic has no random nodes")
        is_long = request.config.getoption("--long")
        if not is_long and not find_spec("mxnet"):
            pytest.skip("a short dose is for comparison with MXNet, which is not installed; run with --long")
        dose = LONG_DOSE if is_long else DOSE

        @hypothesis.settings(max_examples=dose, deadline=None, derandomize=True, database=None)
        @hypothesis.given(self.random)
        def check(tested: Case) -> None:
            assert_same_everywhere(tested, tmp_path)

        check()


def assert_same_everywhere(tested: Case, folder: Path) -> None:
    """Compare shapes, types and values of MXNet (where it is installed), `evaluate` and both runtimes."""
    network = tested.network()
    parameters = network.parameters(tested.inputs)
    values = tested.arrays({**tested.inputs, **parameters})
    exact = list(evaluate(network, values).values())
    model = export(network, {name: values[name] for name in parameters}, tested.inputs, name="test")
    computed = {
        "ONNX Runtime": run_onnx(model, folder, values),
        "OpenVINO": run_openvino(model, folder, values),
        **({"MXNet": run_mxnet_on(tested, network, values)} if find_spec("mxnet") and not tested.mxnet_differs else {}),
    }
    types = [network.dtype(entry) for entry in network.graph.outputs]
    for program, outputs in computed.items():
        assert [output.shape for output in outputs] == [array.shape for array in exact], program
        if program != "OpenVINO":  # it may narrow int64
            assert [output.dtype for output in outputs] == types, program
        for output, array in zip(outputs, exact, strict=True):
            assert_close(output, array, tested.tolerance, program)


def assert_close(output: Array, exact: Array, tolerance: float, program: str) -> None:
    if exact.dtype.kind != "f" or tolerance == 0:
        np.testing.assert_array_equal(output, exact.astype(output.dtype), err_msg=program)
        return
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(output[~finite], exact[~finite].astype(output.dtype), err_msg=program)
    scale = np.abs(exact[finite]).max(initial=0)
    np.testing.assert_allclose(output[finite], exact[finite], rtol=0, atol=tolerance * (scale or 1), err_msg=program)


def assert_same_at_every_size(tested: Case, folder: Path) -> None:
    """Export once for free dimensions, run at two sizes, and compare with an export for each size.

    Skips with the reason if the operator needs a fixed size, or if larger inputs do not fit.
    """
    free_axes = {
        name: tested.free if tested.free is not None else (0, 2, 3) if len(shape) == 4 else (0,)
        for name, shape in tested.inputs.items()
    }
    sizes = [
        {
            name: tuple(size + by[axis] * (axis in free_axes[name]) for axis, size in enumerate(shape))
            for name, shape in tested.inputs.items()
        }
        for by in ((0,) * 8, (1, 0, 8, 16, 0, 0, 0, 0), (3, 0, 5, 2, 0, 0, 0, 0))
    ]
    named: dict[str, Dimensions] = {
        name: tuple("abcdefgh"[axis] if axis in free_axes[name] else size for axis, size in enumerate(shape))
        for name, shape in tested.inputs.items()
    }
    try:
        networks = [tested.network(inputs) for inputs in sizes]
        parameters = tested.arrays(networks[0].parameters(tested.inputs))
        free = export(networks[0], parameters, named, name="test", larger=networks[1])
    except ShapeError as error:
        pytest.skip(str(error))
    if networks[0].parameters(tested.inputs) != networks[1].parameters(tested.inputs):
        pytest.skip("the parameters depend on the size")
    for network, inputs in zip(networks, sizes, strict=True):
        values = parameters | tested.arrays(inputs)
        fixed = run_onnx(export(network, parameters, inputs, name="test"), folder, values)
        for one, other in zip(run_onnx(free, folder, values), fixed, strict=True):
            np.testing.assert_array_equal(one, other)


def run_mxnet_on(tested: Case, network: Network, values: Mapping[str, Array]) -> list[Array]:
    """Run MXNet on the case's symbol, and compare the shapes and types that it infers."""
    mxnet = import_mxnet()
    symbol = mxnet.sym.load_json(tested.symbol)
    arguments, outputs, auxiliaries = symbol.infer_shape(**tested.inputs)
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    shapes = dict(zip(names, arguments + auxiliaries, strict=True))
    assert network.parameters({}).items() <= shapes.items()  # MXNet has labels too
    values = {name: values.get(name, np.zeros(shape, np.float32)) for name, shape in shapes.items()}
    assert list(network.output_shapes().values()) == outputs
    return run_mxnet(mxnet, symbol, values)


@functools.cache
def _openvino() -> Openvino:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})
    return core


def run_openvino(model: OnnxModel, folder: Path, inputs: Mapping[str, Array]) -> list[Array]:
    """Run a model on OpenVINO, in float32 and on one thread, with the optimisations of `sshconvert.ir`."""
    core = _openvino()
    model.write(folder / "model.onnx")
    graph = core.read_model(folder / "model.onnx")
    optimise = importlib.import_module("openvino._offline_transformations").apply_moc_transformations
    optimise(graph, cf=False, smart_reshape=True)
    if model.inputs:
        check_files(graph, folder)
    compiled = core.compile_model(graph, "CPU")
    result = compiled([inputs[name] for name in model.inputs])
    return [np.array(result[number]) for number in range(len(model.outputs))]


def check_files(graph: Openvino, folder: Path) -> None:
    """Check the ONNX file, and the IR that OpenVINO writes from it, as files from strangers."""
    read_onnx(folder / "model.onnx")
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    openvino.save_model(graph, folder / "model.xml", compress_to_fp16=False)
    check_ir(folder / "model.xml")
    check_ir_sizes(folder / "model.xml", graph)
