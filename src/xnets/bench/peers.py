"""Who competes: our backends, torch's dense, grouped and sparse layers, and SparseLab."""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from xnets import ops
from xnets.bench.cases import GraphChoice, Setup
from xnets.graphs import BipartiteGraph
from xnets.nn import ExpanderConv2d, ExpanderLayer, ExpanderLinear

# Those that take any graph; the others have one of their own, or only some.
ANY_GRAPH = ("csr", "sparselab")
PEERS = ("grouped", *ANY_GRAPH, "compiled", "bsr", "2:4")
# Reads the graph edge by edge: it is there to be checked by eye, and takes seconds.
NOT_BY_DEFAULT = ("reference",)

Expected = Callable[[], list[Tensor]]


@dataclass(frozen=True)
class Competitor:
    """One way to compute a layer.

    Args:
        name: A backend of ours, "auto", "dense", or a peer's.
        module: The layer, without bias.
        input: In the layout that it gets.
        grad_output: In the same layout.
        weight: What it trains; the gradient is taken to this and the input.
        expected: Its output and gradients by definition.
        graph: What graph it has; None if it is dense.
        layout: "channels_last" or "".
        edges: Number of edges.
        on_edges: Picks the gradient of the edges, in canonical order, out of the weight's.
        note: What "auto" took, or why the competitor cannot run.
    """

    name: str
    module: nn.Module
    input: Tensor
    grad_output: Tensor | None
    weight: Tensor
    expected: Expected
    graph: GraphChoice | None = None
    layout: str = ""
    edges: int = 0
    on_edges: Callable[[Tensor], Tensor] = field(default=lambda grad: grad)
    note: str = ""

    @property
    def key(self) -> str:
        """Tells it from all others of a case."""
        graph = self.graph
        chosen = f"{graph.compression:g} {graph.family} {graph.block}" if graph else ""
        return f"{self.name} {self.layout} {chosen}"

    def results(self) -> list[Tensor]:
        """The output, and in training the gradients to input and edges."""
        found = self.runs(1)[0]()
        if self.grad_output is None:
            return [found[0]]
        y, grad_x, grad_weight = found
        return [y.detach(), grad_x, self.on_edges(grad_weight)]

    def runs(self, copies: int) -> list[Callable[[], Sequence[Tensor]]]:
        """Calls of one step, each on tensors of its own."""
        found: list[Callable[[], Sequence[Tensor]]] = []
        for i in range(copies):
            module, x, weight = self.module, self.input, self.weight
            if i:
                x = x.detach().clone()
                if not _is_sparse(weight):  # torch cannot copy all of those
                    module = copy.deepcopy(module)
                    [weight] = list(module.parameters())
            found.append(_step(module, x, weight, self.grad_output))
        return found


def _is_sparse(weight: Tensor) -> bool:
    return weight.layout != torch.strided or type(weight.detach()) is not Tensor


def _step(
    module: nn.Module, x: Tensor, weight: Tensor, grad_output: Tensor | None
) -> Callable[[], Sequence[Tensor]]:
    if grad_output is None:

        def forward() -> Sequence[Tensor]:
            with torch.inference_mode():
                return (module(x),)

        return forward
    x = x.detach().requires_grad_()

    def training() -> Sequence[Tensor]:
        y = module(x)
        return (y, *torch.autograd.grad(y, (x, weight), grad_output))

    return training


def dense_layers(setup: Setup) -> Iterator[Competitor]:
    """Torch's dense layer, a convolution in both memory layouts."""
    shape = setup.shape
    size = (shape.num_out, shape.num_in, *setup.kernel)
    values = setup.normal(size, (shape.num_in * max(1, shape.kernel) ** 2) ** -0.5)
    everywhere = torch.ones(shape.num_out, shape.num_in, dtype=torch.bool, device=setup.device)
    edges = values.view(-1, *setup.kernel)

    def expected() -> list[Tensor]:
        return setup.expected(edges, everywhere)

    for layout in ("", "channels_last") if shape.kernel else ("",):
        if shape.kernel:
            module: nn.Module = _conv(setup)
        else:
            module = nn.utils.skip_init(
                nn.Linear, shape.num_in, shape.num_out, bias=False, dtype=setup.dtype
            ).to(setup.device)
        yield _torch_layer("dense", module, values, setup, expected, layout)


def grouped_layer(setup: Setup, graph: GraphChoice) -> Competitor | str:
    """Torch's grouped convolution with as many edges, or why there is none."""
    shape, groups = setup.shape, int(graph.compression)
    if not shape.kernel:
        return "torch has no grouped linear layer"
    if groups != graph.compression or shape.num_in % groups or shape.num_out % groups:
        return f"{graph.compression:g} groups do not divide {shape.num_in} and {shape.num_out}"
    fan_in = shape.num_in // groups
    values = setup.normal((shape.num_out, fan_in, *setup.kernel), fan_in**-0.5 / shape.kernel)
    diagonal = torch.eye(groups, dtype=torch.bool, device=setup.device)
    mask = diagonal.repeat_interleave(shape.num_out // groups, 0).repeat_interleave(fan_in, 1)
    edges = values.view(-1, *setup.kernel)
    return _torch_layer(
        "grouped",
        _conv(setup, groups),
        values,
        setup,
        lambda: setup.expected(edges, mask),
        graph=graph,
    )


def _conv(setup: Setup, groups: int = 1) -> nn.Module:
    shape = setup.shape
    conv: nn.Module = nn.utils.skip_init(
        nn.Conv2d,
        shape.num_in,
        shape.num_out,
        shape.kernel,
        stride=shape.stride,
        padding=shape.kernel // 2,
        groups=groups,
        bias=False,
        dtype=setup.dtype,
    )
    return conv.to(setup.device)


def _torch_layer(
    name: str,
    module: nn.Module,
    values: Tensor,
    setup: Setup,
    expected: Expected,
    layout: str = "",
    graph: GraphChoice | None = None,
) -> Competitor:
    weight: Tensor = module.weight  # type: ignore[assignment]
    with torch.no_grad():
        weight.copy_(values.view_as(weight))
    x, grad = setup.input, setup.grad_output if setup.training else None
    if layout:
        module = module.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
        grad = None if grad is None else grad.contiguous(memory_format=torch.channels_last)
    num_edges = values.shape[0] * values.shape[1]
    return Competitor(
        name,
        module,
        x,
        grad,
        weight,
        expected,
        graph=graph,
        layout=layout,
        edges=num_edges,
        on_edges=lambda g: g.reshape(num_edges, *setup.kernel),
    )


def expander_layers(
    setup: Setup, graph: GraphChoice, backends: Sequence[str], peers: Sequence[str]
) -> Iterator[Competitor | tuple[str, str]]:
    """Our layer on every backend, and the peers that take any graph.

    Args:
        setup: The tensors.
        graph: What graph to draw.
        backends: Which of ours.
        peers: Some of "csr" and "sparselab"; what they are not made for is passed over.

    Yields:
        A competitor, or a backend's name and why it cannot run.
    """
    drawn = graph.draw(setup.shape)
    layer = _expander(setup, drawn)
    scale = layer.edge_fan().rsqrt().to(layer.weight) if drawn.num_edges else torch.ones(())
    with torch.no_grad():
        layer.weight.copy_(setup.normal(layer.weight.shape) * scale.to(setup.device))
    mask = torch.from_numpy(drawn.mask()).to(setup.device)
    grad = setup.grad_output if setup.training else None
    known: list[list[Tensor]] = []

    def expected() -> list[Tensor]:
        if not known:  # all competitors of this graph share it
            known.append(setup.expected(layer.weight, mask))
        return known[0]

    call = layer.call(setup.input)
    for name in backends:
        try:
            taken = ops.choose(call, name).name
        except ValueError as error:
            yield name, str(error).partition("cannot run this call: ")[2] or str(error)
            continue
        twin = copy.copy(layer)  # shares weight and tables
        twin.backend = name
        yield Competitor(
            name,
            twin,
            setup.input,
            grad,
            layer.weight,
            expected,
            graph=graph,
            edges=drawn.num_edges,
            note=taken if name == "auto" else "",
        )
    for name in peers:
        if not _IS_FOR[name](setup):
            continue
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            module, weight, on_edges = _PEER_LAYERS[name](setup, layer, mask)
        yield Competitor(
            name,
            module,
            setup.input,
            grad,
            weight,
            expected,
            graph=graph,
            edges=drawn.num_edges,
            on_edges=on_edges,
        )


def _expander(setup: Setup, graph: BipartiteGraph) -> ExpanderLayer:
    shape = setup.shape
    if not shape.kernel:
        return ExpanderLinear(
            shape.num_in,
            shape.num_out,
            bias=False,
            graph=graph,
            device=setup.device,
            dtype=setup.dtype,
        )
    return ExpanderConv2d(
        shape.num_in,
        shape.num_out,
        shape.kernel,
        stride=shape.stride,
        padding=shape.kernel // 2,
        bias=False,
        graph=graph,
        device=setup.device,
        dtype=setup.dtype,
    )


# --- torch.sparse CSR -----------------------------------------------------------------------------

Peer = tuple[nn.Module, Tensor, Callable[[Tensor], Tensor]]


class _CSRLayer(nn.Module):
    """A linear layer or 1x1 convolution on a torch.sparse CSR weight, the fastest way found.

    One row of features is a matrix-vector product; images are multiplied one by one, which is
    faster than bringing the channels of a batch to the front.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 2:
            if len(x) == 1:
                return (self.weight @ x[0])[None]
            return (self.weight @ x.t()).t()
        images = [self.weight @ image for image in x.flatten(2)]
        return torch.stack(images).view(len(x), -1, *x.shape[2:])


def _csr(layer: ExpanderLayer, mask: Tensor) -> Tensor:
    # int32 is what MKL takes without converting.
    fan_in = mask.sum(1)
    indptr = torch.cat([fan_in.new_zeros(1), fan_in.cumsum(0)]).int()
    values = layer.weight.detach().reshape(-1).clone()
    size = (layer.num_out, layer.num_in)
    indices = mask.nonzero()[:, 1].int()
    return torch.sparse_csr_tensor(indptr, indices, values, size, check_invariants=True)


def _csr_layer(setup: Setup, layer: ExpanderLayer, mask: Tensor) -> Peer:
    module = _CSRLayer(_csr(layer, mask))

    def on_edges(grad: Tensor) -> Tensor:
        values = grad[mask] if grad.layout == torch.strided else grad.values()
        return values.view(-1, *setup.kernel)

    return module, module.weight, on_edges


def _is_matrix_product(setup: Setup) -> bool:
    return setup.shape.kernel <= 1 and setup.shape.stride == 1


# --- SparseLab ------------------------------------------------------------------------------------


def _sparselab_layer(setup: Setup, layer: ExpanderLayer, mask: Tensor) -> Peer:
    import numpy as np
    from sparselab import PaddedCSR, SparseLinear

    shape = setup.shape
    module = SparseLinear(
        shape.num_in, shape.num_out, bias=False, sparsity=1 - 1 / max(2, shape.num_in)
    )
    # Its layers draw their own patterns: put ours in, the way its constructor does.
    module._csr = PaddedCSR.from_torch_sparse_csr(_csr(layer, mask))
    module._values = nn.Parameter(torch.from_numpy(np.asarray(module._csr.values)))
    kept = torch.from_numpy(np.asarray(module._csr.col_indices) >= 0)  # each row has room to grow
    return module, module._values, lambda grad: grad[kept].view(-1, 1)


def _is_for_sparselab(setup: Setup) -> bool:
    """It has linear layers in float32 on the CPU."""
    fits = setup.device == "cpu" and setup.dtype == torch.float32 and not setup.shape.kernel
    return fits and has_sparselab()


def has_sparselab() -> bool:
    """Whether SparseLab is installed."""
    return importlib.util.find_spec("sparselab") is not None


_IS_FOR: dict[str, Callable[[Setup], bool]] = {
    "csr": _is_matrix_product,
    "sparselab": _is_for_sparselab,
}
_PEER_LAYERS: dict[str, Callable[[Setup, ExpanderLayer, Tensor], Peer]] = {
    "csr": _csr_layer,
    "sparselab": _sparselab_layer,
}
