#!/usr/bin/env python3
"""Times models in optc and in other runtimes, side by side.

    tests/scripts/compare_runtimes.py --models resnet50.onnx mobilenetv2.onnx
    tests/scripts/compare_runtimes.py --models *.onnx --peers optc,onnxruntime,openvino --rounds 15 --cold 5

Each runtime holds the model in a process of its own; in every round each of them, in random order and alone,
runs it for a fifth of a second. What a round compares is the least time of its runs; a ratio is the median over
rounds of that of the runtime by that of onnxruntime in the same round, so that a machine which is busy or slow
for a while is so for both. Outputs are compared with those of onnxruntime.

Python runtimes are installed from PyPI, each in a virtual environment under the cache folder
(~/.cache/optc-peers, or $OPTC_PEERS); optc, tract and rten are built from tests/peers by cargo. LiteRT reads no
ONNX: --convert installs onnx2tf (2.6 GB) to convert what is not in the cache yet.

Inputs come from NAME.npz beside NAME.onnx, its arrays named as the inputs (a prefix `b1/` is dropped), and are
random otherwise, open extents being 1.
"""

import argparse
import json
import math
import os
import random
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = REPOSITORY / "tests" / "peers"
CACHE = Path(os.environ.get("OPTC_PEERS", Path.home() / ".cache" / "optc-peers")).expanduser().resolve()
BASE = "onnxruntime"

# Runtimes in Python: the environment each lives in, and what is installed there.
PYTHON = {
    "onnxruntime": ("ort", ["onnxruntime", "numpy"]),
    "openvino": ("openvino", ["openvino", "numpy"]),
    "litert": ("litert", ["ai-edge-litert", "numpy"]),
}
CONVERTER = ("onnx2tf", ["onnx2tf", "tensorflow-cpu", "tf_keras", "onnx", "onnxruntime", "onnx_graphsurgeon", "psutil",
                         "ai-edge-litert"])
RUST = ["optc", "tract", "rten"]

CONVERT = """
import shutil, sys, numpy, onnx2tf
# The converter downloads pictures to calibrate with unless it finds some.
pictures = numpy.random.default_rng(0).random((20, 128, 128, 3), dtype=numpy.float32)
numpy.save("calibration_image_sample_data_20x128x128x3_float32.npy", pictures)
onnx2tf.convert(input_onnx_file_path="model.onnx", output_folder_path="out", non_verbose=True, verbosity="error",
                not_use_onnxsim=True, output_signaturedefs=True)
shutil.copy("out/model_float32.tflite", sys.argv[1])
"""


class Failed(Exception):
    """A runtime that can't run a model; the message says why."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def environment(name, packages):
    """The Python of a virtual environment, made if it is not there."""
    folder = CACHE / "venv" / name
    python = folder / "bin" / "python"
    if not python.exists():
        say(f"installing {' '.join(packages)} in {folder}")
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def in_environment_of_base():
    """Goes on in the environment of onnxruntime, which has numpy."""
    python = environment(*PYTHON[BASE])
    if Path(sys.prefix).resolve() != python.parents[1].resolve():
        os.execv(python, [str(python), *sys.argv])


def build(peers):
    binaries = [peer for peer in RUST if peer in peers]
    if binaries:
        say(f"building {', '.join(binaries)}")
        target = CACHE / "target"
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", target]
        subprocess.run(command + [f"--bin={binary}" for binary in binaries], cwd=PROJECT, check=True)


def make_inputs(model, path):
    """Writes the inputs of a model to an .npz."""
    import numpy as np
    import onnxruntime as ort
    beside = model.with_suffix(".npz")
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    wanted, arrays = session.get_inputs(), {}
    if beside.exists():
        with np.load(beside) as given:
            for name in [i.name for i in wanted]:
                key = name if name in given.files else f"b1/{name}"
                if key not in given.files:
                    raise Failed(f"{beside} has no input {name}")
                arrays[name] = given[key]
    else:
        generator = np.random.default_rng(0)
        for value in wanted:
            shape = [n if isinstance(n, int) else 1 for n in value.shape]
            floats = value.type == "tensor(float)"
            arrays[value.name] = (generator.standard_normal(shape).astype(np.float32) if floats
                                  else generator.integers(0, 2, shape).astype(np.int64))
    np.savez(path, **arrays)


def converted(model, convert):
    """The model as LiteRT reads it."""
    path = CACHE / "cache" / "litert" / f"{model.stem}.tflite"
    if not path.exists():
        if not convert:
            raise Failed("not converted: --convert does it")
        python = environment(*CONVERTER)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            # The converter changes its input in place.
            shutil.copy(model, Path(folder) / "model.onnx")
            say(f"converting {model.name} for litert")
            done = subprocess.run([python, "-c", CONVERT, path], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"conversion failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    return path


class Process:
    """A runtime that holds a model."""

    def __init__(self, peer, model, inputs, threads, folder):
        self.peer, self.output = peer, folder / f"{peer}.npy"
        if peer in PYTHON:
            command = [environment(*PYTHON[peer]), PROJECT / "worker.py", peer]
        else:
            command = [CACHE / "target" / "release" / peer]
        self.command = [str(part) for part in [*command, model, inputs, threads, self.output]]
        # No runtime takes more threads than it is given.
        count = {"OMP_NUM_THREADS": str(threads), "RAYON_NUM_THREADS": str(threads)}
        self.environment = {**os.environ, **count}
        self.process = None

    def start(self, timeout=600):
        """Starts it; what it says after its first run, and how long that took."""
        with open(self.output.with_suffix(".log"), "w") as log:
            begin = time.perf_counter()
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                            env=self.environment, text=True, bufsize=1)
        said = self.listen(timeout)
        return said, (time.perf_counter() - begin) * 1e3

    def listen(self, timeout):
        ready, _, _ = select.select([self.process.stdout], [], [], timeout)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.process.kill()
            log = self.output.with_suffix(".log").read_text().strip().splitlines()
            raise Failed(log[-1] if log else f"no answer in {timeout} s")
        return json.loads(line)

    def run(self, seconds):
        self.process.stdin.write(json.dumps({"seconds": seconds}) + "\n")
        self.process.stdin.flush()
        return self.listen(600)

    def stop(self):
        self.process.stdin.close()
        self.process.wait(60)


def error_of(output, reference):
    """The largest difference, relative to the largest element of the reference."""
    import numpy as np
    a, b = np.load(output).astype(np.float64).ravel(), np.load(reference).astype(np.float64).ravel()
    if a.size != b.size:
        return math.inf
    return float(np.abs(a - b).max(initial=0.0) / max(np.abs(b).max(initial=0.0), 1e-30))


def measure(model, threads, options, folder):
    """One row for each runtime."""
    inputs = folder / "inputs.npz"
    make_inputs(model, inputs)
    rows, running = {}, {}
    for peer in options.peers:
        try:
            file = converted(model, options.convert) if peer == "litert" else model
            process = Process(peer, file, inputs, threads, folder)
            said, cold = process.start()
        except Failed as reason:
            say(f"{model.name}: {peer}: {reason}")
            rows[peer] = {"failed": str(reason)}
            continue
        running[peer] = process
        rows[peer] = {"rounds": [], "runs": [], "cold_ms": [cold], "load_ms": said["load_ms"],
                      "peak_bytes": said["peak_bytes"], "error": error_of(process.output, running[BASE].output)}
    for _ in range(options.rounds):
        for peer in random.sample(list(running), len(running)):
            times = running[peer].run(options.seconds)["ms"]
            rows[peer]["rounds"].append(min(times))
            rows[peer]["runs"].extend(times)
    for process in running.values():
        process.stop()
    for _ in range(options.cold):
        for peer in random.sample(list(running), len(running)):
            rows[peer]["cold_ms"].append(running[peer].start()[1])
            running[peer].stop()
    for peer in running:
        row = rows[peer]
        base = rows[BASE]["rounds"]
        row["min_ms"], row["median_ms"] = min(row["rounds"]), statistics.median(row.pop("runs"))
        row["ratio"] = statistics.median(a / b for a, b in zip(row["rounds"], base))
        # The first start is that of cold files.
        row["cold_ms"] = statistics.median(row["cold_ms"][1:] or row["cold_ms"])
    return rows


def table(results, options):
    """A row for each model and runtime; then the geometric means."""
    titles = ["model", "runtime", "min ms", "median ms", "ratio", "error"]
    if options.cold:
        titles += ["cold ms", "peak MB"]
    lines = [titles]
    for model, rows in results.items():
        for peer, row in rows.items():
            if "failed" in row:
                lines.append([model, peer, "–", "–", "–", "–"] + (["–", "–"] if options.cold else []))
                continue
            wrong = " !" if row["error"] > options.tolerance else ""
            line = [model, peer, f"{row['min_ms']:.4f}", f"{row['median_ms']:.4f}", f"{row['ratio']:.3f}",
                    f"{row['error']:.0e}{wrong}"]
            if options.cold:
                line += [f"{row['cold_ms']:.1f}", f"{row['peak_bytes'] / 1e6:.1f}"]
            lines.append(line)
    for peer in options.peers:
        ratios = [rows[peer]["ratio"] for rows in results.values() if "ratio" in rows[peer]]
        if ratios:
            mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
            of = f"{len(ratios)} of {len(results)}"
            lines.append([f"geometric mean, {of}", peer, "", "", f"{mean:.3f}", ""] + (["", ""] if options.cold else []))
    widths = [max(len(line[i]) for line in lines) for i in range(len(titles))]
    for i, line in enumerate(lines):
        cells = [cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths))]
        print("  ".join(cells).rstrip())
        if i == 0:
            print("─" * (sum(widths) + 2 * len(widths) - 2))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*RUST[:1], *PYTHON, *RUST[1:]]
    split = lambda text: text.split(",")
    parser.add_argument("--models", type=Path, nargs="+", required=True, metavar="PATH")
    parser.add_argument("--peers", type=split, default=names, metavar="NAME,…", help=f"of {', '.join(names)}")
    parser.add_argument("--threads", type=lambda text: [int(n) for n in split(text)], default=[1, 2], metavar="N,…")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each runtime in each round")
    parser.add_argument("--cold", type=int, default=0, metavar="N", help="also start each runtime N times from nothing")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of outputs, relative to the largest element")
    parser.add_argument("--convert", action="store_true", help="install onnx2tf and convert for litert")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    options = parser.parse_args()
    unknown = [peer for peer in options.peers if peer not in names]
    if unknown:
        parser.error(f"unknown runtimes {', '.join(unknown)}; there are {', '.join(names)}")
    # Everything is compared with it, so it is always there, and first.
    options.peers = [BASE] + [peer for peer in options.peers if peer != BASE]
    return options


def main():
    options = arguments()
    in_environment_of_base()
    build(options.peers)
    everything, wrong = {}, False
    for threads in options.threads:
        results = {}
        for model in options.models:
            say(f"{model.name} on {threads} thread{'s' if threads > 1 else ''}")
            with tempfile.TemporaryDirectory() as folder:
                results[model.stem] = measure(model, threads, options, Path(folder))
        everything[str(threads)] = results
        print(f"\n{threads} thread{'s' if threads > 1 else ''}\n")
        table(results, options)
        wrong |= any(row.get("error", 0) > options.tolerance for rows in results.values() for row in rows.values())
    if options.json:
        options.json.write_text(json.dumps(everything, indent=1))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
