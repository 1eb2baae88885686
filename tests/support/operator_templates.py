"""A template for each operator: random inputs and attributes of one node, for the networks of `mixed_graphs`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import numpy as np

from mixed_graphs import Builder, Template, Tensor, UnfitError
from sshconvert.graph import Shape
from sshconvert.operators.registry import OPERATORS

Maker: TypeAlias = Callable[[Builder, str], object]

_TEMPLATES: Final[dict[str, Maker]] = {}


def _of(*names: str) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        _TEMPLATES.update(dict.fromkeys(names, maker))
        return maker

    return add


# --- element by element ---------------------------------------------------------------------------------------------

_EVERYWHERE: Final = (  # noqa: SIM905  # shorter than a list
    "sigmoid softsign relu hard_sigmoid Dropout sin cos arctan sinh cosh tanh arcsinh degrees radians"
    " erf exp expm1 cbrt identity _copy BlockGrad"
).split()
_INTEGERS_TOO: Final = (  # noqa: SIM905  # shorter than a list
    "abs sign negative square logical_not round rint ceil floor trunc fix zeros_like ones_like shape_array size_array"
).split()
_WITHIN: Final = {
    "sqrt": (0.3, 9), "rsqrt": (0.4, 4), "rcbrt": (0.4, 4), "reciprocal": (0.4, 3), "log": (0.3, 9), "log10": (0.3, 9),
    "log2": (0.3, 9), "log1p": (-0.6, 9), "arcsin": (-0.8, 0.8), "arccos": (-0.8, 0.8), "arctanh": (-0.8, 0.8),
    "arccosh": (1.3, 9), "tan": (-1, 1), "gamma": (0.5, 5), "gammaln": (0.5, 5), "erfinv": (-0.8, 0.8),
}  # fmt: skip


def _elementwise(name: str) -> Maker:
    if name in _WITHIN:
        return lambda g, name: g.apply(name, g.between(*_WITHIN[name]))
    if name in _INTEGERS_TOO:
        return lambda g, name: g.apply(name, g.operand())
    return lambda g, name: g.apply(name, g.tensor())


for _name in (*_EVERYWHERE, *_INTEGERS_TOO, *_WITHIN):
    _TEMPLATES[_name] = _elementwise(_name)


@_of("Activation")
def _activation(g: Builder, name: str) -> None:
    g.apply(name, g.tensor(), act_type=g.random.choice(("relu", "sigmoid", "tanh", "softrelu", "softsign")))


@_of("LeakyReLU")
def _leaky(g: Builder, name: str) -> None:
    kind = g.random.choice(("leaky", "prelu", "elu", "selu", "gelu", "rrelu"))
    g.apply(name, g.tensor((2, 3, 4, 5)), act_type=kind, **({"slope": 0.1} if kind in ("leaky", "elu") else {}))


@_of("clip")
def _clip(g: Builder, name: str) -> None:
    g.apply(name, g.operand(), a_min=g.random.choice((-1, -0.5, 0)), a_max=g.random.choice((0.25, 1, 6)))


@_of("smooth_l1")
def _smooth(g: Builder, name: str) -> None:
    g.apply(name, g.tensor(), scalar=g.random.choice((0.5, 1, 3)))


@_of("Cast", "amp_cast")
def _cast(g: Builder, name: str) -> None:
    if name == "amp_cast":
        g.apply(name, g.tensor() if g.flag() else g.integers(-4, 9, g.shape(2), "int32"), dtype="float32")
        return
    dtype = g.random.choice(("float32", "int32", "int64", "int8", "uint8"))
    g.apply(name, g.between(0, 100) if dtype == "uint8" else g.operand(), dtype=dtype)


@_of("amp_multicast")
def _multicast(g: Builder, name: str) -> None:
    g.apply(name, g.tensor(), g.tensor(), num_outputs=2)


def _scalar(g: Builder, name: str) -> None:
    key = name.strip("_").removesuffix("_scalar")
    data = g.between(0.3, 4) if key in ("power", "rpower", "rdiv", "rmod") else g.operand()
    choices = (0.5, 2, 3) if key in ("power", "rpower", "div", "mod", "rmod", "rdiv") else (-2, 0.5, 1, 3)
    g.apply(name, data, scalar=g.random.choice(choices if data.is_float else (2, 3)))


def _binary(g: Builder, name: str) -> None:
    key = name.removeprefix("broadcast_").removeprefix("elemwise_").strip("_")
    positive = key in ("power", "div", "mod")
    lhs = g.between(0.3, 4) if positive else g.operand()
    shape = lhs.shape
    if name.startswith("broadcast_"):
        shape = tuple(1 if g.random.random() < 0.4 else size for size in shape)[
            g.random.choice((0, 0, lhs.rank // 2)) :
        ]
    if positive:
        same = [t for t in g.tensors if t.is_float and t.shape == shape and 0.3 <= t.value.min() <= t.value.max() <= 4]
        rhs = g.random.choice(same) if same and g.flag() else g.made(g.numbers.uniform(0.3, 4, shape))
    else:
        rhs = g.like(lhs, shape)
    pair = (rhs, lhs) if name.startswith("broadcast_") and g.flag() else (lhs, rhs)
    g.apply(name, *pair)


for _name in dict.fromkeys(kind.name for kind in OPERATORS.values()):
    if _name.endswith("_scalar"):
        _TEMPLATES[_name] = _scalar
_KEYS: Final = (  # noqa: SIM905  # shorter than a list
    "add sub mul div mod power maximum minimum hypot equal not_equal greater greater_equal lesser"
    " lesser_equal logical_and logical_or logical_xor"
).split()
for _key in _KEYS:
    for _name in (f"broadcast_{_key}", f"elemwise_{_key}", f"_{_key}"):
        _TEMPLATES[_name] = _binary


@_of("add_n")
def _add_n(g: Builder, name: str) -> None:
    first = g.tensor()
    count = g.random.randint(1, 4)
    g.apply(name, first, *(g.like(first) for _ in range(count - 1)), num_args=count)


# --- layers ---------------------------------------------------------------------------------------------------------


def _divisor(g: Builder, number: int) -> int:
    return g.random.choice([size for size in range(1, number + 1) if number % size == 0])


def _filters(g: Builder, data: Tensor, largest: int) -> dict[str, Any]:
    axes = data.rank - 2
    groups = _divisor(g, data.shape[1])
    return {
        "kernel": tuple(g.random.randint(1, largest) for _ in range(axes)),
        "stride": tuple(g.random.randint(1, 2) for _ in range(axes)),
        "dilate": tuple(g.random.choice((1, 1, 2)) for _ in range(axes)),
        "pad": tuple(g.random.randint(0, 2) for _ in range(axes)),
        "num_filter": groups * g.random.randint(1, 3),
        "num_group": groups,
        "no_bias": g.flag(),
    }


@_of("Convolution", "Convolution_v1")
def _convolution(g: Builder, name: str) -> None:
    data = g.tensor((4, 4, 3, 5))
    g.apply(name, data, **_filters(g, data, 3))


@_of("Deconvolution")
def _deconvolution(g: Builder, name: str) -> None:
    data = g.tensor((4, 4, 3))
    a = _filters(g, data, 4)
    a |= {"adj": tuple(g.random.randrange(stride) for stride in a["stride"])}
    g.apply(name, data, **a)


@_of("_contrib_DeformableConvolution", "_contrib_ModulatedDeformableConvolution")
def _deformable(g: Builder, name: str) -> None:
    data = g.tensor(4, lambda t: min(t.shape[2:]) > 2)
    a = _filters(g, data, 3)
    groups = _divisor(g, math.gcd(data.shape[1], a["num_filter"]))
    a["dilate"] = (1, 1)
    spans = zip(data.shape[2:], a["kernel"], a["stride"], a["pad"], strict=True)
    windows = tuple((size + 2 * pad - kernel) // stride + 1 for size, kernel, stride, pad in spans)
    if min(windows) < 1:
        raise UnfitError("the kernel is too large")
    samples = math.prod(a["kernel"])
    moves = g.made(g.numbers.uniform(-1, 1, (data.shape[0], groups * samples * 2, *windows)))
    mask = [g.made(g.numbers.uniform(0, 1, (data.shape[0], groups * samples, *windows)))] if "Modulated" in name else []
    g.apply(name, data, moves, *mask, num_deformable_group=groups, **a)


@_of("Pooling", "Pooling_v1")
def _pooling(g: Builder, name: str) -> None:
    data = g.tensor(4 if name == "Pooling_v1" else (4, 4, 3, 5))
    kind = g.random.choice(("max", "avg", "sum") if name == "Pooling_v1" else ("max", "avg", "sum", "lp"))
    more = {"p_value": g.random.choice((1, 2, 3))} if kind == "lp" else {}
    if g.random.random() < 0.2:
        g.apply(name, data, pool_type=kind, global_pool=True, kernel=(1,) * (data.rank - 2), **more)
        return
    full = g.random.random() < 0.3
    kernel, stride, pad = [], [], []
    for size in data.shape[2:]:
        kernel.append(g.random.randint(1, min(3, size)))
        stride.append(g.random.randint(1, kernel[-1]))
        pad.append(0 if full else g.random.randint(0, (kernel[-1] - 1) // 2))
        if full and (size - kernel[-1]) % stride[-1]:
            kind = "max"
    more = more if kind == "lp" else {}
    convention = "full" if full else "valid"
    a = {"kernel": tuple(kernel), "stride": tuple(stride), "pad": tuple(pad), "pooling_convention": convention}
    g.apply(name, data, pool_type=kind, **a, **more)


@_of("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm")
def _batch_norm(g: Builder, name: str) -> None:
    more = {"key": "group"} if "Sync" in name else {}
    g.apply(name, g.tensor((2, 3, 4, 5)), eps=g.random.choice((1e-5, 1e-3)), fix_gamma=g.flag(), **more)


def _varies(tensor: Tensor, *axes: int) -> bool:
    """Return whether the values along these axes differ: a deviation of 0 would be that of rounding."""
    deviations = tensor.value.std(axis=axes)
    return bool((deviations > 0.02 * np.abs(tensor.value).max()).all())


@_of("InstanceNorm")
def _instance_norm(g: Builder, name: str) -> None:
    g.apply(name, g.tensor((3, 4), lambda t: _varies(t, *range(2, t.rank))), eps=1e-3)


@_of("LayerNorm")
def _layer_norm(g: Builder, name: str) -> None:
    data = g.tensor((2, 3, 4))
    axis = g.axis(data)
    if not _varies(data, axis):
        raise UnfitError("the values are alike")
    g.apply(name, data, axis=axis, eps=1e-3)


@_of("GroupNorm")
def _group_norm(g: Builder, name: str) -> None:
    data = g.tensor((3, 4), lambda t: _varies(t, *range(2, t.rank)))
    g.apply(name, data, num_groups=_divisor(g, data.shape[1]), eps=1e-3)


@_of("LRN")
def _lrn(g: Builder, name: str) -> None:
    g.apply(name, g.tensor(4), nsize=g.random.choice((1, 3, 5)), alpha=0.01, beta=0.75, knorm=2)


@_of("L2Normalization")
def _l2(g: Builder, name: str) -> None:
    g.apply(name, g.tensor((3, 4)), mode=g.random.choice(("instance", "channel", "spatial")), eps=1e-4)


@_of("FullyConnected")
def _dense(g: Builder, name: str) -> None:
    g.apply(name, g.tensor((2, 3, 4)), num_hidden=g.random.randint(1, 8), no_bias=g.flag(), flatten=g.flag())


@_of("RNN")
def _rnn(g: Builder, name: str) -> None:
    mode = g.random.choice(("lstm", "gru", "rnn_relu", "rnn_tanh"))
    data = g.tensor(3, lambda t: bool(np.abs(t.value).max() < 30))
    a = {"bidirectional": g.flag(), "state_outputs": g.flag(), "num_layers": g.random.randint(1, 2)}
    g.apply(name, data, mode=mode, state_size=g.random.randint(1, 4), **a)


@_of("_rnn_param_concat")
def _rnn_parameters(g: Builder, name: str) -> None:
    count = g.random.randint(1, 3)
    g.apply(name, *(g.tensor(1) for _ in range(count)), num_args=count, dim=0)


@_of("Embedding")
def _embedding(g: Builder, name: str) -> None:
    rows, columns = g.random.randint(2, 8), g.random.randint(1, 5)
    g.apply(name, g.integers(0, rows - 1, g.shape(g.random.randint(1, 3))), input_dim=rows, output_dim=columns)


def _turned(shape: Shape, turn: bool) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2]) if turn else shape


@_of("dot")
def _dot(g: Builder, name: str) -> None:
    lhs = g.tensor((1, 2, 3))
    a, b = (g.flag(), g.flag()) if lhs.rank == 2 else (False, False)
    inner = lhs.shape[0] if a else lhs.shape[-1]
    g.apply(name, lhs, g.like(lhs, _turned((inner, g.random.randint(1, 5)), b)), transpose_a=a, transpose_b=b)


@_of("batch_dot", "linalg_gemm2", "_linalg_gemm2")
def _batch_dot(g: Builder, name: str) -> None:
    lhs = g.tensor(3 if name == "batch_dot" else (2, 3, 4))
    a, b = g.flag(), g.flag()
    inner = lhs.shape[-2] if a else lhs.shape[-1]
    rhs = g.like(lhs, _turned((*lhs.shape[:-2], inner, g.random.randint(1, 5)), b))
    more = {} if name == "batch_dot" else {"alpha": g.random.choice((1, 0.5))}
    g.apply(name, lhs, rhs, transpose_a=a, transpose_b=b, **more)


@_of("_linalg_gemm")
def _linalg_gemm(g: Builder, name: str) -> None:
    lhs = g.tensor((2, 3, 4))
    rhs = g.like(lhs, (*lhs.shape[:-2], lhs.shape[-1], g.random.randint(1, 5)))
    total = g.like(lhs, (*lhs.shape[:-1], rhs.shape[-1]))
    g.apply(name, lhs, rhs, total, alpha=g.random.choice((1, 0.5)), beta=g.random.choice((1, -2)))


@_of("khatri_rao")
def _khatri_rao(g: Builder, name: str) -> None:
    first = g.tensor(2)
    others = [g.like(first, (g.random.randint(1, 3), first.shape[1])) for _ in range(g.random.randint(0, 2))]
    g.apply(name, first, *others, num_args=1 + len(others))


@_of("softmax")
def _softmax(g: Builder, name: str) -> None:
    data = g.tensor()
    g.apply(name, data, axis=g.axis(data), temperature=g.random.choice((1.0, 0.5, 2.0)))


@_of("softmin", "log_softmax")
def _log_softmax(g: Builder, name: str) -> None:
    data = g.tensor(fits=lambda t: min(t.shape) > 1)  # the logarithm of 1 is 0, and not what MXNet rounds it to
    g.apply(name, data, axis=g.axis(data))


@_of("SoftmaxActivation")
def _softmax_activation(g: Builder, name: str) -> None:
    data = g.tensor((2, 3, 4))
    g.apply(name, data, mode="channel" if data.rank > 2 else "instance")  # MXNet takes one axis of several


@_of("SoftmaxOutput")
def _softmax_output(g: Builder, name: str) -> None:
    data = g.tensor((2, 3))
    g.apply(name, data, **({"multi_output": True} if data.rank > 2 else {}))


@_of("SVMOutput")
def _svm(g: Builder, name: str) -> None:
    g.apply(name, g.tensor(2))


@_of("LinearRegressionOutput", "MAERegressionOutput", "LogisticRegressionOutput")
def _regression(g: Builder, name: str) -> None:
    g.apply(name, g.tensor((2, 3, 4)))


# --- shapes ---------------------------------------------------------------------------------------------------------


@_of("Reshape")
def _reshape(g: Builder, name: str) -> None:
    data = g.operand()
    left = list(data.shape)
    codes: list[int] = []
    inferred = False
    while left:
        size = left.pop(0)
        kind = g.random.choice(("keep", "number", "join", "split", "infer", "rest"))
        if kind == "join" and left:
            left.pop(0)
            codes.append(-3)
        elif kind == "split":
            part = _divisor(g, size)
            codes += [-4, part, size // part]
        elif kind == "infer" and not inferred and not {-2, -4} & {*codes}:
            inferred = True
            codes.append(-1)
        elif kind == "rest":
            codes.append(-2)
            break
        else:
            codes.append(0 if kind == "keep" else size)
    g.apply(name, data, shape=tuple(codes))


@_of("reshape_like")
def _reshape_like(g: Builder, name: str) -> None:
    data = g.tensor()
    same = [t for t in g.tensors if math.prod(t.shape) == math.prod(data.shape)]
    g.apply(name, data, g.random.choice(same))


@_of("Flatten")
def _flatten(g: Builder, name: str) -> None:
    g.apply(name, g.operand())


@_of("expand_dims")
def _expand(g: Builder, name: str) -> None:
    data = g.operand()
    g.apply(name, data, axis=g.random.randint(-data.rank - 1, data.rank))


@_of("squeeze")
def _squeeze(g: Builder, name: str) -> None:
    data = g.tensor((2, 3, 4, 5), lambda t: 1 in t.shape and math.prod(t.shape) > 1)
    ones = [axis for axis, size in enumerate(data.shape) if size == 1]
    g.apply(name, data, **({"axis": g.random.choice(ones)} if g.flag() else {}))


@_of("transpose")
def _transpose(g: Builder, name: str) -> None:
    data = g.operand()
    axes = [*range(data.rank)]
    g.random.shuffle(axes)
    g.apply(name, data, **({"axes": tuple(axes)} if g.random.random() < 0.8 else {}))


@_of("SwapAxis")
def _swap(g: Builder, name: str) -> None:
    data = g.tensor((2, 3, 4, 5))
    first, second = g.random.sample(range(data.rank), 2)
    g.apply(name, data, dim1=first, dim2=second)


@_of("depth_to_space", "space_to_depth")
def _blocks(g: Builder, name: str) -> None:
    block = g.random.choice((1, 2, 2, 3))
    data = g.tensor(4)
    batch, channels, height, width = data.shape
    if name == "depth_to_space" and channels % block**2:
        data = g.like(data, (batch, block**2, height, width))
    if name == "space_to_depth" and (height % block or width % block):
        data = g.like(data, (batch, channels, 2 * block, 3 * block))
    g.apply(name, data, block_size=block)


@_of("Concat", "concat")
def _concat(g: Builder, name: str) -> None:
    first = g.operand()
    axis = g.random.randrange(first.rank)
    count = g.random.randint(1, 3)
    others = []
    for _ in range(count - 1):
        shape = (*first.shape[:axis], g.random.choice((first.shape[axis], 1, 2)), *first.shape[axis + 1 :])
        others.append(g.like(first, shape))
    g.apply(name, first, *others, num_args=count, dim=axis - first.rank if g.random.random() < 0.2 else axis)


@_of("stack")
def _stack(g: Builder, name: str) -> None:
    first = g.operand()
    count = g.random.randint(1, 3)
    axis = g.random.randint(-first.rank - 1, first.rank)
    g.apply(name, first, *(g.like(first) for _ in range(count - 1)), num_args=count, axis=axis)


@_of("SliceChannel")
def _slice_channel(g: Builder, name: str) -> None:
    data = g.operand()
    axis = g.axis(data)
    count = _divisor(g, data.shape[axis])
    squeeze = count == data.shape[axis] and data.rank > 1 and count > 1 and g.flag()
    if count > 8:
        raise UnfitError("too many parts")
    g.apply(name, data, num_outputs=count, axis=axis, squeeze_axis=squeeze)


@_of("_split_v2")
def _split(g: Builder, name: str) -> None:
    data = g.operand()
    axis = g.axis(data)
    size = data.shape[axis]
    if g.flag():
        g.apply(name, data, axis=axis, indices=(), sections=min(_divisor(g, size), 8) if size < 9 else 1)
    else:
        begins = sorted(g.random.sample(range(1, size), min(2, size - 1)))
        g.apply(name, data, axis=axis, indices=(0, *begins))


@_of("slice_axis")
def _slice_axis(g: Builder, name: str) -> None:
    data = g.operand()
    axis = g.axis(data)
    size = data.shape[axis]
    begin = g.random.randrange(size)
    end = g.random.choice(("None", g.random.randint(begin + 1, size)))
    g.apply(name, data, axis=axis, begin=begin - size if g.random.random() < 0.3 else begin, end=end)


@_of("slice")
def _slice(g: Builder, name: str) -> None:
    data = g.operand()
    begin, end, step = [], [], []
    for size in data.shape[: g.random.randint(1, data.rank)]:
        low = g.random.randrange(size)
        high = g.random.randint(low + 1, size)
        if g.random.random() < 0.2 and high < size:
            begin.append(high)
            end.append(low)
            step.append(-1)
        else:
            begin.append(g.random.choice((low, low - size)))
            end.append(high)
            step.append(g.random.choice((1, 1, 2)))
    g.apply(name, data, begin=tuple(begin), end=tuple(end), step=tuple(step))


@_of("slice_like")
def _slice_like(g: Builder, name: str) -> None:
    data = g.tensor()
    inside = [
        t for t in g.tensors if t.rank == data.rank and all(a <= b for a, b in zip(t.shape, data.shape, strict=True))
    ]
    smaller = tuple(g.random.randint(1, size) for size in data.shape)
    like = g.random.choice(inside) if g.flag() else g.made(g.numbers.normal(0.3, 1, smaller))
    axes = tuple(sorted(g.random.sample(range(data.rank), g.random.randint(1, data.rank))))
    g.apply(name, data, like, **({"axes": axes} if g.flag() else {}))


@_of("reverse")
def _reverse(g: Builder, name: str) -> None:
    data = g.tensor()
    g.apply(name, data, axis=tuple(g.random.sample(range(data.rank), g.random.randint(1, data.rank))))


@_of("Crop")
def _crop(g: Builder, name: str) -> None:
    data = g.tensor(4)
    size = tuple(g.random.randint(1, whole) for whole in data.shape[2:])
    where: dict[str, Any] = {"center_crop": True}
    if g.flag():
        where = {"offset": tuple(g.random.randint(0, w - s) for w, s in zip(data.shape[2:], size, strict=True))}
    if g.flag():
        g.apply(name, data, num_args=1, h_w=size, **where)
    else:
        g.apply(name, data, g.like(data, (data.shape[0], g.random.randint(1, 3), *size)), num_args=2, **where)


@_of("Pad")
def _pad(g: Builder, name: str) -> None:
    data = g.tensor((4, 4, 5))
    mode = g.random.choice(("constant", "edge", "reflect"))
    most = [min(2, size - 1) if mode == "reflect" else 2 for size in data.shape[2:]]
    widths = [g.random.randint(0, limit) for limit in most for _ in range(2)]
    more = {"constant_value": g.random.choice((0, -1.5))} if mode == "constant" else {}
    g.apply(name, data, mode=mode, pad_width=(0, 0, 0, 0, *widths), **more)


@_of("tile")
def _tile(g: Builder, name: str) -> None:
    data = g.operand()
    reps = tuple(g.random.randint(1, 2) for _ in range(g.random.randint(1, 4)))
    if sum(count > 1 for count in reps) > 2:
        raise UnfitError("MXNet fails for many axes")
    g.apply(name, data, reps=reps)


@_of("repeat")
def _repeat(g: Builder, name: str) -> None:
    data = g.operand()
    g.apply(name, data, repeats=g.random.randint(1, 3), **({"axis": g.axis(data)} if g.random.random() < 0.8 else {}))


def _with_one(g: Builder) -> tuple[Tensor, int]:
    data = g.tensor((2, 3, 4, 5), lambda t: 1 in t.shape)
    return data, g.random.choice([axis for axis, size in enumerate(data.shape) if size == 1])


@_of("broadcast_axis")
def _broadcast_axis(g: Builder, name: str) -> None:
    data, axis = _with_one(g)
    g.apply(name, data, axis=axis, size=g.random.randint(1, 4))


@_of("broadcast_to")
def _broadcast_to(g: Builder, name: str) -> None:
    data, axis = _with_one(g)
    kept = [g.random.choice((0, size)) for size in data.shape]
    kept[axis] = g.random.randint(1, 4)
    g.apply(name, data, shape=tuple(kept))


@_of("broadcast_like")
def _broadcast_like(g: Builder, name: str) -> None:
    data, axis = _with_one(g)
    shape = (*data.shape[:axis], g.random.randint(1, 4), *data.shape[axis + 1 :])
    like = g.like(data, shape)
    g.apply(name, data, like, **({"lhs_axes": (axis,), "rhs_axes": (axis,)} if g.flag() else {}))


@_of("diag")
def _diag(g: Builder, name: str) -> None:
    data = g.tensor((1, 2, 3))
    k = g.random.choice((0, 0, 1, -1))
    if data.rank < 3:
        g.apply(name, data, k=k)
    else:
        first, second = g.random.sample(range(data.rank), 2)
        g.apply(name, data, k=k, axis1=first, axis2=second)


@_of("_zeros", "_ones", "_full")
def _filled(g: Builder, name: str) -> None:
    more = {"value": 2.5} if name == "_full" else {}
    (made,) = g.apply(name, shape=g.shape(g.random.randint(1, 4)), **more)
    g.apply("_plus_scalar", made, scalar=0.5)


@_of("_arange", "_contrib_arange_like", "_linspace", "_eye")
def _arange(g: Builder, name: str) -> None:
    if name == "_arange":
        g.apply(
            name, start=g.random.choice((0, -2, 1.5)), stop=g.random.choice((4, 7.5)), step=g.random.choice((1, 0.5))
        )
    elif name == "_linspace":
        g.apply(name, start=0, stop=3, num=g.random.randint(2, 6), endpoint=g.flag())
    elif name == "_eye":
        g.apply(name, N=g.random.randint(1, 5), M=g.random.randint(1, 5), k=g.random.randint(-1, 1))
    else:
        data = g.tensor()
        g.apply(name, data, **({"axis": g.random.randrange(data.rank)} if g.flag() else {}))


# --- reductions and orders ------------------------------------------------------------------------------------------


@_of("sum", "mean", "max", "min", "prod", "nansum", "nanprod", "norm", "_square_sum")
def _reduction(g: Builder, name: str) -> None:
    data = g.between(0.8, 1.25) if "prod" in name else g.tensor()
    axes = tuple(sorted(g.random.sample(range(data.rank), g.random.randint(1, data.rank))))
    a: dict[str, Any] = {"axis": axes} if g.random.random() < 0.8 else {}
    if name == "norm":
        a |= {"ord": g.random.choice((1, 2))}
        if a.get("axis"):
            a["axis"] = axes[:2]
    elif a and g.random.random() < 0.2:
        a |= {"exclude": True}
    if len(a.get("axis", ())) == data.rank or "axis" not in a:
        a["keepdims"] = g.flag()
    else:
        a["keepdims"] = g.flag()
    g.apply(name, data, **a)


@_of("_identity_with_attr_like_rhs")
def _identity_like(g: Builder, name: str) -> None:
    data = g.tensor()
    g.apply(name, data, g.like(data))


@_of("cumsum", "_np_cumsum")
def _cumsum(g: Builder, name: str) -> None:
    data = g.tensor()
    g.apply(name, data, axis=g.axis(data))


@_of("moments")
def _moments(g: Builder, name: str) -> None:
    data = g.tensor((2, 3, 4))
    axis = g.random.randrange(data.rank)
    if not _varies(data, axis):
        raise UnfitError("the values are alike")
    g.apply(name, data, axes=(axis,), keepdims=g.flag())


@_of("argmax", "argmin")
def _extreme(g: Builder, name: str) -> None:
    data = g.distinct()
    g.apply(name, data, axis=g.axis(data), keepdims=g.flag())


@_of("argmax_channel")
def _extreme_channel(g: Builder, name: str) -> None:
    g.apply(name, g.distinct(2))


@_of("topk")
def _topk(g: Builder, name: str) -> None:
    data = g.distinct()
    axis = g.axis(data)
    kind = g.random.choice(("indices", "value", "both", "mask"))
    more = {"dtype": g.random.choice(("float32", "int32", "int64"))} if kind in ("indices", "both") else {}
    k = g.random.randint(1, data.shape[axis])
    g.apply(name, data, axis=axis, k=k, ret_typ=kind, is_ascend=g.flag(), **more)


@_of("sort", "argsort")
def _sort(g: Builder, name: str) -> None:
    data = g.distinct()
    more = {"dtype": g.random.choice(("float32", "int32", "int64"))} if name == "argsort" else {}
    g.apply(name, data, axis=g.axis(data), is_ascend=g.flag(), **more)


# --- indices --------------------------------------------------------------------------------------------------------


@_of("where")
def _where(g: Builder, name: str) -> None:
    first = g.operand()
    shape = first.shape if g.random.random() < 0.7 else first.shape[:1]
    condition = g.integers(0, 1, shape)
    if g.flag():
        (condition,) = g.apply("_greater_scalar", g.tensor(first.rank, lambda t: t.shape == shape), scalar=0.25)
    g.apply(name, condition, first, g.like(first))


@_of("take")
def _take(g: Builder, name: str) -> None:
    data = g.operand()
    axis = g.axis(data)
    mode = g.random.choice(("clip", "wrap"))
    low, high = (-2, 1) if mode == "wrap" else (0, -1)
    index = g.integers(low, data.shape[axis] + high, g.shape(g.random.randint(1, 2)), _index_type(g))
    g.apply(name, data, index, axis=axis, mode=mode)


def _index_type(g: Builder) -> str:
    return g.random.choice(("float32", "int32", "int64"))


@_of("pick")
def _pick(g: Builder, name: str) -> None:
    data = g.tensor((2, 3, 4))
    if re.search("slice|split|crop", g.nodes[data.entry.node].operator, re.IGNORECASE):
        raise UnfitError("OpenVINO drops a slice before GatherElements")
    axis = g.random.randrange(data.rank)
    keep = g.flag()
    shape = (*data.shape[:axis], *((1,) if keep else ()), *data.shape[axis + 1 :])
    index = g.integers(0, data.shape[axis] - 1, shape)
    g.apply(name, data, index, axis=axis, keepdims=keep, mode=g.random.choice(("clip", "wrap")))


@_of("batch_take")
def _batch_take(g: Builder, name: str) -> None:
    data = g.tensor(2)
    g.apply(name, data, g.integers(0, data.shape[1] - 1, data.shape[:1], "int32"))


@_of("one_hot")
def _one_hot(g: Builder, name: str) -> None:
    depth = g.random.randint(1, 6)
    index = g.integers(0, depth - 1, g.shape(g.random.randint(1, 3)), _index_type(g))
    g.apply(name, index, depth=depth, on_value=2, off_value=g.random.choice((0, -1)))


@_of("gather_nd")
def _gather_nd(g: Builder, name: str) -> None:
    data = g.operand()
    count = g.random.randint(1, data.rank)
    size = g.random.randint(1, 4)
    rows = [g.numbers.integers(0, length, size) for length in data.shape[:count]]
    g.apply(name, data, g.made(np.stack(rows), _index_type(g)))


@_of("scatter_nd")
def _scatter_nd(g: Builder, name: str) -> None:
    data = g.tensor((1, 2), lambda t: t.shape[0] < 8)
    rows = data.shape[0] + g.random.randint(0, 2)
    index = g.numbers.permutation(rows)[: data.shape[0]][None]
    g.apply(name, data, g.made(index, _index_type(g)), shape=(rows, *data.shape[1:]))


@_of("_contrib_index_copy")
def _index_copy(g: Builder, name: str) -> None:
    old = g.tensor((1, 2, 3))
    count = g.random.randint(1, old.shape[0])
    index = g.made(g.numbers.permutation(old.shape[0])[:count], "int32")
    g.apply(name, old, index, g.like(old, (count, *old.shape[1:])))


@_of("SequenceMask", "SequenceReverse", "SequenceLast")
def _sequence(g: Builder, name: str) -> None:
    data = g.tensor((3, 4) if name == "SequenceReverse" else (2, 3, 4))
    axis = 0 if name == "SequenceReverse" else g.random.randint(0, 1)
    steps, batch = data.shape[axis], data.shape[1 - axis]
    a: dict[str, Any] = {"axis": axis} if axis else {}
    a |= {"value": -1.5} if name == "SequenceMask" else {}
    if g.flag():
        g.apply(name, data, g.integers(1, steps, (batch,)), use_sequence_length=True, **a)
    else:
        g.apply(name, data, **a)


# --- images and boxes -----------------------------------------------------------------------------------------------


@_of("_image_to_tensor")
def _to_tensor(g: Builder, name: str) -> None:
    shape = (5, 4, 3) if g.flag() else (2, 3, 4, 1)
    g.apply(name, g.made(g.numbers.integers(0, 256, shape), g.random.choice(("uint8", "float32")), constant=False))


@_of("_image_normalize")
def _normalize(g: Builder, name: str) -> None:
    data = g.tensor((3, 4), lambda t: t.shape[-3] in (1, 3))
    g.apply(name, data, mean=tuple(0.25 for _ in range(data.shape[-3])), std=g.random.choice(((0.5,), (2,))))


@_of("UpSampling")
def _upsampling(g: Builder, name: str) -> None:
    data, scale = g.tensor(4), g.random.randint(1, 3)
    if g.random.random() < 0.3:
        more = {"sample_type": "bilinear", "num_filter": data.shape[1]}
    else:
        more = {"sample_type": "nearest"}
    g.apply(name, data, scale=scale, num_args=2 if more["sample_type"] == "bilinear" else 1, **more)


@_of("_contrib_BilinearResize2D")
def _resize(g: Builder, name: str) -> None:
    data = g.tensor(4)
    kind = g.random.choice(("size", "odd_scale", "like", "to_even_down", "to_odd_up"))
    corners = {"align_corners": g.flag()}
    if kind == "like":
        size = (g.random.randint(1, 9), g.random.randint(1, 9))
        g.apply(name, data, g.like(data, (*data.shape[:2], *size)), mode=kind, **corners)
    elif kind == "size":
        g.apply(name, data, height=g.random.randint(1, 9), width=g.random.randint(1, 9), **corners)
    elif kind == "odd_scale":
        g.apply(name, data, mode=kind, scale_height=2, scale_width=1.5, **corners)
    else:
        g.apply(name, data, mode=kind, **corners)


@_of("_contrib_AdaptiveAvgPooling2D")
def _adaptive(g: Builder, name: str) -> None:
    data = g.tensor(4)
    g.apply(name, data, output_size=tuple(g.random.randint(1, size) for size in data.shape[2:]))


@_of("GridGenerator")
def _grid(g: Builder, name: str) -> None:
    affine = g.made(np.tile([1, 0.1, 0.05, -0.1, 0.9, 0.02], (2, 1)) + g.numbers.uniform(-0.05, 0.05, (2, 6)))
    g.apply(name, affine, transform_type="affine", target_shape=(g.random.randint(2, 6), g.random.randint(2, 6)))


@_of("BilinearSampler")
def _sampler(g: Builder, name: str) -> None:
    data = g.tensor(4)
    g.apply(name, data, g.made(g.numbers.uniform(-0.95, 0.95, (data.shape[0], 2, 4, 5))))


@_of("SpatialTransformer")
def _transformer(g: Builder, name: str) -> None:
    data = g.tensor(4)
    affine = g.made(np.tile([0.8, 0.1, 0.05, -0.1, 0.7, 0.02], (data.shape[0], 1)))
    g.apply(name, data, affine, transform_type="affine", sampler_type="bilinear", target_shape=(4, 5))


@_of("Correlation")
def _correlation(g: Builder, name: str) -> None:
    data = g.tensor(4)
    a = {"kernel_size": 1, "max_displacement": g.random.randint(0, 2), "stride1": 1, "stride2": 1}
    g.apply(name, data, g.like(data), pad_size=a["max_displacement"], is_multiply=g.flag(), **a)


@_of("_contrib_MultiBoxPrior")
def _anchors(g: Builder, name: str) -> None:
    sizes = tuple(round(g.random.uniform(0.1, 0.9), 3) for _ in range(g.random.randint(1, 2)))
    g.apply(name, g.tensor(4), sizes=sizes, ratios=g.random.choice(((1,), (1, 2, 0.5))), clip=g.flag())


def _corners(g: Builder, *shape: int) -> Tensor:
    low = g.numbers.uniform(0, 0.6, (*shape, 2))
    # OpenVINO cannot compile a suppression of constants, which is not folded where it is an output.
    return g.made(np.concatenate([low, low + g.numbers.uniform(0.1, 0.4, (*shape, 2))], axis=-1), constant=False)


@_of("_contrib_box_decode")
def _decode(g: Builder, name: str) -> None:
    batch, boxes = g.random.randint(1, 3), g.random.randint(1, 8)
    offsets = g.made(g.numbers.normal(0, 1, (batch, boxes, 4)))
    g.apply(name, offsets, _corners(g, 1, boxes), std0=0.1, std1=0.1, std2=0.2, std3=0.2, format="corner")


@_of("_contrib_box_iou")
def _overlap(g: Builder, name: str) -> None:
    g.apply(name, _corners(g, g.random.randint(1, 5)), _corners(g, g.random.randint(1, 5)), format="corner")


@_of("_contrib_box_nms")
def _suppression(g: Builder, name: str) -> None:
    batch, boxes = g.random.randint(1, 2), g.random.randint(2, 10)
    corners = _corners(g, batch, boxes)
    scores = g.numbers.permutation(batch * boxes).reshape(batch, boxes, 1) / (batch * boxes + 1) + 0.01
    classes = g.numbers.integers(0, 3, (batch, boxes, 1))
    (rows,) = g.apply("Concat", g.made(np.concatenate([classes, scores], axis=-1)), corners, num_args=2, dim=2)
    a = {"overlap_thresh": g.random.choice((0.2, 0.5)), "valid_thresh": 0.115, "topk": g.random.choice((-1, 4))}
    g.apply(name, rows, id_index=g.random.choice((-1, 0)), coord_start=2, score_index=1, force_suppress=g.flag(), **a)


@_of("_contrib_MultiBoxDetection")
def _detection(g: Builder, name: str) -> None:
    batch, boxes, classes = g.random.randint(1, 2), g.random.randint(2, 8), g.random.randint(2, 4)
    scores = g.numbers.permutation(batch * classes * boxes).reshape(batch, classes, boxes) / (batch * classes * boxes)
    offsets = g.made(g.numbers.normal(0, 0.5, (batch, boxes * 4)))
    anchors = _corners(g, 1, boxes)
    a = {"threshold": 0.113, "clip": g.flag(), "nms_threshold": 0.45, "force_suppress": g.flag()}
    g.apply(name, g.made(scores + 0.003, constant=False), offsets, anchors, **a)


@_of("_contrib_Proposal", "_contrib_MultiProposal")
def _proposal(g: Builder, name: str) -> None:
    batch = 1 if name == "_contrib_Proposal" else g.random.randint(1, 2)
    height, width = g.random.randint(2, 4), g.random.randint(2, 4)
    a = {"scales": (4, 8), "ratios": (0.5, 1), "feature_stride": 16, "rpn_min_size": 8}
    a |= {"rpn_pre_nms_top_n": 12, "rpn_post_nms_top_n": 6, "threshold": 0.6}
    count = batch * 8 * height * width
    scores = g.numbers.permutation(count).reshape(batch, 8, height, width) / count + 0.001
    deltas = g.numbers.normal(0, 0.2, (batch, 16, height, width))
    info = np.tile([16.0 * height, 16.0 * width, 1], (batch, 1))
    g.apply(name, g.made(scores, constant=False), g.made(deltas), g.made(info), **a)


@_of("_contrib_ROIAlign", "ROIPooling", "_contrib_PSROIPooling")
def _regions(g: Builder, name: str) -> None:
    data = g.tensor(4, lambda t: min(t.shape[2:]) > 2)
    count = g.random.randint(1, 4)
    size = np.array(data.shape[:1:-1])
    low = g.numbers.uniform(0, 0.4, (count, 2)) * size
    high = low + g.numbers.uniform(0.3, 0.5, (count, 2)) * size
    image = g.numbers.integers(0, data.shape[0], (count, 1))
    regions = np.concatenate([image, low, high], axis=-1)
    a: dict[str, Any] = {"pooled_size": (g.random.randint(1, 3), g.random.randint(1, 3)), "spatial_scale": 1.0}
    if name == "_contrib_PSROIPooling":
        bins = g.random.choice([bins for bins in (1, 2) if data.shape[1] % bins**2 == 0])
        regions, a = np.round(regions), {"pooled_size": bins, "spatial_scale": 1.0}
        a |= {"output_dim": data.shape[1] // bins**2, "group_size": bins}
    elif name == "ROIPooling":
        regions = np.round(regions)
    else:
        a |= {"sample_ratio": g.random.randint(1, 2), "aligned": g.flag()}
    g.apply(name, data, g.made(regions), **a)


WITHOUT_TEMPLATE: Final[Mapping[str, str]] = {
    "_contrib_BatchNormWithReLU": "MXNet 1.9.1 computes it only with oneDNN, which its packages for some machines lack",
}


def _template(name: str) -> Template:
    return lambda builder: _TEMPLATES[name](builder, name)


# By name, for the operators of the registry.
TEMPLATES: Final[Mapping[str, Template]] = {
    name: _template(name) for name in sorted({kind.name for kind in OPERATORS.values()}) if name in _TEMPLATES
}
