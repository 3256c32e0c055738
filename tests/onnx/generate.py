#!/usr/bin/env python3
"""Writes the models of this folder: `pip install onnx numpy`, then `python3 tests/onnx/generate.py`.

Each function under `@case` makes one file of its name. Cases whose name begins with `bad_` are refused by the
importer and go to `errors/`. The files are kept next to this script, so that the tests need no Python.
"""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).resolve().parent
F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
OWN = "com.example"
CASES = []


def case(make):
    CASES.append(make)
    return make


def value(name, shape, dtype=F):
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs, outputs, name=name, **attributes)


def model(nodes, inputs, outputs, initializers=(), opset=17, imports=(), functions=(), **graph_parts):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers), **graph_parts)
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(*pair) for pair in imports]
    return helper.make_model(graph, opset_imports=opsets, functions=list(functions), ir_version=10, producer_name="generate.py")


def ramp(*shape, dtype=np.float32):
    return (np.arange(np.prod(shape)).reshape(shape) - 2).astype(dtype)


def raw(array, name):
    return numpy_helper.from_array(array, name)


def typed(name, dtype, dims, values):
    return helper.make_tensor(name, dtype, dims, values)


def external(name, array, location, offset=None, length=None):
    tensor = raw(array, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, entry in (("location", location), ("offset", offset), ("length", length)):
        if entry is not None:
            tensor.external_data.add(key=key, value=str(entry))
    return tensor


def sparse(name, values, indices, dims, dtype=F):
    parts = typed(name, dtype, [len(values)], values), typed("", I64, list(np.shape(indices)), np.ravel(indices))
    return helper.make_sparse_tensor(*parts, dims)


def each_to_result(tensors, **parts):
    """Every initializer is a result through an Identity, so that each is seen."""
    nodes = [node("Identity", [name], [f"{name}_out"]) for name, _, _ in tensors]
    return model(nodes, [], [value(f"{name}_out", shape, dtype) for name, shape, dtype in tensors], **parts)


# ---- constants in every form a file can hold them -----------------------------------------------------------

NUMBER_TYPES = [
    ("f64", TensorProto.DOUBLE), ("f32", F), ("f16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16),
    ("i64", I64), ("i32", TensorProto.INT32), ("i16", TensorProto.INT16), ("i8", TensorProto.INT8),
    ("i4", TensorProto.INT4), ("u64", TensorProto.UINT64), ("u32", TensorProto.UINT32),
    ("u16", TensorProto.UINT16), ("u8", TensorProto.UINT8), ("u4", TensorProto.UINT4), ("bool", BOOL),
]


def numbers(name):
    return [1, 0, 1] if name == "bool" else [1, 2, 3] if name.startswith("u") else [-2, 0, 3]


@case
def initializers_typed():
    tensors = [typed(name, dtype, [3], numbers(name)) for name, dtype in NUMBER_TYPES]
    return each_to_result([(n, [3], d) for n, d in NUMBER_TYPES], initializers=tensors, opset=21)


@case
def initializers_raw():
    tensors = []
    for name, dtype in NUMBER_TYPES:
        array = np.array(numbers(name)).astype(helper.tensor_dtype_to_np_dtype(dtype))
        if name in ("i4", "u4"):
            nibbles = [n & 15 for n in numbers(name)] + [0]
            array = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2]))
        tensors.append(helper.make_tensor(name, dtype, [3], array if isinstance(array, bytes) else array.tobytes(), raw=True))
    return each_to_result([(n, [3], d) for n, d in NUMBER_TYPES], initializers=tensors, opset=21)


@case
def initializers_empty_and_scalar():
    tensors = [typed("scalar", F, [], [0.5]), typed("none", F, [0, 3], []), raw(np.zeros([2, 0], np.float32), "none_raw")]
    return each_to_result([("scalar", [], F), ("none", [0, 3], F), ("none_raw", [2, 0], F)], initializers=tensors)


@case
def constant_nodes():
    forms = {
        "value": (raw(ramp(2, 2), ""), [2, 2], F), "value_float": (0.25, [], F), "value_floats": ([0.5, 1.5], [2], F),
        "value_int": (7, [], I64), "value_ints": ([3, 4, 5], [3], I64),
        "sparse_value": (sparse("", [5.0, 6.0], [1, 4], [2, 3]), [2, 3], F),
    }
    nodes = [node("Constant", [], [form], **{form: entry}) for form, (entry, _, _) in forms.items()]
    nodes += [node("Identity", [form], [f"{form}_out"]) for form in forms]
    return model(nodes, [], [value(f"{form}_out", shape, dtype) for form, (_, shape, dtype) in forms.items()])


@case
def constant_node_strings_carried():
    nodes = [node("Constant", [], ["words"], value_strings=["a", "bc"]), node("Identity", ["words"], ["y"])]
    return model(nodes, [], [value("y", [2], TensorProto.STRING)])


@case
def external_data():
    whole = ramp(2, 3), ramp(4, dtype=np.int64)
    (FOLDER / "external_data.bin").write_bytes(bytes(8) + whole[0].tobytes() + whole[1].tobytes())
    tensors = [external("w", whole[0], "external_data.bin", 8, 24), external("n", whole[1], "external_data.bin", 32)]
    return each_to_result([("w", [2, 3], F), ("n", [4], I64)], initializers=tensors)


@case
def sparse_initializer():
    sparse_tensors = [
        sparse("flat", [1.0, 2.0, 3.0], [0, 4, 5], [2, 3]),
        sparse("tuples", [9.0, -9.0], [[0, 2], [1, 0]], [2, 3]),
    ]
    return each_to_result([("flat", [2, 3], F), ("tuples", [2, 3], F)], sparse_initializer=sparse_tensors)


@case
def initializer_is_also_input():
    """Up to version 3 of the format every initializer is also declared as an input; it is still a constant."""
    made = model([node("Add", ["x", "w"], ["y"])], [value("x", [2]), value("w", [2])], [value("y", [2])], [raw(ramp(2), "w")], opset=8)
    made.ir_version = 3
    return made


# ---- quantized ----------------------------------------------------------------------------------------------

@case
def dropout_with_read_mask_carried():
    """A mask that nothing reads does not keep a dropout from being the identity; one that is read does."""
    nodes = [
        node("Relu", ["x"], ["a"], "relu"),
        node("Dropout", ["a"], ["b", "unread"], "drop"),
        node("Dropout", ["b"], ["y", "mask"], "carried"),
    ]
    return model(nodes, [value("x", [2])], [value("y", [2]), value("mask", [2], TensorProto.BOOL)], [])


@case
def qdq():
    quantized = [
        node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_q"], "quantize"),
        node("DequantizeLinear", ["x_q", "x_scale", "x_zero"], ["x_dq"], "dequantize"),
        node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w_dq"], "dequantize_weights", axis=0),
        node("DequantizeLinear", ["b_q", "b_scale"], ["b_dq"], "dequantize_bias", axis=0),
        node("Conv", ["x_dq", "w_dq", "b_dq"], ["y"], "conv"),
    ]
    constants = [
        typed("x_scale", F, [], [0.05]), typed("x_zero", TensorProto.UINT8, [], [128]),
        typed("w_q", TensorProto.INT8, [2, 1, 2, 2], [-128, -1, 0, 127, 5, 4, 3, 2]),
        typed("w_scale", F, [2], [0.5, 0.25]), typed("w_zero", TensorProto.INT8, [2], [0, 0]),
        typed("b_q", TensorProto.INT32, [2], [-7, 1000]), typed("b_scale", F, [2], [0.025, 0.0125]),
    ]
    return model(quantized, [value("x", [1, 1, 3, 3])], [value("y", [1, 2, 2, 2])], constants)


@case
def qdq_blocked_int4():
    nodes = [node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=2), node("MatMul", ["x", "w"], ["y"])]
    constants = [typed("q", TensorProto.INT4, [4, 2], [-8, 7, 1, 2, 3, 4, -1, -2]), typed("s", F, [2, 2], [1.0, 0.5, 2.0, 4.0])]
    return model(nodes, [value("x", [1, 4])], [value("y", [1, 2])], constants, opset=21)


@case
def qlinear_conv():
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    constants = [
        typed("xs", F, [], [0.5]), typed("xz", TensorProto.UINT8, [], [3]), typed("w", TensorProto.INT8, [1, 1, 1, 1], [2]),
        typed("ws", F, [1], [0.25]), typed("wz", TensorProto.INT8, [1], [0]), typed("ys", F, [], [0.125]),
        typed("yz", TensorProto.UINT8, [], [1]),
    ]
    u8 = TensorProto.UINT8
    return model([node("QLinearConv", inputs, ["y"])], [value("x", [1, 1, 2, 2], u8)], [value("y", [1, 1, 2, 2], u8)], constants)


def codes_model(nodes, inputs, outputs, grids, constants=(), opset=17, contrib=False):
    """Inputs and outputs of bytes; `grids` are scale and zero point by a prefix of their names, u8 unless the zero
    point is negative."""
    u8, made = TensorProto.UINT8, []
    for name, (scale, zero) in grids.items():
        made.append(typed(f"{name}s", F, [], [scale]))
        made.append(typed(f"{name}z", TensorProto.INT8 if zero < 0 else u8, [], [zero]))
    imports = [("com.microsoft", 1)] if contrib else []
    return model(nodes, [value(n, s, u8) for n, s in inputs], [value(n, s, d) for n, s, d in outputs],
                 [*made, *constants], opset=opset, imports=imports)


def contrib(op, inputs, outputs, name="", **attributes):
    return node(op, inputs.split(), outputs.split(), name=name, domain="com.microsoft", **attributes)


def per_channel_convolution(opset):
    i8, i32 = TensorProto.INT8, TensorProto.INT32
    constants = [raw(ramp(4, 1, 3, 3, dtype=np.int8), "w"), typed("ws", F, [4], [0.5, 0.25, 1, 2]),
                 typed("wz", i8, [4], [0, 0, 0, 0]), typed("b", i32, [4], [-40, 0, 70, 9])]
    nodes = [node("QLinearConv", "x xs xz w ws wz ys yz b".split(), ["y"], name="conv", group=2, pads=[1, 1, 1, 1])]
    return codes_model(nodes, [("x", [1, 2, 5, 4])], [("y", [1, 4, 5, 4], TensorProto.UINT8)],
                       {"x": (0.1, 128), "y": (2.0, 100)}, constants, opset)


@case
def qlinear_conv_per_channel():
    return per_channel_convolution(17)


@case
def qlinear_conv_per_channel_opset12():
    """Scales along an axis are older in this operator than in DequantizeLinear."""
    return per_channel_convolution(12)


@case
def qlinear_matmul():
    constants = [raw(ramp(3, 2, dtype=np.int8), "w"), typed("ws", F, [2], [0.5, 0.25]), typed("wz", TensorProto.INT8, [2], [0, 1])]
    nodes = [node("QLinearMatMul", "x xs xz w ws wz ys yz".split(), ["y"])]
    return codes_model(nodes, [("x", [2, 4, 3])], [("y", [2, 4, 2], TensorProto.UINT8)],
                       {"x": (0.1, 3), "y": (0.5, 10)}, constants)


@case
def qlinear_matmul_of_rows():
    """Scales along more than the last axis, which have no other form."""
    constants = [typed("ws", F, [2, 1, 1], [0.5, 0.25]), typed("wz", TensorProto.UINT8, [2, 1, 1], [0, 1])]
    nodes = [node("QLinearMatMul", "x ws wz v vs vz ys yz".split(), ["y"])]
    return codes_model(nodes, [("x", [2, 4, 3]), ("v", [3, 5])], [("y", [2, 4, 5], TensorProto.UINT8)],
                       {"v": (0.1, 3), "y": (0.5, 10)}, constants)


@case
def qlinear_functions():
    u8, grids = TensorProto.UINT8, {"a": (0.1, 3), "b": (0.2, 128), "y": (0.05, 100), "p": (0.00390625, 0)}
    nodes = [
        contrib("QLinearAdd", "a as az b bs bz ys yz", "sum"), contrib("QLinearMul", "a as az b bs bz ys yz", "product"),
        contrib("QLinearSigmoid", "sum ys yz ps pz", "gate"),
        contrib("QLinearLeakyRelu", "product ys yz as az", "leaky", alpha=0.25),
        contrib("QLinearConcat", "ys yz sum ys yz leaky as az", "joined", axis=1),
        contrib("QLinearSoftmax", "joined ys yz ps pz", "share", axis=-1, opset=13),
        node("Less", ["a", "b"], ["less"]), contrib("QLinearWhere", "less a as az b bs bz ys yz", "chosen"),
    ]
    same = [1, 4, 4, 4]
    outputs = [("gate", same, u8), ("share", [1, 8, 4, 4], u8), ("chosen", same, u8)]
    return codes_model(nodes, [("a", same), ("b", same)], outputs, grids, contrib=True)


@case
def qlinear_pools():
    u8, grids = TensorProto.UINT8, {"x": (0.1, 3), "y": (0.05, 100)}
    nodes = [
        contrib("QLinearAveragePool", "x xs xz ys yz", "pooled", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
        contrib("QLinearGlobalAveragePool", "pooled ys yz xs xz", "mean"),
    ]
    outputs = [("pooled", [1, 4, 2, 3], u8), ("mean", [1, 4, 1, 1], u8)]
    return codes_model(nodes, [("x", [1, 4, 4, 5])], outputs, grids, contrib=True)


@case
def qlinear_pool_of_channels_last_carried():
    nodes = [contrib("QLinearGlobalAveragePool", "x xs xz xs xz", "mean", channels_last=1)]
    return codes_model(nodes, [("x", [1, 4, 4, 2])], [("mean", [1, 1, 1, 2], TensorProto.UINT8)], {"x": (0.1, 3)}, contrib=True)


@case
def qgemm():
    i8, i32 = TensorProto.INT8, TensorProto.INT32
    constants = [raw(ramp(2, 3, dtype=np.int8), "w"), typed("ws", F, [2], [0.5, 0.25]), typed("wz", i8, [2], [0, 0]),
                 typed("b", i32, [2], [-4, 50])]
    nodes = [contrib("QGemm", "x xs xz w ws wz b ys yz", "y", name="gemm", transB=1),
             contrib("QGemm", "x xs xz w ws wz b", "z", name="numbers", transB=1, alpha=0.5)]
    outputs = [("y", [4, 2], TensorProto.UINT8), ("z", [4, 2], F)]
    return codes_model(nodes, [("x", [4, 3])], outputs, {"x": (0.1, 3), "y": (0.5, 10)}, constants, contrib=True)


@case
def codes_moved():
    """What only moves codes that were just quantized is the same with numbers; of other codes nothing is known."""
    u8, grids = TensorProto.UINT8, {"x": (0.5, 7)}
    nodes = [
        node("DequantizeLinear", "x xs xz".split(), ["numbers"]), node("QuantizeLinear", "numbers xs xz".split(), ["codes"]),
        node("MaxPool", ["codes"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", ["pooled"], ["turned"], perm=[0, 2, 3, 1]), node("Flatten", ["turned"], ["flat"]),
        node("MaxPool", ["x"], ["other"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    outputs = [("flat", [1, 16], u8), ("other", [1, 4, 2, 2], u8)]
    return codes_model(nodes, [("x", [1, 4, 4, 4])], outputs, grids)


@case
def dynamic_products():
    i8 = TensorProto.INT8
    constants = [raw(ramp(3, 2, dtype=np.int8), "w"), typed("ws", F, [2], [0.5, 0.25]), typed("wz", i8, [2], [0, 1]),
                 typed("b", F, [2], [1, -1])]
    nodes = [
        contrib("DynamicQuantizeMatMul", "x w ws wz b", "y", name="whole"),
        node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
        contrib("MatMulIntegerToFloat", "codes w scale ws zero wz", "z", name="parts"),
    ]
    return model(nodes, [value("x", ["N", 3])], [value("y", ["N", 2]), value("z", ["N", 2])], constants,
                 imports=[("com.microsoft", 1)])


# ---- functions ----------------------------------------------------------------------------------------------

def function(name, inputs, outputs, nodes, attributes=(), defaults=(), opset=17):
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(OWN, 1)]
    return helper.make_function(OWN, name, inputs, outputs, nodes, opsets, list(attributes), list(defaults))


def reference(node, attribute, of):
    """Makes an attribute of a node refer to one of the function around it."""
    entry = node.attribute.add(name=attribute, ref_attr_name=of)
    entry.type = 1
    return node


@case
def function_inlined():
    """Called twice, with the default of its attribute and with another value, and from another function."""
    leaky = reference(node("LeakyRelu", ["t"], ["r"]), "alpha", "slope")
    block = function("Block", ["a", "b"], ["r"], [node("Add", ["a", "b"], ["t"]), leaky],
                     defaults=[helper.make_attribute("slope", 0.5)])
    outer = function("Twice", ["a"], ["r"], [node("Block", ["a", "a"], ["t"], domain=OWN), node("Neg", ["t"], ["r"])])
    nodes = [
        node("Block", ["x", "w"], ["h"], "first", domain=OWN),
        node("Block", ["h", "x"], ["k"], "second", domain=OWN, slope=0.25),
        node("Twice", ["k"], ["y"], "third", domain=OWN),
    ]
    return model(nodes, [value("x", [2])], [value("y", [2])], [raw(ramp(2), "w")], imports=[(OWN, 1)], functions=[block, outer])


@case
def function_of_another_opset_carried():
    """Its body holds an operator that is carried and that means something else in the model's opset."""
    body = [node("Frobnicate", ["a"], ["r"])]
    return model([node("Old", ["x"], ["y"], "call", domain=OWN)], [value("x", [2])], [value("y", [2])],
                 imports=[(OWN, 1)], functions=[function("Old", ["a"], ["r"], body, opset=13)])


# ---- control flow -------------------------------------------------------------------------------------------

def branch(name, nodes, outputs, **parts):
    return helper.make_graph(nodes, name, [], outputs, **parts)


@case
def if_constant_folded():
    """The taken branch has an initializer and captures a value; the other may do what it likes."""
    then = branch("then", [node("Mul", ["h", "two"], ["t"])], [value("t", [2])], initializer=[typed("two", F, [], [2.0])])
    other = branch("else", [node("Frobnicate", ["h"], ["e"])], [value("e", [2])])
    nodes = [
        node("Constant", [], ["yes"], value=typed("", BOOL, [], [True])),
        node("Relu", ["x"], ["h"]),
        node("If", ["yes"], ["y"], "choice", then_branch=then, else_branch=other),
    ]
    return model(nodes, [value("x", [2])], [value("y", [2])])


@case
def if_on_rank_folded():
    """What exporters write for an optional squeeze: the condition follows from a shape."""
    then = branch("then", [node("Squeeze", ["x", "axis"], ["t"])], [value("t", [3])])
    other = branch("else", [node("Identity", ["x"], ["e"])], [value("e", None)])
    nodes = [
        node("Shape", ["x"], ["shape"]), node("Gather", ["shape", "zero"], ["extent"]),
        node("Equal", ["extent", "one"], ["is_one"]),
        node("If", ["is_one"], ["y"], "choice", then_branch=then, else_branch=other),
    ]
    constants = [typed("axis", I64, [1], [0]), typed("zero", I64, [], [0]), typed("one", I64, [], [1])]
    return model(nodes, [value("x", [1, 3])], [value("y", [3])], constants)


@case
def if_carried():
    """Both branches capture the same outer values, one of them within an inner `If`."""
    inner_then = branch("inner_then", [node("Add", ["h", "w"], ["a"])], [value("a", [2])])
    inner_else = branch("inner_else", [node("Neg", ["h"], ["n"]), node("Identity", ["n"], ["b"])], [value("b", [2])])
    then = branch("then", [node("If", ["c"], ["t"], then_branch=inner_then, else_branch=inner_else)], [value("t", [2])])
    other = branch("else", [node("Sub", ["h", "w"], ["e"])], [value("e", [2])])
    nodes = [node("Relu", ["x"], ["h"]), node("If", ["c"], ["k"], "choice", then_branch=then, else_branch=other),
             node("Exp", ["k"], ["y"])]
    return model(nodes, [value("c", [], BOOL), value("x", [2])], [value("y", [2])], [raw(ramp(2), "w")])


@case
def loop_carried():
    body = helper.make_graph(
        [node("Identity", ["go"], ["on"]), node("Add", ["state", "x"], ["next"])], "body",
        [value("i", [], I64), value("go", [], BOOL), value("state", [2])], [value("on", [], BOOL), value("next", [2])])
    return model([node("Loop", ["n", "", "x"], ["y"], "loop", body=body)], [value("n", [], I64), value("x", [2])], [value("y", [2])])


# ---- what optc does not know --------------------------------------------------------------------------------

@case
def unknown_carried():
    """An unknown domain with attributes of every kind, an unknown operator of the standard domain, an optional
    operand left out, an optional output left out, metadata, documentation and more opset imports than are used."""
    strange = node(
        "Strange", ["h", "", "w"], ["a", "", "b"], "strange", domain=OWN, doc_string="what it is", f=0.5, i=-3,
        s="text", floats=[1.0, 2.0], ints=[1, 2, 3], strings=["p", "q"], tensor=raw(ramp(2), "inner"),
        tensors=[typed("t0", I64, [1], [1])], graph=branch("sub", [node("Abs", ["h"], ["z"])], [value("z", [2])]),
        sparse=sparse("", [1.0], [3], [4]), type=helper.make_tensor_type_proto(F, [1]))
    strange.metadata_props.add(key="owner", value="somebody")
    nodes = [node("Relu", ["x"], ["h"]), strange, node("Frobnicate", ["b"], ["c"], "frobnicate", depth=4),
             node("Add", ["a", "c"], ["y"])]
    made = model(nodes, [value("x", ["batch", 2])], [value("y", ["batch", 5])], [raw(ramp(2), "w")],
                 imports=[(OWN, 3), ("ai.onnx.ml", 2), ("org.unused", 9)], value_info=[value("b", ["batch", 5])])
    helper.set_model_props(made, {"author": "somebody", "licence": "of their own"})
    made.doc_string, made.domain, made.model_version = "documentation of the model", "org.models", 42
    made.producer_version = "1.2.3"
    made.graph.doc_string = "documentation of the graph"
    return made


@case
def sequences_carried():
    nodes = [node("SplitToSequence", ["x"], ["parts"], "split", axis=0), node("ConcatFromSequence", ["parts"], ["y"], "join", axis=1)]
    return model(nodes, [value("x", [2, 3])], [value("y", [1, 6])])


@case
def operator_older_than_known_carried():
    """In opset 6 `axis` and `broadcast` say how operands are extended."""
    return model([node("Add", ["x", "w"], ["y"], "add", axis=0, broadcast=1)], [value("x", [2, 3])], [value("y", [2, 3])],
                 [raw(ramp(2), "w")], opset=6)


# ---- a whole network ----------------------------------------------------------------------------------------

@case
def network():
    """Open batch, shape arithmetic around a reshape, batch norm, names of nodes that are not those of values."""
    nodes = [
        node("Conv", ["image", "conv.weight"], ["c"], "features/conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"], "features/norm", epsilon=1e-3),
        node("Relu", ["n"], ["r"], "features/relu"),
        node("MaxPool", ["r"], ["p"], "features/pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", ["p"], ["shape"]), node("Gather", ["shape", "zero"], ["batch"]),
        node("Unsqueeze", ["batch", "zeros"], ["batches"]), node("Concat", ["batches", "rest"], ["target"], axis=0),
        node("Reshape", ["p", "target"], ["flat"]),
        node("Gemm", ["flat", "fc.weight", "fc.bias"], ["logits"], "head/fc", transB=1),
        node("Softmax", ["logits"], ["probabilities"], "head/softmax", axis=-1),
    ]
    constants = [
        raw(ramp(2, 1, 3, 3) / 8, "conv.weight"), raw(ramp(2) + 3, "s"), raw(ramp(2), "t"), raw(ramp(2), "m"), raw(ramp(2) + 3, "v"),
        typed("zero", I64, [], [0]), typed("zeros", I64, [1], [0]), typed("rest", I64, [1], [-1]),
        raw(ramp(3, 8) / 16, "fc.weight"), raw(ramp(3), "fc.bias"),
    ]
    return model(nodes, [value("image", ["batch", 1, 4, 4])], [value("probabilities", ["batch", 3])], constants)


# ---- what must be refused -----------------------------------------------------------------------------------

@case
def bad_external_escapes():
    return each_to_result([("w", [2, 3], F)], initializers=[external("w", ramp(2, 3), "../external_data.bin")])


@case
def bad_external_absolute():
    return each_to_result([("w", [2, 3], F)], initializers=[external("w", ramp(2, 3), "/etc/passwd")])


@case
def bad_external_missing():
    return each_to_result([("w", [2, 3], F)], initializers=[external("w", ramp(2, 3), "nowhere.bin")])


@case
def bad_external_short():
    (FOLDER / "errors/external_short.bin").write_bytes(bytes(20))
    constant = node("Constant", [], ["w"], "weights", value=external("", ramp(2, 3), "external_short.bin", 4))
    return model([constant, node("Neg", ["w"], ["y"])], [], [value("y", [2, 3])])


@case
def bad_truncated():
    return network().SerializeToString()[:-100]


@case
def bad_no_protobuf():
    return b"This is a text, and no model.\n"


@case
def bad_no_graph():
    made = network()
    made.ClearField("graph")
    return made


@case
def bad_cycle():
    nodes = [node("Add", ["x", "b"], ["a"], "first"), node("Neg", ["a"], ["b"], "second")]
    return model(nodes, [value("x", [2])], [value("b", [2])])


@case
def bad_missing_initializer():
    return model([node("MatMul", ["x", "w"], ["y"], "product")], [value("x", [1, 2])], [value("y", [1, 2])])


@case
def bad_initializer_short():
    weight = raw(ramp(2, 3), "w")
    weight.raw_data = weight.raw_data[:-1]
    return each_to_result([("w", [2, 3], F)], initializers=[weight])


@case
def bad_sparse_index():
    return each_to_result([("w", [2, 3], F)], sparse_initializer=[sparse("w", [1.0], [6], [2, 3])])


@case
def bad_negative_extent():
    weight = raw(ramp(2, 3), "w")
    weight.dims[0] = -2
    return each_to_result([("w", None, F)], initializers=[weight])


@case
def bad_defined_twice():
    return model([node("Neg", ["x"], ["y"], "one"), node("Abs", ["x"], ["y"], "two")], [value("x", [2])], [value("y", [2])])


@case
def bad_undefined_output():
    return model([node("Neg", ["x"], ["y"])], [value("x", [2])], [value("z", [2])])


@case
def bad_recursive_function():
    again = function("Again", ["a"], ["r"], [node("Again", ["a"], ["r"], "inner", domain=OWN)])
    return model([node("Again", ["x"], ["y"], "call", domain=OWN)], [value("x", [2])], [value("y", [2])],
                 imports=[(OWN, 1)], functions=[again])


def main():
    for make in CASES:
        name, made = make.__name__, make()
        data = made if isinstance(made, bytes) else made.SerializeToString(deterministic=True)
        path = FOLDER / "errors" / name.removeprefix("bad_") if name.startswith("bad_") else FOLDER / name
        path.with_suffix(".onnx").write_bytes(data)


if __name__ == "__main__":
    main()
