#!/usr/bin/env python3
"""Times training steps in optc and in PyTorch on the same CPU, in one interleaved run.

    tests/scripts/compare_training.py --models lenet5,resnet20 --threads 2 --rounds 5

A step is forward and backward pass and update: SGD with momentum 0.9 on the mean cross-entropy of a batch of 128
samples, in f32. Needs cargo, and a Python that has torch (`apt-get install python3-torch`, or a virtual
environment); it installs nothing. PyTorch is timed in both of its memory formats. Prints least and median
milliseconds of a step, median CPU milliseconds of a step in all threads (in steps of the system's clock), and
ratios of wall time: on a busy machine those of one thread say more. An epoch of MNIST (60,000 samples) is 469 steps,
one of CIFAR-10 (50,000) is 391.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

BATCH = 128
SHAPES = {"lenet5": (1, 28, 28), "lenet300": (784,), "resnet20": (3, 32, 32)}
ROOT = pathlib.Path(__file__).resolve().parents[2]


def networks(torch):
    """The networks of frontend/benches/training.rs."""
    nn, F = torch.nn, torch.nn.functional

    class LeNet5(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.c2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
            self.f1, self.f2 = nn.Linear(800, 500), nn.Linear(500, 10)

        def forward(self, x):
            x = F.max_pool2d(self.c1(x), 2)
            x = F.max_pool2d(self.c2(x), 2)
            return self.f2(F.relu(self.f1(x.flatten(1))))

    class Block(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.stride, self.more = outputs // inputs, (outputs - inputs) // 2
            self.c1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
            self.c2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.n1, self.n2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

        def forward(self, x):
            y = self.n2(self.c2(F.relu(self.n1(self.c1(x)))))
            if self.stride > 1:
                x = F.pad(F.max_pool2d(x, 1, 2), (0, 0, 0, 0, self.more, self.more))
            return F.relu(y + x)

    class ResNet20(nn.Module):
        def __init__(self):
            super().__init__()
            self.c, self.n = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
            widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
            self.blocks = nn.Sequential(*(Block(a, b) for a, b in zip(widths, widths[1:])))
            self.f = nn.Linear(64, 10)

        def forward(self, x):
            return self.f(self.blocks(F.relu(self.n(self.c(x)))).mean((2, 3)))

    def lenet300():
        return nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))

    return {"lenet5": LeNet5, "lenet300": lenet300, "resnet20": ResNet20}


class Torch:
    """Steps in PyTorch, in one memory format."""

    def __init__(self, torch, name, channels_last):
        self.torch = torch
        torch.manual_seed(1)
        self.net = networks(torch)[name]()
        self.x, self.y = torch.randn(BATCH, *SHAPES[name]), torch.randint(0, 10, (BATCH,))
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)
            self.x = self.x.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.001, momentum=0.9)

    def steps(self, count):
        times = []
        for _ in range(count):
            wall, cpu = time.perf_counter(), time.process_time()
            self.optimizer.zero_grad()
            self.torch.nn.functional.cross_entropy(self.net(self.x), self.y).backward()
            self.optimizer.step()
            times.append(((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3))
        return times

    def close(self):
        pass


class Optc:
    """Steps in optc: the bench, a process that does some for every line it reads."""

    def __init__(self, binary, name, threads, count):
        command = [binary, name, str(count), str(threads), "--rounds"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()

    def steps(self, count):
        cpu = self.cpu()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        times = [float(word) for word in self.process.stdout.readline().split()]
        used = (self.cpu() - cpu) / len(times)
        return [(wall, used) for wall in times]

    def cpu(self):
        """CPU milliseconds of the process so far, on Linux."""
        try:
            fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) * 1e3 / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def build():
    """The bench's executable."""
    command = ["cargo", "bench", "--bench", "training", "-p", "optc", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    artifacts = [json.loads(line) for line in lines]
    built = [a["executable"] for a in artifacts if a.get("executable") and a["target"]["name"] == "training"]
    return built[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="lenet5,resnet20")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5, help="steps of each in a round")
    parser.add_argument("--bench", help="the bench's executable, if it is built already")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("this Python has no torch: apt-get install python3-torch, or use a virtual environment that has it")
    torch.set_num_threads(options.threads)
    binary = options.bench or build()
    for name in options.models.split(","):
        runners = {
            "optc": Optc(binary, name, options.threads, options.steps),
            "torch": Torch(torch, name, False),
        }
        if len(SHAPES[name]) == 3:
            runners["torch channels_last"] = Torch(torch, name, True)
        times = {runner: [] for runner in runners}
        for runner in runners.values():
            runner.steps(options.steps)
        for _ in range(options.rounds):
            for key, runner in runners.items():
                times[key].append(runner.steps(options.steps))
        print(f"\n{name}, batch {BATCH}, {options.threads} threads, torch {torch.__version__}")
        print(f"{'':22}{'min ms':>10}{'median ms':>11}{'CPU ms':>10}")
        for key, rounds in times.items():
            walls = [wall for steps in rounds for wall, _ in steps]
            used = statistics.median(cpu for steps in rounds for _, cpu in steps)
            print(f"{key:22}{min(walls):10.2f}{statistics.median(walls):11.2f}{used:10.2f}")
        rounds = {key: [statistics.median(wall for wall, _ in steps) for steps in of] for key, of in times.items()}
        least = {key: min(wall for steps in of for wall, _ in steps) for key, of in times.items()}
        for key in times:
            if key != "optc":
                ratio = statistics.median(theirs / own for theirs, own in zip(rounds[key], rounds["optc"]))
                print(f"{key} / optc: median of rounds {ratio:.2f}, of minima {least[key] / least['optc']:.2f}")
        for runner in runners.values():
            runner.close()


if __name__ == "__main__":
    main()
