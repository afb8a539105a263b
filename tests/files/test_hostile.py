"""Files that are damaged, foreign or made to hurt: one clear error each, and nothing else."""

from __future__ import annotations

import copy
import json
import os
import pickle
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

import xnets
from tests.files.conftest import Trained, rewrite, same_state
from xnets._errors import UserError
from xnets.nn import ExpanderLinear

EXAMPLES = int(os.environ.get("XNETS_FUZZ", "60"))
SETTINGS = settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(params=["indices", "seed"])
def file(request, tmp_path):
    model = xnets.create_model("convnet", width=8, stages=2, depth=1, compression=4)
    xnets.save(model, tmp_path / "m.safetensors", patterns=request.param)
    return tmp_path / "m.safetensors"


@pytest.fixture
def foreign(sparse, tmp_path):
    xnets.save(sparse, tmp_path / "f.safetensors")
    return tmp_path / "f.safetensors"


def load_or_complain(path, **options):
    """The model, or None after an error of the promised kind in one line."""
    try:
        return xnets.load(path, **options)
    except UserError as error:
        text = str(error)
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < 1200
    return None


@SETTINGS
@given(data=st.data())
def test_flipped_and_cut_bytes(file, data):
    model = xnets.load(file)
    content = bytearray(file.read_bytes())
    path = file.with_name("damaged.safetensors")
    if data.draw(st.booleans(), label="cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        header = int.from_bytes(content[:8], "little") + 8
        where = st.one_of(
            st.integers(0, 7), st.integers(8, header), st.integers(header, len(content) - 1)
        )
        for place in data.draw(st.lists(where, min_size=1, max_size=4)):
            content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    again = load_or_complain(path)
    assert again is None or same_state(model, again)


PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.sampled_from([-(2**63), 2**31, 2**40, 2**64, 10**30, 1e308, float("inf"), 0.5]),
        st.sampled_from(["", "mlp", "convnet", "random", "complete", "ExpanderConv2d", "stem"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "args", "depth", "same"]), inner, max_size=2),
    ),
    max_leaves=4,
)


def places(value, path=()):
    yield path
    if isinstance(value, (dict, list)):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


@SETTINGS
@given(data=st.data())
def test_descriptions_with_a_valid_hash(file, data):
    """What somebody writes who knows the format: any value of the description may be anything."""
    started = time.process_time()

    def change(about, tensors):
        for _ in range(data.draw(st.integers(1, 3))):
            *above, last = data.draw(st.sampled_from([p for p in places(about) if p]))
            parent = about
            for key in above:
                parent = parent[key]
            if isinstance(parent, dict) and data.draw(st.booleans()):
                del parent[last]
            else:
                parent[last] = data.draw(PLAIN)
        if data.draw(st.booleans()):
            name = data.draw(st.sampled_from(sorted(tensors)))
            cut = tensors[name].float().reshape(-1)[:1].contiguous()
            tensors[name] = data.draw(st.sampled_from([torch.zeros(0), torch.ones(3), cut]))

    path = rewrite(file, change)
    for options in ({}, {"into": xnets.create_model("convnet", width=8, stages=2, depth=1)}):
        before = copy.deepcopy(options.get("into"))
        again = load_or_complain(path, **options)
        if again is None and before is not None:
            assert same_state(before, options["into"])
    assert time.process_time() - started < 20


def set_layer(**values):
    def change(about, tensors):
        next(iter(about["layers"].values())).update(values)

    return change


def set_model(**args):
    def change(about, tensors):
        about["model"]["args"] |= args

    return change


def first_tensor(suffix, tensor):
    def change(about, tensors):
        tensors[next(key for key in sorted(tensors) if key.endswith(suffix))] = tensor

    return change


HUGE = 2**31 - 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_layer(sizes=[HUGE, 8]), r"features\.1\.0 is 2147483640 -> 8 in the file"),
        (set_layer(sizes=[8, HUGE]), r"its degree 2 does not fit its 16 indices"),
        (set_layer(sizes=[8, -16]), r"its sizes \[8, -16\] are not two positive integers"),
        (set_layer(sizes=[8, 2**70]), r"its sizes .* are not two positive integers"),
        (set_layer(sizes="8x16"), r"its sizes '8x16' are not two positive integers"),
        (set_layer(block=[0, 1]), r"its block \[0, 1\] are not two positive"),
        (set_layer(block=[3, 1]), r"its block 3 x 1 does not divide 8 -> 8"),
        (set_layer(block=[1, 2]), r"`indices` must lie in \[0, 4\), but"),
        (set_layer(degree=0), r"its degree 0 does not fit"),
        (set_layer(degree=-2), r"its degree -2 does not fit"),
        (set_layer(type="Linear"), r"its type 'Linear' is unknown"),
        (set_layer(type="ExpanderConv1d"), r"ExpanderConv1d in the file, Conv2d in the model"),
        (first_tensor("indices", torch.full((16,), 200, dtype=torch.uint8)), r"`indices`"),
        (first_tensor("indices", torch.zeros(16, dtype=torch.uint8)), r"duplicate edge"),
        (first_tensor("indices", torch.zeros(16)), r"its indices are torch.float32"),
        (set_model(width=10**12), r"its model 'convnet' cannot be built|in the model"),
        (set_model(width=-1), r"its model 'convnet' cannot be built: `width` \(=-1\)"),
        (set_model(depth=10**9), r"far more layers than the file has tensors"),
        (set_model(stages=10**6), r"cannot be built"),
        (set_model(channels=3), r"unknown argument of model 'convnet': 'channels'"),
        (set_model(width="8"), r"cannot be built"),
        (lambda a, t: a.update(model={"name": "os.system", "args": {}}), r"unknown model 'os.sys"),
        (lambda a, t: a.update(model=3), r"does not say which network it is for"),
        (lambda a, t: a.update(layers=[]), r"its list of layers is no object"),
        (lambda a, t: a.update(tied={"a": "b"}), r"'a' is tied to 'b', which it does not hold"),
        (lambda a, t: a["layers"].update({"x": {"same": "x"}}), r"'x' is said to be 'x'"),
        (lambda a, t: t.update(extra=torch.ones(1)), r"only the file has extra"),
        (lambda a, t: a.update(format=2), r"was written by a newer xnets \(0\.1\.0\) in format 2"),
        (lambda a, t: a.update(format="1"), r"its format is '1'"),
    ],
)
def test_hostile_descriptions(change, message, tmp_path):
    model = xnets.create_model("convnet", width=8, stages=2, depth=1, compression=4)
    xnets.save(model, tmp_path / "m.safetensors")
    started = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        xnets.load(rewrite(tmp_path / "m.safetensors", change))
    assert "\n" not in str(caught.value)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        ({"seed": 1}, r"the graph drawn again from family and seed is another one"),
        ({"family": "ramanujan"}, r"the family is unknown"),
        ({"family": "complete"}, r"the family is unknown"),
        ({"family": ["random"]}, r"the family is unknown"),
        ({"family": "random_fan_out"}, r"its degree 8 does not fit its 256 kernels|another one"),
        ({"seed": -1}, r"`seed` \(=-1\) must be at least 0"),
        ({"seed": None}, r"`seed` \(=None\) must be an int"),
        ({"degree": 10**9}, r"its degree 1000000000 does not fit its 256 kernels"),
    ],
)
def test_hostile_seeds(drawn, message, tmp_path):
    xnets.save(ExpanderLinear(32, 32, degree=8), tmp_path / "l.safetensors", patterns="seed")
    path = rewrite(tmp_path / "l.safetensors", lambda a, t: a["layers"][""]["drawn"].update(drawn))
    with pytest.raises(UserError, match=message):
        xnets.load(path, into=nn.Linear(32, 32))


def test_a_seed_cannot_ask_for_more_than_its_edges(tmp_path):
    xnets.save(ExpanderLinear(32, 32, degree=8), tmp_path / "l.safetensors", patterns="seed")
    path = rewrite(
        tmp_path / "l.safetensors", lambda a, t: a["layers"][""].update(sizes=[HUGE, 32])
    )
    with pytest.raises(UserError, match=r"its size 2147483640 -> 32 is too large for its edges"):
        xnets.load(path, into=nn.Linear(32, 32))


class RunsCode:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "empty", "text", "header", "foreign"])
def test_foreign_files(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.safetensors"
    if kind in ("zip", "legacy"):
        torch.save({"a": RunsCode()}, path, _use_new_zipfile_serialization=kind == "zip")
        message = r"is a file of torch.save, which can run code"
    elif kind == "foreign":
        from safetensors.torch import save_file

        save_file({"a": torch.ones(3)}, path)
        message = r"is a safetensors file, but not one that xnets.save wrote"
    else:
        text = {
            "pickle": pickle.dumps(RunsCode(), protocol=4),
            "empty": b"",
            "text": b"hello " * 40,
            "header": (2**63).to_bytes(8, "little") + b"{}",
        }[kind]
        path.write_bytes(text)
        message = r"is damaged or no safetensors file"
    with pytest.raises(UserError, match=message):
        xnets.load(path)
    assert not (tmp_path / "owned").exists()


def test_deep_nesting_is_no_crash(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.ones(3)}, tmp_path / "d.safetensors", {"xnets": "[" * 200_000})
    with pytest.raises(UserError, match="is no JSON"):
        xnets.load(tmp_path / "d.safetensors")
    save_file({"a": torch.ones(3)}, tmp_path / "d.safetensors", {"xnets": json.dumps([1])})
    with pytest.raises(UserError, match="is no JSON object"):
        xnets.load(tmp_path / "d.safetensors")


def test_no_file_and_no_plain_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no/such\.safetensors"):
        xnets.load("no/such.safetensors")
    with pytest.raises(UserError, match=r"is no file"):
        xnets.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"is no file"):
        xnets.load(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("into", "message"),
    [
        (lambda: nn.Linear(3, 3), r"conv is ExpanderConv2d in the file, nothing in the model"),
        (lambda: xnets.create_model("mlp"), r"for another network: .* and \d+ more"),
        (lambda: change(Trained(), out=nn.Linear(32, 11)), r"out\.weight has shape \[10, 32\]"),
        (lambda: change(Trained(), head=nn.Linear(32, 36)), r"head is 32 -> 32 in the file, \(32"),
        (lambda: change(Trained(), conv=nn.Conv2d(16, 32, 5)), r"conv has kernels \(3, 3\) in"),
        (lambda: change(Trained(), conv=nn.Conv2d(16, 32, 3, groups=4)), r"cross the model's 4"),
        (lambda: change(Trained(), head=nn.Identity()), r"in the file, Identity in the model"),
        (lambda: change(Trained(), head=nn.Linear(32, 32, bias=False)), r"bias only in the file"),
        (lambda: change(Trained(), more=nn.Linear(2, 2)), r"only the model has more\.bias"),
    ],
)
def test_wrong_models(into, message, foreign):
    skeleton = into()
    before = copy.deepcopy(skeleton)
    with pytest.raises(UserError, match=message):
        xnets.load(foreign, into=skeleton)
    assert same_state(before, skeleton)
    assert [type(m) for m in before.modules()] == [type(m) for m in skeleton.modules()]


def change(model, **children):
    for name, child in children.items():
        setattr(model, name, child)
    return model


def test_into_must_be_a_module(foreign):
    with pytest.raises(TypeError, match=r"`into` must be a torch.nn.Module, got str"):
        xnets.load(foreign, into="resnet")
