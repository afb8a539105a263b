"""Single rows that share what they read by a table of turns, and that table."""

from __future__ import annotations

import ctypes

import pytest
import torch
import torch.nn.functional as F

from tests.ops.compiled import binding

Graph, Conv, Linear = binding.Graph, binding.Conv, binding.Linear


def draw(degrees, num_in, generator):
    return [torch.randperm(num_in, generator=generator)[:d].sort().values for d in degrees]


def make_graph(library, name, turns=True):
    """Graphs of at least 24 edges an output, which is what sharing begins at."""
    generator = torch.Generator().manual_seed(0)
    num_in, lists = {
        "half": (64, draw([32] * 40, 64, generator)),
        "dense": (30, draw([29] * 24, 30, generator)),
        "complete": (26, draw([26] * 12, 26, generator)),
        "three_left": (60, draw([33] * 23, 60, generator)),
        "one_left": (60, draw([33] * 17, 60, generator)),
        "pairs_alike": (80, [one for one in draw([40] * 8, 80, generator) for _ in range(2)]),
        "all_alike": (80, draw([40], 80, generator) * 11),
        "long": (500, draw([250] * 8, 500, generator)),
        "unequal": (
            70,
            draw([0, 70, 35, 1, *[69] * 36, 50, 0, 0, 60, *[0] * 4, 70], 70, generator),
        ),
        "small": (36, draw([30, 30, 30, 24, 30, 30, 29, 30], 36, generator)),
    }[name]
    indptr = torch.tensor([0, *map(len, lists)]).cumsum(0)
    return Graph(library, num_in, len(lists), indptr, torch.cat(lists), turns=turns)


GRAPHS = [
    *("half", "dense", "complete", "three_left", "one_left", "pairs_alike", "all_alike", "long"),
    *("unequal", "small"),
]
SIZES = [(1, 7, 7), (5, 7, 7), (2, 6, 12), (3, 1, 24), (2, 9, 11), (1, 40, 20), (50, 1, 1)]


def shares(layer, alone):
    """Whether the table makes the difference it must make: memory for weights in order."""
    return layer.scratch_bytes()[binding.FORWARD] != alone.scratch_bytes()[binding.FORWARD]


def assert_close(actual, expected, terms):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5 * max(terms, 1) ** 0.5)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
@pytest.mark.parametrize("name", GRAPHS)
def test_conv_equals_dense(library, isa, name, size):
    torch.manual_seed(0)
    graph, alone = (make_graph(library, name, turns) for turns in (True, False))
    assert graph.c.turns, "the table is what this tests"
    x = torch.randn(size[0], graph.num_in, *size[1:], requires_grad=True)
    weight, bias = torch.randn(graph.num_edges, 1, 1), torch.randn(graph.num_out)
    full = graph.dense(weight.double())
    y = F.conv2d(x.double(), full, bias.double())
    grad = torch.randn(y.shape)
    (grad_x,) = torch.autograd.grad(y, x, grad.double())
    for threads in (1, 3):
        conv = Conv(graph, x.shape, (1, 1), threads=threads, isa=isa)
        assert shares(conv, Conv(alone, x.shape, (1, 1), threads=threads, isa=isa))
        assert_close(conv.forward(x.detach(), weight, bias), y.detach().float(), graph.num_in)
        assert_close(
            conv.forward(x.detach(), weight), (y - bias[:, None, None]).detach().float(), 9
        )
        assert_close(conv.grad_input(grad, weight), grad_x, graph.num_out)


@pytest.mark.parametrize("rows", [48, 50, 131])
@pytest.mark.parametrize("name", ["half", "three_left", "unequal"])
def test_linear_equals_dense(library, isa, name, rows):
    torch.manual_seed(0)
    graph = make_graph(library, name)
    x, weight = torch.randn(rows, graph.num_in), torch.randn(graph.num_edges, 1)
    bias, grad = torch.randn(graph.num_out), torch.randn(rows, graph.num_out)
    full = graph.dense(weight)[..., 0].double()
    for threads in (1, 3):
        linear = Linear(graph, rows, threads, isa)
        y = (x.double() @ full.T + bias.double()).float()
        assert_close(linear.forward(x, weight, bias), y, graph.num_in)
        assert_close(linear.grad_input(grad, weight), (grad.double() @ full).float(), graph.num_out)


def test_stride_and_padding(library, isa):
    torch.manual_seed(0)
    graph = make_graph(library, "three_left")
    x, weight = torch.randn(2, graph.num_in, 11, 13), torch.randn(graph.num_edges, 1, 1)
    for stride, padding in (((2, 2), (0, 0)), ((1, 1), (1, 2)), ((1, 3), (2, 0))):
        conv = Conv(graph, x.shape, (1, 1), stride, padding, isa=isa)
        x64 = x.double().requires_grad_()
        y = F.conv2d(x64, graph.dense(weight.double()), None, stride, padding)
        grad = torch.randn(y.shape)
        assert_close(conv.forward(x, weight), y.detach().float(), graph.num_in)
        expected = torch.autograd.grad(y, x64, grad.double())[0].float()
        assert_close(conv.grad_input(grad, weight), expected, graph.num_out)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_reads_no_input_of_others(library, isa, bad):
    """A row that has run out of edges must not take part in what its neighbours read."""
    graph = make_graph(library, "unequal")
    weight = torch.ones(graph.num_edges, 1, 1)
    joined = graph.dense(weight)[:, :, 0, 0] != 0
    for j in range(0, graph.num_in, 9):
        x = torch.ones(1, graph.num_in, 6, 9)
        x[:, j] = bad
        y = Conv(graph, x.shape, (1, 1), isa=isa).forward(x, weight)
        assert torch.equal(y.isfinite()[0, :, 0, 0], ~joined[:, j])


@pytest.mark.parametrize("name", ["three_left", "unequal"])
def test_scratch_is_all_it_touches(library, isa, name):
    graph = make_graph(library, name)
    conv = Conv(graph, (3, graph.num_in, 5, 7), (1, 1), threads=2, isa=isa)
    guard = 64
    guarded = [torch.full((n + guard + 1,), 77, dtype=torch.uint8) for n in conv.scratch_bytes()]
    conv.scratch = [memory[1:] for memory in guarded]
    y, x, w = (torch.ones(shape) for shape in conv.shapes)
    for op, run in enumerate(
        (lambda o: conv.forward(x, w, out=o), lambda o: conv.grad_input(y, w, out=o))
    ):
        room = torch.full((guard + conv.result(op, None).numel() + guard,), -1.0)
        run(room[guard:-guard].view(conv.shapes[op]))
        outside = torch.cat([room[:guard], room[-guard:]])
        assert outside.eq(-1).all()
        assert room[guard:-guard].ne(-1).all()
        outside = torch.cat([guarded[op][:1], guarded[op][-guard:]])
        assert outside.eq(77).all()


def test_a_table_is_refused_if_it_is_broken(library):
    """One number wrong, whichever: refused, or a table that gives the same."""
    torch.manual_seed(0)
    graph = make_graph(library, "small")
    x, weight = torch.randn(1, graph.num_in, 7, 7), torch.randn(graph.num_edges, 1, 1)
    conv = Conv(graph, x.shape, (1, 1))
    y = conv.forward(x, weight)
    table = next(t for t in graph.tables if t.data_ptr() == graph.c.turns)
    pointer = ctypes.c_void_p(graph.pointer)
    refused = 0
    for i in range(len(table)):
        for delta in (1, -1, 32, -(1 << 20), 1 << 20):
            table[i] += delta
            if library.xn_check_graph(pointer):
                refused += 1
            else:
                assert_close(conv.forward(x, weight), y, graph.num_in)
            table[i] -= delta
    assert refused > 4 * len(table)
    assert library.xn_check_graph(pointer) == 0


def test_no_table_where_there_is_nothing_to_share(library):
    room = lambda graph, op=0: library.xn_turns_room(graph.pointer, op, 1)  # noqa: E731
    assert room(Graph.random(library, 64, 64, 16, (4, 1))) == 0
    assert room(Graph.random(library, 64, 64, 16, (1, 4))) == 0
    assert room(Graph.random(library, 64, 3, 16)) == 0
    graph = Graph.random(library, 256, 64, 8)
    assert room(graph) > 0
    assert graph.c.turns is None, "at C = 32 rows have too little in common"
    degrees, generator = [60, 0, 0, 0] * 6, torch.Generator().manual_seed(0)
    lists, indptr = draw(degrees, 64, generator), torch.tensor([0, *degrees]).cumsum(0)
    graph = Graph(library, 64, len(degrees), indptr, torch.cat(lists))
    assert graph.c.turns is None, "rows would wait for others"
    graph.c.t_indptr = None
    assert room(graph, binding.GRAD_INPUT) == -1
    assert room(graph, binding.GRAD_WEIGHT) == -1
    assert library.xn_turns(graph.pointer, 0, None, 1 << 20) == -1
    table = torch.empty(room(graph), dtype=torch.int32)
    assert library.xn_turns(graph.pointer, 0, table.data_ptr(), table.numel() - 1) == -1
    assert library.xn_turns(graph.pointer, 0, table.data_ptr(), table.numel()) == 0


def test_same_bits_for_every_call(library):
    torch.manual_seed(0)
    graph = make_graph(library, "half")
    x, weight = torch.randn(4, graph.num_in, 9, 9), torch.randn(graph.num_edges, 1, 1)
    conv = Conv(graph, x.shape, (1, 1), threads=2)
    first = conv.forward(x, weight)
    assert all(torch.equal(conv.forward(x, weight), first) for _ in range(3))
