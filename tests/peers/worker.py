"""One Python runtime, one model, one process: `worker.py RUNTIME MODEL INPUTS.npz THREADS OUTPUT.npy`.

Loads the model, runs it once, writes the first output and prints a line of JSON; then, for each line
{"seconds": s} on standard input, runs it for so long and prints the time of each run. `src/lib.rs` is the same
for the Rust runtimes.
"""

import json
import os
import sys
import time

# Some runtimes print banners: what is said goes to a copy of standard output, everything else to standard error.
SAY = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import numpy as np


def onnxruntime(model, feed, threads):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda: session.run(names, feed)[0]


def openvino(model, feed, threads):
    import openvino as ov
    # Without a hint it computes in bf16 where the processor can: twice as fast, and not the same function.
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
              "PERFORMANCE_HINT": "LATENCY"}
    core = ov.Core()
    graph = core.read_model(model)
    graph.reshape({name: list(array.shape) for name, array in feed.items()})
    request = core.compile_model(graph, "CPU", config).create_infer_request()
    for name, array in feed.items():
        request.set_tensor(name, ov.Tensor(array, shared_memory=True))

    def run():
        request.infer()
        return request.get_output_tensor(0).data

    return run


def litert(model, feed, threads):
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=model, num_threads=threads)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        named = [array for name, array in feed.items() if name in detail["name"]]
        array = named[0] if len(feed) > 1 else next(iter(feed.values()))
        if array.ndim == 4 and array.shape != tuple(detail["shape"]):
            # The converter moves channels last.
            array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
        interpreter.set_tensor(detail["index"], array.astype(detail["dtype"]))
    output = interpreter.get_output_details()[0]["index"]

    def run():
        interpreter.invoke()
        return interpreter.get_tensor(output)

    return run


def peak_bytes():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return 1024 * int(line.split()[1])


def main():
    runtime, model, inputs, threads, output = sys.argv[1:]
    with np.load(inputs) as arrays:
        feed = {name: arrays[name] for name in arrays.files}
    start = time.perf_counter()
    run = {"onnxruntime": onnxruntime, "openvino": openvino, "litert": litert}[runtime](model, feed, int(threads))
    loaded = time.perf_counter()
    result = run()
    first = time.perf_counter()
    np.save(output, np.asarray(result, dtype=np.float32))
    print(json.dumps({"load_ms": (loaded - start) * 1e3, "first_ms": (first - loaded) * 1e3,
                      "peak_bytes": peak_bytes()}), file=SAY)
    for line in sys.stdin:
        seconds, times, begin = json.loads(line)["seconds"], [], time.perf_counter()
        while len(times) < 2 or time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        print(json.dumps({"ms": times, "peak_bytes": peak_bytes()}), file=SAY)


main()
