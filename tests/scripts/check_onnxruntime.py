#!/usr/bin/env python3
"""Checks that optc gives ONNX models back as they were, with onnxruntime as the judge.

    pip install onnx onnxruntime numpy
    cargo build --release
    tests/scripts/check_onnxruntime.py tests/models            # files or folders
    tests/scripts/check_onnxruntime.py --prune 0.3 tests/models
    tests/scripts/check_onnxruntime.py --onnx-node-tests       # the node tests of the onnx package

For a model: optc imports and re-exports it, onnx.checker (full_check) must accept the copy, and onnxruntime
must give the same outputs for both, on seeded random inputs, to 1e-5 of the largest output. With --prune, optc
removes that fraction of the filters instead; onnxruntime must run the model that comes out, and be as near to
optc's results for it as to those for the original, or to 1e-4. The node tests are re-exported the same way and
compared on their own inputs; then each is run in optc's interpreter and compared with the outputs that come with
it.

Exit status 1 if anything differs. What onnxruntime can't run is counted and not judged.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

TOLERANCE = 1e-5
# Two runtimes add in different orders.
PRUNED_TOLERANCE = 1e-4
SMALL = 1e-2
ELEMENT_TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64, "tensor(uint32)": np.uint32, "tensor(uint16)": np.uint16,
    "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}

# Cases whose outputs contradict the specification; onnxruntime is the judge of these, too.
WRONG_DATA = {
    # The outputs wrap around where the operator saturates.
    "test_qlinearmatmul_2D_int8_float16", "test_qlinearmatmul_2D_int8_float32",
    "test_qlinearmatmul_3D_int8_float16", "test_qlinearmatmul_3D_int8_float32",
    # The outputs count elements beyond the padding, where only the window in `ceil_mode` reaches.
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
    # The outputs are cut off where a cast rounds.
    "test_cast_FLOAT_to_BFLOAT16",
}


class Refused(Exception):
    """optc ended with an error; the message is its own."""


def run_optc(args):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        message = "\n".join(lines) or f"exit status {done.returncode}"
        if "panicked" in message or done.returncode < 0:
            raise AssertionError(f"optc crashed: {message}")
        raise Refused(message)
    return done.stdout


def reexport(optc, model, copy):
    run_optc([optc, model, "-O", "none", "-o", copy])


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def random_inputs(original, seed, extent, bind):
    """Random inputs; every symbolic extent is `extent` unless bound by name."""
    rng = np.random.default_rng(seed)
    feed = {}
    for info in original.get_inputs():
        dtype = ELEMENT_TYPES.get(info.type)
        if dtype is None:
            return None
        shape = [d if isinstance(d, int) else bind.get(d, extent) for d in info.shape]
        if dtype == np.bool_:
            feed[info.name] = rng.integers(0, 2, shape).astype(dtype)
        elif np.issubdtype(dtype, np.integer):
            feed[info.name] = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
        else:
            feed[info.name] = np.asarray(rng.standard_normal(shape)).astype(dtype)
    return feed


def distance(a, b):
    """The largest difference over the largest magnitude; None if the values can't be compared."""
    if isinstance(a, (list, tuple)) or isinstance(b, (list, tuple)):
        if not isinstance(a, (list, tuple)) or not isinstance(b, (list, tuple)) or len(a) != len(b):
            return None
        parts = [distance(x, y) for x, y in zip(a, b)]
        return None if None in parts else max(parts, default=0.0)
    if a is None or b is None or isinstance(a, dict):
        return 0.0 if a == b else None
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return None
    if a.size == 0:
        return 0.0
    if a.dtype.kind not in "fiub":
        return 0.0 if (a == b).all() else np.inf
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return np.inf
    finite = np.isfinite(a) & np.isfinite(b)
    same = finite | np.isnan(a) | (a == b)
    if not same.all():
        return np.inf
    if not finite.any():
        return 0.0
    return float(np.abs(a - b)[finite].max() / max(np.abs(a[finite]).max(), 1e-30))


def check_copy(original, copy):
    """What onnx.checker has against the copy that it does not have against the original."""
    try:
        onnx.checker.check_model(str(copy), full_check=True)
        return None
    except Exception as error:
        try:
            onnx.checker.check_model(str(original), full_check=True)
        except Exception:
            return None
        return str(error).strip().splitlines()[0]


def check_signature(original, copy):
    a, b = (onnx.load(str(path), load_external_data=False) for path in (original, copy))
    initialized = {t.name for t in a.graph.initializer} | {t.values.name for t in a.graph.sparse_initializer}
    inputs = [i for i in a.graph.input if i.name not in initialized]
    kept = [i for i in b.graph.input if i.name not in {t.name for t in b.graph.initializer}]
    if [i.SerializeToString(deterministic=True) for i in inputs] != [
        i.SerializeToString(deterministic=True) for i in kept
    ]:
        return "inputs differ"
    if [o.name for o in a.graph.output] != [o.name for o in b.graph.output]:
        return "outputs differ"
    if {(o.domain, o.version) for o in a.opset_import} - {(o.domain, o.version) for o in b.opset_import}:
        return "opset imports differ"
    if [(p.key, p.value) for p in a.metadata_props] != [(p.key, p.value) for p in b.metadata_props]:
        return "metadata differ"
    if (a.ir_version, a.producer_name, a.doc_string) != (b.ir_version, b.producer_name, b.doc_string):
        return "version, producer or documentation differ"
    return None


def check_model(optc, path, seeds, bind, folder):
    copy = Path(folder) / path.name
    reexport(optc, path, copy)
    for fault in (check_signature(path, copy), check_copy(path, copy)):
        if fault:
            return fault
    original = session(path)
    for extent in (1, 2, 32, 64, 128, 256, 512, 900):
        try:
            feed = random_inputs(original, 0, extent, bind)
            expected = original.run(None, feed)
            break
        except Exception:
            continue
    else:
        return "skipped: onnxruntime runs the original on none of the extents tried"
    ours = session(copy)
    worst = 0.0
    for seed in range(seeds):
        feed = random_inputs(original, seed, extent, bind)
        for a, b in zip(original.run(None, feed), ours.run(None, feed)):
            d = distance(a, b)
            if d is None or d > TOLERANCE:
                return f"outputs differ by {d}"
            worst = max(worst, d)
    print(f"ok       {path}  (largest difference {worst:.1e}, symbolic extents {extent})")
    return None


def sizes(optc, model):
    report = json.loads(run_optc([optc, "inspect", model, "--json"]))
    return report["params"], report["macs"]


def between_runtimes(optc, path, theirs, seed, extent, bind, folder):
    """How far optc and onnxruntime are apart on one random input: relative, but absolute for small outputs, such
    as probabilities near zero, which runtimes compute by approximations of an absolute error."""
    feed_file, result = Path(folder) / "x.npz", Path(folder) / "y.npz"
    feed = random_inputs(theirs, seed, extent, bind)
    expected = theirs.run(None, feed)
    np.savez(feed_file, **feed)
    result.unlink(missing_ok=True)
    run_optc([optc, "run", path, "--input", feed_file, "--output", result])
    worst = 0.0
    with np.load(result) as ours:
        for info, a in zip(theirs.get_outputs(), expected):
            d = distance(a, ours[info.name])
            if d is None:
                raise AssertionError(f"{info.name} has another shape, type or kind of numbers")
            worst = max(worst, d * min(1.0, np.abs(a).max(initial=0.0) / SMALL))
    return worst


def check_pruned(optc, path, ratio, seeds, bind, folder):
    pruned = Path(folder) / path.name
    run_optc([optc, path, "-p", f"simplify,prune-filters{{ratio={ratio}}}", "-o", pruned])
    fault = check_copy(path, pruned)
    if fault:
        return fault
    try:
        theirs = session(pruned)
    except Exception as error:
        return f"onnxruntime refuses the pruned model: {str(error).splitlines()[0]}"
    (params, macs), (params_left, macs_left) = sizes(optc, path), sizes(optc, pruned)
    original = session(path)
    why = ""
    for extent in (64, 32, 1, 2, 128, 256, 512, 900):
        try:
            before = max(between_runtimes(optc, path, original, seed, extent, bind, folder) for seed in range(seeds))
            break
        except Exception as error:
            why = str(error).splitlines()[0]
    else:
        return f"skipped: the original runs in both on none of the extents tried; {why}"
    after = max(between_runtimes(optc, pruned, theirs, seed, extent, bind, folder) for seed in range(seeds))
    left = f"{params_left / max(params, 1):.1%} of parameters, {macs_left / max(macs, 1):.1%} of MACs left"
    about = f"{left}, difference {after:.1e}, before {before:.1e}, symbolic extents {extent}"
    if after > max(PRUNED_TOLERANCE, before):
        return f"the runtimes differ: {about}"
    print(f"ok       {path}  ({about})")
    return None


def check_models(optc, paths, check):
    files = sorted(f for p in paths for f in (Path(p).rglob("*.onnx") if Path(p).is_dir() else [Path(p)]))
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            try:
                fault = check(path, folder)
            except (Refused, AssertionError) as error:
                fault = str(error)
            if fault:
                failures += not fault.startswith("skipped")
                print(f"{'skipped ' if fault.startswith('skipped') else 'FAILED  '} {path}: {fault}")
    print(f"{len(files)} models, {failures} failed")
    return failures


def load_value(path, declared):
    """The value in a .pb file, of the kind a graph input or output declares."""
    data = Path(path).read_bytes()
    kind = declared.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    array = numpy_helper.to_array(onnx.TensorProto.FromString(data))
    if declared.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16 and array.dtype == np.uint16:
        # Some files, and versions of onnx without a type for these numbers, hold their bits.
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def node_cases(filters):
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for group in ("node", "simple", "pytorch-converted", "pytorch-operator"):
        for case in sorted((data / group).iterdir()):
            if (case / "model.onnx").exists() and all(f in case.name for f in filters):
                yield case


def load_case(case):
    model = onnx.load(str(case / "model.onnx"))
    folder = case / "test_data_set_0"
    inputs = {i.name: load_value(folder / f"input_{n}.pb", i) for n, i in enumerate(model.graph.input)
              if (folder / f"input_{n}.pb").exists()}
    outputs = [load_value(folder / f"output_{n}.pb", o) for n, o in enumerate(model.graph.output)]
    return model, inputs, outputs


def check_case_copy(optc, case, inputs, folder):
    copy = Path(folder) / "copy.onnx"
    reexport(optc, case / "model.onnx", copy)
    for fault in (check_signature(case / "model.onnx", copy), check_copy(case / "model.onnx", copy)):
        if fault:
            return "failed", fault
    try:
        expected = session(case / "model.onnx").run(None, inputs)
    except Exception as error:
        return "not judged", str(error).splitlines()[0]
    got = session(copy).run(None, inputs)
    for a, b in zip(expected, got):
        d = distance(a, b)
        if d is None or d > TOLERANCE:
            if "random" in str(case) or "bernoulli" in str(case) or "dropout" in str(case):
                return "not judged", "random"
            return "failed", f"outputs differ by {d}"
    return "ok", ""


def check_case_run(optc, case, model, inputs, outputs, folder):
    feed, result = Path(folder) / "x.npz", Path(folder) / "y.npz"
    for value in list(inputs.values()) + outputs:
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
            return "not judged", "an input or output that npz can't hold"
    np.savez(feed, **inputs)
    if result.exists():
        result.unlink()
    try:
        run_optc([optc, "run", case / "model.onnx", "--backend", "interp", "--input", feed, "--output", result])
    except Refused as error:
        return "refused", str(error)
    if case.name in WRONG_DATA:
        try:
            outputs = session(case / "model.onnx").run(None, inputs)
        except Exception as error:
            return "not judged", str(error).splitlines()[0]
    with np.load(result) as got:
        for info, expected in zip(model.graph.output, outputs):
            d = distance(expected, got[info.name])
            tolerance = 2e-3 if expected.dtype == np.float16 else 1e-4
            if d is None or d > tolerance:
                shapes = f"{expected.dtype}{expected.shape} expected, {got[info.name].dtype}{got[info.name].shape} given"
                return "failed", f"{info.name} differs by {d} ({shapes})"
    return "ok", ""


def check_node_tests(optc, filters, verbose):
    exported, run = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        for case in node_cases(filters):
            try:
                model, inputs, outputs = load_case(case)
            except Exception as error:
                print(f"unreadable  {case.name}: {error}")
                continue
            for what, counts, check in (
                ("export", exported, lambda: check_case_copy(optc, case, inputs, folder)),
                ("run", run, lambda: check_case_run(optc, case, model, inputs, outputs, folder)),
            ):
                try:
                    verdict, why = check()
                except Refused as error:
                    verdict, why = "failed", str(error)
                except AssertionError as error:
                    verdict, why = "failed", str(error)
                except Exception as error:
                    verdict, why = "failed", f"{type(error).__name__}: {str(error).splitlines()[0]}"
                counts[verdict] += 1
                if verdict == "failed" or verbose:
                    print(f"{what} {verdict:10} {case.name}: {why}")
    print("re-export:", dict(exported))
    print("interpreter:", dict(run))
    return exported["failed"] + run["failed"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", help="models, or folders of models; name parts with --onnx-node-tests")
    parser.add_argument("--optc", default=Path(__file__).resolve().parents[2] / "target/release/optc")
    parser.add_argument("--onnx-node-tests", action="store_true", help="check the cases of the onnx package")
    parser.add_argument("--seeds", type=int, default=3, help="random inputs a model")
    parser.add_argument("--prune", type=float, metavar="RATIO", help="remove this fraction of the filters")
    parser.add_argument("--bind", action="append", default=[], metavar="NAME=N", help="extent of a symbol")
    parser.add_argument("-v", "--verbose", action="store_true", help="list every case, not only failures")
    args = parser.parse_args()
    if not os.access(args.optc, os.X_OK):
        parser.error(f"{args.optc} is not there; build it with `cargo build --release`")
    bind = {name: int(n) for name, n in (b.split("=") for b in args.bind)}
    if args.onnx_node_tests:
        failures = check_node_tests(args.optc, args.paths, args.verbose)
    else:
        def check(path, folder):
            if args.prune is not None:
                return check_pruned(args.optc, path, args.prune, args.seeds, bind, folder)
            return check_model(args.optc, path, args.seeds, bind, folder)
        failures = check_models(args.optc, args.paths, check)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
