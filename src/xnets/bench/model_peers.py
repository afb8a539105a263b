"""What a user would pick instead of a thinned network: other runtimes, and groups of equal cost."""

from __future__ import annotations

import copy
import importlib.util
import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from xnets._errors import UserError
from xnets.bench._model_competitor import ModelCompetitor, Start, Started, inference
from xnets.bench._model_parity import compare_outputs, without_zeros
from xnets.export import to_onnx
from xnets.inference import optimize
from xnets.models import build_model
from xnets.nn import ExpanderLayer, ExpanderLinear

MODEL_PEERS = ("compiled", "onnxruntime", "openvino", "grouped", "optimized")
_NEEDS = {
    "onnxruntime": (("onnx", "onnxscript", "onnxruntime"), "xnets[onnx]"),
    "openvino": (("onnx", "onnxscript", "openvino"), "xnets[bench]"),
}


class CannotTakePart(UserError):  # noqa: N818 - what is said is no error of the program
    """A peer cannot run here."""


def default_model_peers() -> list[str]:
    """Every peer."""
    return list(MODEL_PEERS)


# --- the dense network in other runtimes ----------------------------------------------------------


def dense_peers(
    model: nn.Module, row: dict[str, Any], peers: Sequence[str]
) -> Iterator[ModelCompetitor]:
    """The dense network as torch.compile, ONNX Runtime and OpenVINO run it.

    Args:
        model: The network, in torch's own layers.
        row: What is known of it.
        peers: Some of MODEL_PEERS.

    Yields:
        A competitor for each that is among the peers.
    """
    file = _OnnxFile(model)
    starts: dict[str, Start] = {
        "compiled": lambda x: _start_compiled(model, x),
        "onnxruntime": lambda x: _start_onnxruntime(file, x),
        "openvino": lambda x: _start_openvino(file, x),
    }
    for name, start in starts.items():
        if name in peers:
            yield ModelCompetitor({**row, "competitor": name, "layout": ""}, model, start=start)


def _start_compiled(model: nn.Module, x: Tensor) -> Callable[[], Started]:
    """torch.compile with freezing: weights are constants, folded and laid out for this machine."""
    import torch._dynamo
    import torch._inductor.config

    def load() -> Started:
        torch._dynamo.reset()
        # No cache of compiled graphs: its key does not hold the number of threads.
        with torch._inductor.config.patch(freezing=True, fx_graph_cache=False), torch.no_grad():
            compiled = torch.compile(copy.deepcopy(model).eval(), dynamic=False)
            compiled(x)

        def run() -> Any:
            with torch.no_grad():
                return compiled(x)

        return Started(run, held_is_known=False)

    return load


@dataclass(eq=False)
class _OnnxFile:
    """A network in torch's own layers as ONNX files, one a batch size, written when asked for."""

    model: nn.Module
    folder: Path | None = None
    written: dict[int, Path] = field(default_factory=dict)

    def path(self, x: Tensor) -> Path:
        """The file for a batch; its sizes are fixed, which lets runtimes plan their memory."""
        if len(x) not in self.written:
            if self.folder is None:
                self.folder = Path(tempfile.mkdtemp(prefix="xnets-bench-"))
                weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
            path = self.folder / f"batch-{len(x)}.onnx"
            to_onnx(self.model, x, path, lowering="dense", dynamic_batch=False)
            self.written[len(x)] = path
        return self.written[len(x)]


def _check_installed(peer: str, x: Tensor) -> None:
    packages, extra = _NEEDS[peer]
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotTakePart(f"{' and '.join(missing)} not installed: pip install '{extra}'")
    if x.device.type != "cpu":
        raise CannotTakePart(f"it takes part on the CPU only, not on {x.device}")


def _start_onnxruntime(file: _OnnxFile, x: Tensor) -> Callable[[], Started]:
    _check_installed("onnxruntime", x)
    import onnxruntime

    path = file.path(x)

    def load() -> Started:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Its threads would go on spinning for a while after a run, on cores that others need.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: x.numpy()}
        return Started(lambda: session.run(None, feed), path.stat().st_size, keeps_scratch=True)

    return load


def _start_openvino(file: _OnnxFile, x: Tensor) -> Callable[[], Started]:
    _check_installed("openvino", x)
    import openvino

    path, core = file.path(x), openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }

    def load() -> Started:
        compiled = core.compile_model(path, "CPU", settings)
        request, feed = compiled.create_infer_request(), x.numpy()

        def run() -> Any:
            found = request.infer([feed], share_inputs=True, share_outputs=True)
            return list(found.values())

        return Started(run, path.stat().st_size, keeps_scratch=True)

    return load


# --- the thinned network, optimized ---------------------------------------------------------------


def optimized_peer(sparse: nn.Module, row: dict[str, Any]) -> ModelCompetitor:
    """The thinned network after `xnets.optimize`.

    Args:
        sparse: The network with expander layers.
        row: What is known of it.

    Returns:
        The competitor.
    """

    def start(x: Tensor) -> Callable[[], Started]:
        return lambda: Started(inference(optimize(sparse.eval(), x), x))

    return ModelCompetitor({**row, "competitor": "optimized"}, sparse, start=start)


# --- the network with groups ----------------------------------------------------------------------


def grouped_peers(
    name: str,
    sparse: nn.Module,
    compression: float,
    peers: Sequence[str],
    sizes: Callable[[nn.Module], dict[str, int]],
) -> Iterator[ModelCompetitor]:
    """The same network with groups in place of expanders, in torch and in ONNX Runtime.

    Args:
        name: As `xnets.models.full_name` takes it.
        sparse: The network with expander layers.
        compression: C as asked for.
        peers: Some of MODEL_PEERS.
        sizes: Counts parameters and the like of a network.

    Yields:
        The competitors.
    """
    row = {"competitor": "grouped", "compression": compression, "family": "grouped"}
    row |= {"block_out": 1, "block_in": 1}
    torch.manual_seed(0)
    try:
        grouped, definition = grouped_network(name, sparse)
    except ValueError as error:
        yield ModelCompetitor({**row, "status": f"cannot: {error}"})
        return
    row |= sizes(grouped)

    def check(x: Tensor, step: str) -> tuple[float, str]:
        with torch.no_grad():
            return compare_outputs(grouped.eval()(x), definition.eval()(x))

    yield ModelCompetitor(row, grouped, check)
    if "onnxruntime" in peers:
        file = _OnnxFile(grouped)
        yield ModelCompetitor(
            {**row, "competitor": "grouped-onnxruntime"},
            grouped,
            start=lambda x: _start_onnxruntime(file, x),
        )


def grouped_network(name: str, like: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Build a network with torch's grouped convolutions where another has expander layers.

    Args:
        name: As `xnets.models.full_name` takes it.
        like: The same network with expander layers. Each of them becomes the grouped layer whose
            number of groups divides its inputs and outputs and is nearest to its compression.

    Returns:
        The network in torch's own layers, and the same network with expander layers of grouped
        graphs, which defines it.

    Raises:
        ValueError: If no layer can have groups.

    Examples:
        >>> sparse = build_model("mlp", compression=4, block=(4, 1))
        >>> sum(p.numel() for p in grouped_network("mlp", sparse)[0].parameters())
        53258
    """
    groups = {}
    for layer_name, layer in like.named_modules():
        if isinstance(layer, ExpanderLayer) and getattr(layer, "groups", 1) == 1:
            many = _nearest_groups(layer.num_in, layer.num_out, layer.compression)
            if many > 1:
                groups[layer_name] = float(many)
    if not groups:
        raise ValueError(f"no layer of model {name!r} can have groups")
    definition = without_zeros(build_model(name, compression=groups, family="grouped"))
    memo: dict[int, Any] = {}
    for layer in definition.modules():
        if isinstance(layer, ExpanderLayer):
            memo[id(layer)] = _torch_layer(layer)
    return copy.deepcopy(definition, memo), definition


def _nearest_groups(num_in: int, num_out: int, compression: float) -> int:
    shared = math.gcd(num_in, num_out)
    possible = [g for g in range(1, shared + 1) if shared % g == 0]
    return min(possible, key=lambda g: abs(math.log(g / compression)))


def _torch_layer(layer: Any) -> nn.Module:
    """Torch's layer with the weights of a layer whose graph is grouped."""
    degree = layer.num_edges // layer.num_out
    # Canonical order, by output and then by input, is the order of torch's grouped weight.
    weight = layer.weight.detach().reshape(layer.num_out, degree, *layer.weight.shape[1:])
    if isinstance(layer, ExpanderLinear):
        return _GroupedLinear(layer.num_in // degree, weight[:, :, 0], layer.bias)
    conv = cast(nn.Conv2d, layer.to_dense())
    conv.groups = layer.num_in // degree
    conv.weight = nn.Parameter(weight.clone())
    return conv


class _GroupedLinear(nn.Module):
    """A linear layer in groups, which torch has not: one small product for each."""

    def __init__(self, groups: int, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(  # (groups, inputs of a group, outputs of a group)
            weight.view(groups, -1, weight.shape[1]).transpose(1, 2).contiguous()
        )
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, input: Tensor) -> Tensor:
        groups, fan_in, _ = self.weight.shape
        parts = input.reshape(-1, groups, fan_in).transpose(0, 1)
        output = torch.matmul(parts, self.weight).transpose(0, 1)
        output = output.reshape(*input.shape[:-1], -1)
        return output if self.bias is None else output + self.bias
