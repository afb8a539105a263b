"""Time the kernels against torch's dense and grouped layers, interleaved in one process.

Every competitor of a case runs once per round, in turn, so that a busy machine slows all of them; the
figure of each is its fastest round, in processor time if there is one thread (other programs then do not
count) and in wall time otherwise. Speed-ups are over the faster of torch's two dense layouts.

    python csrc/bench.py --threads 1 --kinds 1x1 3x3 linear --compressions 2 4 8
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.nn.functional as F
from binding import Conv, Graph, Linear, build, load

POINTWISE = [(64, 56), (128, 28), (256, 14), (512, 14), (512, 7)]
SPATIAL = [(64, 56), (128, 28), (256, 14), (512, 7)]
FEATURES = [1024, 4096]


def fastest(competitors: dict, seconds: float, least: int = 3) -> dict[str, float]:
    """The fastest of many interleaved rounds, in milliseconds."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times = {name: [] for name in competitors}
    for run in competitors.values():
        run()
    stop = time.perf_counter() + seconds * len(competitors)
    while time.perf_counter() < stop or len(times[name]) < least:
        for name, run in competitors.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: 1e3 * min(t) for name, t in times.items()}


def dense_conv(x, weight, padding, train, groups=1):
    if not train:
        return lambda: F.conv2d(x, weight, padding=padding, groups=groups)
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    grad = torch.randn_like(F.conv2d(x, weight, padding=padding, groups=groups))

    def step():
        torch.autograd.grad(F.conv2d(x, weight, padding=padding, groups=groups), (x, weight), grad)

    return step


def dense_linear(x, weight, train):
    if not train:
        return lambda: F.linear(x, weight)
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    grad = torch.randn(len(x), len(weight))
    return lambda: torch.autograd.grad(F.linear(x, weight), (x, weight), grad)


def ours(layer, x, weight, train, only=None):
    y = layer.forward(x, weight)
    grad = torch.randn_like(y)
    steps = {
        "forward": lambda: layer.forward(x, weight, out=y),
        "grad_input": lambda out=torch.empty_like(x): layer.grad_input(grad, weight, out=out),
        "grad_weight": lambda out=torch.empty_like(weight): layer.grad_weight(x, grad, out=out),
    }
    if only:
        return steps[only]
    if not train:
        return steps["forward"]
    return lambda: [run() for run in steps.values()]


def competitors_of(kind, size, batch, compressions, blocks, args, library):
    """Dense and grouped torch, and ours for each compression and block."""
    train = args.train
    if kind == "linear":
        x, weight = torch.randn(batch, size), torch.randn(size, size)
        found = {"dense": dense_linear(x, weight, train)}
    else:
        (channels, side), k = size, int(kind[0])
        x, weight = torch.randn(batch, channels, side, side), torch.randn(channels, channels, k, k)
        found = {"dense": dense_conv(x, weight, k // 2, train)}
        last = torch.channels_last
        found["dense_last"] = dense_conv(
            x.to(memory_format=last), weight.to(memory_format=last), k // 2, train
        )
    for c in compressions:
        channels = size if kind == "linear" else size[0]
        if kind != "linear" and args.grouped:
            found[f"grouped {c}"] = dense_conv(
                x, weight[:, : channels // c].contiguous(), k // 2, train, groups=c
            )
        for block in blocks:
            graph = Graph.random(library, channels, channels, channels // c // block[1], block)
            if kind == "linear":
                layer, kernel = Linear(graph, batch, args.threads, args.isa), (1,)
            else:
                layer = Conv(
                    graph, x.shape, (k, k), None, (k // 2, k // 2), None, args.threads, args.isa
                )
                kernel = (k, k)
            w = torch.randn(graph.num_edges, *kernel)
            found[f"{block[0]}x{block[1]} {c}"] = ours(layer, x, w, train, args.only)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=["1x1", "3x3", "linear"])
    parser.add_argument(
        "--batches", nargs="+", type=int, help="default: 1 and 16, linear 1 and 128"
    )
    parser.add_argument("--compressions", nargs="+", type=int, default=[2, 4, 8])
    parser.add_argument("--blocks", nargs="+", default=["1x1", "4x1", "4x4"])
    parser.add_argument("--train", action="store_true", help="forward and both gradients")
    parser.add_argument("--only", choices=["forward", "grad_input", "grad_weight"], help="of ours")
    parser.add_argument(
        "--grouped", action="store_true", help="time torch's grouped convolution too"
    )
    parser.add_argument("--isa", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.15, help="for each competitor of a case")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    library = load(build(Path(tempfile.mkdtemp())))
    blocks = [tuple(map(int, b.split("x"))) for b in args.blocks]
    ratios = defaultdict(list)
    for kind in args.kinds:
        sizes = {"1x1": POINTWISE, "3x3": SPATIAL}.get(kind, FEATURES)
        for size in sizes:
            for batch in args.batches or ([1, 128] if kind == "linear" else [1, 16]):
                found = competitors_of(kind, size, batch, args.compressions, blocks, args, library)
                times = fastest(found, args.seconds)
                dense = min(times.pop("dense"), times.pop("dense_last", float("inf")))
                label = size if kind == "linear" else "{}@{}".format(*size)
                line = f"{kind} {label} batch {batch}: dense {dense:.3f} ms |"
                for name, t in times.items():
                    what, c = name.split()
                    ratios[kind, what, batch].append(dense / t / int(c))
                    ratios[kind, what, "all"].append(dense / t / int(c))
                    ratios["all", what, "all"].append(dense / t / int(c))
                    line += f" {name}: {dense / t:.2f}"
                print(line, flush=True)
    print("geometric means of speed-up / C")
    for (kind, what, batch), values in ratios.items():
        print(
            f"  {kind} {what} batch {batch}: {statistics.geometric_mean(values):.3f} (least {min(values):.2f})"
        )


if __name__ == "__main__":
    main()
