#!/usr/bin/env python3
"""Shows that compressed models are never slower than their dense form: each is run beside itself, every layer
computed as if its weights were dense, in turns, and layers are compared one by one.

    cargo build --release
    tests/scripts/compare_dense.py model-90.optc other.onnx --threads 1,2 --rounds 3

Prints one line for each model and number of threads: least milliseconds dense and compressed, their ratio, and the
layers of mostly zero weights that took longer than densely by more than the tolerance in all rounds. Conversions between layouts count for the layer that needs them. Exits with 1 if a whole model was slower.
"""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def bench(optc, model, threads, tune):
    command = [optc, "bench", model, "--threads", str(threads), "--baseline", "dense", "--json", "-q"]
    run = subprocess.run(command + ["--tune"] * tune, capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{model}: {run.stderr.strip()}")
    return json.loads(run.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", default="1", help="numbers of threads, such as 1,2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tolerance", type=float, default=0.1, help="how much longer a layer may take")
    parser.add_argument("--tune", action="store_true", help="choose by measuring")
    parser.add_argument("--optc", default=str(ROOT / "target/release/optc"))
    args = parser.parse_args()
    slower = False
    for model in args.models:
        for threads in map(int, args.threads.split(",")):
            whole, layers = [float("inf")] * 2, {}
            for _ in range(args.rounds):
                report = bench(args.optc, model, threads, args.tune)
                baseline = report["baseline"]
                whole = [min(pair) for pair in zip(whole, [baseline["min_ms"], report["min_ms"]])]
                # Others may lie in planes for the sake of their neighbours.
                compressed = {choice["name"] for choice in report["choices"] if choice["sparsity"] >= 0.5}
                for layer in baseline["layers"]:
                    if layer["name"] in compressed and layer["ms"] and layer["baseline_ms"]:
                        times = layers.get(layer["name"], [float("inf")] * 2)
                        layers[layer["name"]] = [min(p) for p in zip(times, [layer["baseline_ms"], layer["ms"]])]
            slow = {name: ms / dense for name, (dense, ms) in layers.items() if ms > dense * (1 + args.tolerance)}
            listed = ", ".join(f"{name} {ratio:.2f}×" for name, ratio in slow.items()) or "none"
            name = pathlib.Path(model).name
            print(
                f"{name}, {threads} threads: dense {whole[0]:.3f} ms, compressed {whole[1]:.3f} ms, "
                f"{whole[0] / whole[1]:.2f}× faster; slower of {len(layers)} layers: {listed}",
                flush=True,
            )
            slower |= whole[1] > whole[0]
    sys.exit(int(slower))


if __name__ == "__main__":
    main()
