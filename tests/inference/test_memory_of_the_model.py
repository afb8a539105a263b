"""Weights are held once: what an optimised model shares with the model, and what it lets go of."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import xnets
from tests.inference.conftest import difference, randomized
from tests.inference.nets import Lambda, normed
from xnets.inference import _choose, _native
from xnets.inference._weights import Weights
from xnets.ops import make_pattern
from xnets.ops._cpu_library import FORWARD, CGraph, turns

NEEDS_LIBRARY = pytest.mark.skipif(not _native.has_library(), reason="no compiled library")
ENGINES = ["torch", *(["ours"] if _native.has_library() else [])]


def held() -> int:
    """Bytes of all tensors that Python knows of."""
    gc.collect()
    storages: dict[int, int] = {}
    for thing in gc.get_objects():
        if type(thing) in (Tensor, nn.Parameter) and thing.device.type == "cpu":
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


def plain() -> nn.Module:
    layers = [xnets.nn.ExpanderLinear(256, 512, compression=2), nn.ReLU(), nn.Linear(512, 256)]
    return randomized(nn.Sequential(*layers))


def folded() -> nn.Module:
    return randomized(
        nn.Sequential(nn.Conv2d(64, 256, 3, padding=1, bias=False), nn.BatchNorm2d(256), nn.ReLU())
    )


@pytest.mark.parametrize("engines", ENGINES)
def test_what_nothing_is_folded_into_is_not_copied(engines: str) -> None:
    model, x = plain(), torch.randn(2, 256)
    before = held()
    fast = xnets.optimize(model, x, engines=engines)
    size = sum(p.numel() * 4 for p in model.parameters())
    dense = 4 * 256 * 512 if engines == "torch" else 0  # torch runs the expander layer densely
    assert held() - before < dense + size / 10
    del model
    assert difference(fast(x), fast(x)) == 0


def test_folded_weights_are_held_once_where_the_model_is_let_go() -> None:
    model, x = folded(), torch.randn(2, 64, 4, 4)
    size = model[0].weight.numel() * 4
    before = held()
    kept = xnets.optimize(model, x, engines="torch")
    assert size <= held() - before < 1.2 * size
    fast = xnets.optimize(model, x, engines="torch", keep_model=False)
    assert size * 2 <= held() - before < 2.2 * size
    y = kept(x)
    del kept, model
    assert held() - before < 0.2 * size
    assert torch.equal(fast(x), y)


def test_other_shapes_need_the_model() -> None:
    model, x = folded(), torch.randn(2, 64, 4, 4)
    fast = xnets.optimize(model, x, keep_model=False)
    more, larger = torch.randn(3, 64, 4, 4), torch.randn(2, 64, 5, 4)
    with torch.no_grad():
        assert difference(fast(more), model(more)) < 1e-5
    with pytest.raises(ValueError, match=r"need a trace of their own.* pass keep_model=True"):
        fast(larger)
    fast = xnets.optimize(model, x)
    with torch.no_grad():
        expected = model(larger)
    del model
    assert difference(fast(larger), expected) < 1e-5


def write(model: nn.Module) -> None:
    with torch.no_grad():
        model[2].weight.mul_(2)


def write_in_inference_mode(model: nn.Module) -> None:
    with torch.inference_mode():
        write(model)


def load(model: nn.Module) -> None:
    model.load_state_dict(plain().state_dict())


def train(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(2, 256)).sum().backward()
    optimizer.step()


def share(model: nn.Module) -> None:
    model.share_memory()  # its memory moves, whatever read the old would read freed memory


@pytest.mark.parametrize("change", [write, write_in_inference_mode, load, train, share])
def test_changes_of_the_model_are_noticed(change: object) -> None:
    model, x = plain(), torch.randn(2, 256)
    fast = xnets.optimize(model, x)
    fast(x)
    change(model)  # type: ignore[operator]
    for run in (fast, fast.profile):
        with pytest.raises(RuntimeError, match=r"has changed since.* call xnets.optimize again"):
            run(x)


def test_changes_of_folded_weights_are_noticed_where_they_are_needed() -> None:
    model, x = folded(), torch.randn(2, 64, 4, 4)
    fast = xnets.optimize(model, x)
    y = fast(x)
    model[1].running_mean.add_(1)
    assert torch.equal(fast(x), y)
    with pytest.raises(RuntimeError, match="has changed since"):
        fast(torch.randn(2, 64, 5, 4))


def test_a_copy_may_be_trained_further() -> None:
    model, x = plain(), torch.randn(2, 256)
    fast = xnets.optimize(copy.deepcopy(model), x)
    y = fast(x)
    train(model)
    assert torch.equal(fast(x), y)


def assign(model: nn.Module) -> None:
    model.load_state_dict(plain().state_dict(), assign=True)


def replace(model: nn.Module) -> None:
    model[2].weight = nn.Parameter(torch.zeros(256, 512))


def exchange(model: nn.Module) -> None:
    model[0] = nn.Linear(256, 512)


@pytest.mark.parametrize("change", [nn.Module.half, assign, replace, exchange])
def test_new_tensors_of_the_model_are_no_change(change: Callable[[nn.Module], object]) -> None:
    """The weights that it was made with stay, for plans of other sizes and new traces, too."""
    model, x = plain(), torch.randn(2, 256)
    with torch.no_grad():
        expected = model(x)
    fast = xnets.optimize(model, x)
    y = fast(x)
    change(model)
    gc.collect()
    assert torch.equal(fast(x), y)
    assert difference(fast(x[:1]), expected[:1]) < 1e-5
    assert difference(fast(x[None]), expected[None]) < 1e-5
    assert len(fast._traces) == 2


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
    model[2].weight = model[0].weight
    fast = xnets.optimize(model, torch.randn(2, 8))
    weights = [s.weights.edges.data_ptr() for s in fast._traces[0].program.steps]
    assert weights == [model[0].weight.data_ptr()] * 2
    assert model[0].weight.requires_grad


def test_models_made_in_inference_mode_are_copied() -> None:
    with torch.inference_mode():
        model, x = plain(), torch.randn(2, 256)
        expected = model(x)
    fast = xnets.optimize(model, x)
    assert difference(fast(x), expected) < 1e-5
    with torch.inference_mode():  # nothing counts these
        write(model)
    assert difference(fast(x), expected) < 1e-5
    assert difference(fast(x[None]), expected[None]) < 1e-5


@pytest.mark.parametrize("engines", ENGINES)
def test_memory_goes_at_once(engines: str) -> None:
    """Without a collection of garbage, which may be long in coming."""
    layer = xnets.nn.ExpanderConv2d(8, 8, 3, compression=2, padding=1)
    model, x = randomized(normed(layer)), torch.randn(2, 8, 4, 4)
    fast = xnets.optimize(model, x, engines=engines)
    fast(x)
    prepared, (planned,) = fast._source[0], fast._plans.values()
    plan = planned.stages[0].plan
    held = [fast, prepared[0], prepared[1], prepared[0].weight]
    held += [planned, plan, planned.trace, plan.memory, plan._pool[0].arena]
    references = [weakref.ref(one) for one in held]
    gc.collect()  # what torch.export left
    gc.disable()
    try:
        del prepared, planned, plan, held, fast
        assert [reference() for reference in references] == [None] * len(references)
    finally:
        gc.enable()


@pytest.mark.parametrize("engines", ENGINES)
def test_a_call_that_fails_holds_no_tensors(engines: str) -> None:
    model, x = plain(), torch.randn(2, 256)
    fast = xnets.optimize(model, x, engines=engines)
    (planned,) = fast._plans.values()

    def fail(workspace: object) -> None:
        raise MemoryError

    planned.stages[0].plan._instructions.append(([], fail))
    reference = weakref.ref(x)
    for run in (fast, fast.profile):
        with pytest.raises(MemoryError):
            run(x)
    del x
    assert reference() is None


def test_plans_share_a_dense_weight() -> None:
    pattern = make_pattern(torch.tensor([0, 1, 2]), torch.tensor([1, 0]), 2, 2)
    weights = Weights(torch.randn(2, 1, 1), 2, 2, pattern)
    first = weights.dense()
    assert weights.dense() is first
    address = id(first)
    del first
    assert weights.dense().shape == (2, 2, 1, 1)
    assert address


def test_forms_that_kernels_do_without_are_remembered() -> None:
    weights = Weights(torch.randn(2, 1, 1), 2, 2)
    made: list[None] = []
    for _ in range(2):
        assert weights.form("turns", lambda: made.append(None)) is None
    assert len(made) == 1


@NEEDS_LIBRARY
@pytest.mark.parametrize("block", [(1, 1), (4, 1)])
def test_tables_are_made_once(block: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """For measurements, and for plans of all sizes."""
    made: list[Tensor | None] = []

    def counted(graph: CGraph, op: int) -> Tensor | None:
        made.append(turns(graph, op))
        return made[-1]

    monkeypatch.setattr(_native, "turns", counted)
    _choose.forget()
    layer = xnets.nn.ExpanderConv2d(64, 64, 1, compression=2, block=block)
    fast = xnets.optimize(nn.Sequential(layer).eval(), torch.randn(2, 64, 16, 16))
    for batch in (1, 3):
        fast(torch.randn(batch, 64, 16, 16))
    assert len(made) == 1
    assert (made[0] is None) == (block == (4, 1))


@pytest.mark.parametrize("engines", ENGINES)
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_report_counts_all_that_is_held(engines: str, kernel: int) -> None:
    layer = xnets.nn.ExpanderConv2d(64, 64, kernel, compression=2, padding=kernel // 2)
    model, x = nn.Sequential(layer, nn.LayerNorm(16)).eval(), torch.randn(1, 64, 16, 16)
    fast = xnets.optimize(model, x, engines=engines)
    of_the_model = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
    more = fast.report.weight_bytes - of_the_model
    if engines == "torch":
        assert more == layer.to_dense().weight.nbytes
    elif kernel == 1:
        graph = CGraph(64, 64, 1, 1, layer.indptr.data_ptr(), layer.indices.data_ptr())
        table = turns(graph, FORWARD)
        assert more == (0 if table is None else table.nbytes)
    else:  # transformed by Winograd's algorithm, or not at all
        transformed = layer.weight.nbytes * 16 / 9
        assert transformed <= more < 1.1 * transformed or (_native.ISA and more == 0)


@pytest.mark.parametrize("affine", [True, False])
def test_norms_in_another_type_run_as_they_are(affine: bool) -> None:
    model = randomized(
        Lambda(lambda m, x: m.n(x.bfloat16()).float(), n=nn.BatchNorm2d(8, affine=affine))
    )
    x = torch.randn(2, 8, 4, 4)
    fast = xnets.optimize(model, x)
    with torch.no_grad():
        assert torch.equal(fast(x), model(x))
    assert "traced_norm" in {step.kind.split("::")[-1] for step in fast.report.steps}


def test_norms_without_statistics_stay_torchs() -> None:
    model = normed(nn.Conv2d(8, 8, 3), nn.ReLU()).eval()
    model[1] = nn.BatchNorm2d(8, track_running_stats=False).eval()
    x = torch.randn(2, 8, 4, 4)
    fast = xnets.optimize(model, x)
    with torch.no_grad():
        assert difference(fast(x), model(x)) < 1e-5


def test_inputs_of_norms_are_checked() -> None:
    model = nn.Sequential(nn.BatchNorm2d(8)).eval()
    with pytest.raises(ValueError, match="expected 4D input"):
        xnets.optimize(model, torch.randn(2, 8), check=False)
