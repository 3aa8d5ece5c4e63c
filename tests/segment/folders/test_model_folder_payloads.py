"""Model folders that try to run a program, or to reach a file: each is refused, and nothing of it is run.

Every payload would leave a canary file (or read a secret one) if it worked. The payloads of each format cover all of
its parts: names of classes, expressions, source, containers, pickles, archive members, files beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.bundle_models import FILES, TinyNet, write_bundle
from helpers.folder_models import build, plans, random_weights, write_nnunet
from torch import nn

from r2seg_agent.errors import InputError, MissingDependencyError
from r2seg_agent.imaging.geometry import Geometry
from r2seg_agent.imaging.volume import Volume
from r2seg_agent.segment.folders.bundle import Bundle
from r2seg_agent.segment.folders.check_onnx import check_onnx
from r2seg_agent.segment.folders.nnunet import NnUNetFolder
from r2seg_agent.segment.folders.spec import parse_spec

CANARY = "canary"
TOUCH = f"__import__('pathlib').Path('{CANARY}').touch()"


class _Touch:
    """Unpickled, it writes the canary."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, (TOUCH,))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob(f"*{CANARY}*")), "the payload left a trace"


def _scan() -> Volume:
    array = np.random.default_rng(0).normal(40, 60, (16, 16, 16)).astype(np.int16)
    geometry = Geometry(shape=array.shape, spacing_mm=(3.0, 2.0, 1.5))
    return Volume(array=array, geometry=geometry, modality="CT", unit="HU")


# nnU-Net: what plans.json and a checkpoint may name


def _nnunet(folder: Path, change: Callable[[dict[str, Any]], None], trainer: str = "nnUNetTrainer") -> Path:
    plan = plans((2.5, 2.0, 2.0), (16, 16, 16), ["CTNormalization"])
    network = build(plan, 1, 3)
    random_weights(network, seed=1)
    labels = {"background": 0, "liver": 1, "tumor": 2}
    write_nnunet(folder, {"fold_0": network}, plan, labels=labels, trainer=trainer)
    (configuration,) = plan["configurations"].values()
    change({"plan": plan, "own": configuration, **configuration["architecture"]})
    (folder / "plans.json").write_text(json.dumps(plan))
    return folder


def _set(where: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(parts: dict[str, Any]) -> None:
        parts[where][key] = value

    return change


def _network_class(name: str) -> Callable[[dict[str, Any]], None]:
    def change(parts: dict[str, Any]) -> None:
        parts["own"]["architecture"]["network_class_name"] = name

    return change


def _imported(key: str, value: str) -> Callable[[dict[str, Any]], None]:
    def change(parts: dict[str, Any]) -> None:
        parts["arch_kwargs"][key] = value
        parts["_kw_requires_import"].append(key)

    return change


def _popen(parts: dict[str, Any]) -> None:
    parts["arch_kwargs"] |= {"nonlin": "subprocess.Popen", "nonlin_kwargs": {"args": ["touch", CANARY]}}


def _hidden_configuration(parts: dict[str, Any]) -> None:
    evil = json.loads(json.dumps(parts["own"]))
    evil["architecture"]["arch_kwargs"]["conv_op"] = "os.system"
    parts["plan"]["configurations"]["parent"] = evil
    parts["own"].pop("architecture")
    parts["own"]["inherits_from"] = "parent"


def _resampling(parts: dict[str, Any]) -> None:
    parts["own"] |= {
        "resampling_fn_probabilities": "recursive_find_python_class",
        "resampling_fn_probabilities_kwargs": {"folder": ".", "class_name": "x", "current_module": "antigravity"},
    }


PLANS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "nonlin": (_popen, "nnUNetTrainer"),
    "nonlin of a known trainer": (_popen, "nnUNetTrainerBN"),
    "conv_op of a known trainer": (_set("arch_kwargs", "conv_op", "os.system"), "nnUNetTrainerBN"),
    "norm_op": (_set("arch_kwargs", "norm_op", "builtins.exec"), "nnUNetTrainer"),
    "dropout_op": (_set("arch_kwargs", "dropout_op", "os.popen"), "nnUNetTrainer"),
    "a module that runs when it is imported": (_set("arch_kwargs", "norm_op", "evil_module.Norm"), "nnUNetTrainer"),
    "an argument of its own": (_imported("pool", "subprocess.check_output"), "nnUNetTrainer"),
    "a table where a name is due": (_set("arch_kwargs", "conv_op", {"a": 1}), "nnUNetTrainer"),
    "network_class_name": (_network_class("subprocess.Popen"), "nnUNetTrainer"),
    "a network class elsewhere": (_network_class("evil_module.Net"), "nnUNetTrainer"),
    "something else of a network's module": (
        _network_class("dynamic_network_architectures.architectures.unet.torch"),
        "nnUNetTrainerBN",
    ),
    "a configuration that is inherited": (_hidden_configuration, "nnUNetTrainer"),
    "preprocessor": (_set("own", "preprocessor_name", "save_pickle"), "nnUNetTrainer"),
    "resampling": (_resampling, "nnUNetTrainer"),
    "normalisation": (_set("own", "normalization_schemes", ["np"]), "nnUNetTrainer"),
    "label manager": (_set("plan", "label_manager", "Pool"), "nnUNetTrainer"),
}


@pytest.mark.parametrize("payload", PLANS)
def test_plans_that_name_a_program(tmp_path: Path, payload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(TOUCH)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = _nnunet(tmp_path / "m", *PLANS[payload])
    with pytest.raises(MissingDependencyError, match="nothing of it was run"):
        NnUNetFolder(parse_spec(str(folder), "nnunet")).probabilities(_scan(), _scan().geometry.full_box)


def test_plans_of_totalsegmentators_own_folder_are_held_to_the_same_lists(tmp_path: Path) -> None:
    from r2seg_agent.reason.anchors.totalseg.plans import read_plans

    folder = _nnunet(tmp_path / "m", _popen)
    with pytest.raises(MissingDependencyError, match="subprocess.Popen"):
        read_plans(folder / "plans.json", "set 1")


@pytest.mark.parametrize("key", ["arch_kwargs", "conv_op", "n_stages", "inherits_from"])
def test_plans_that_lack_something_are_told_as_such(tmp_path: Path, key: str) -> None:
    def change(parts: dict[str, Any]) -> None:
        if key == "inherits_from":
            parts["own"]["inherits_from"] = "nothing"
        parts["own"]["architecture"].pop(key, None)
        parts["arch_kwargs"].pop(key, None)

    folder = _nnunet(tmp_path / "m", change)
    with pytest.raises(MissingDependencyError, match=r"plans\.json|cannot be built"):
        NnUNetFolder(parse_spec(str(folder), "nnunet")).probabilities(_scan(), _scan().geometry.full_box)


@pytest.mark.parametrize("change", ["pickle", "torchscript", "trainer", "init_args"])
def test_checkpoints_that_are_programs(tmp_path: Path, change: str) -> None:
    folder = _nnunet(tmp_path / "m", lambda parts: None)
    path = folder / "fold_0" / "checkpoint_final.pth"
    state = torch.load(path, weights_only=False)
    if change == "pickle":
        torch.save({**state, "extra": _Touch()}, path, pickle_module=pickle)
    elif change == "torchscript":
        torch.jit.save(torch.jit.script(_Saver()), path)
    elif change == "init_args":
        torch.save({**state, "init_args": "3d_fullres"}, path)
    else:  # a name in one of the trainers' modules that is no trainer: the plans' own network is built
        torch.save({**state, "trainer_name": "os"}, path)
        NnUNetFolder(parse_spec(str(folder), "nnunet")).probabilities(_scan(), _scan().geometry.full_box)
        return
    with pytest.raises(MissingDependencyError):
        NnUNetFolder(parse_spec(str(folder), "nnunet")).probabilities(_scan(), _scan().geometry.full_box)


# bundles


def _refused(folder: Path, match: str) -> None:
    """The bundle with its changed network, its hash made to fit."""
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["sha256"] = hashlib.sha256((folder / manifest["file"]).read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))
    part = "#trust" if manifest["format"] == "torchscript" else ""
    with pytest.raises(MissingDependencyError, match=match):
        Bundle(parse_spec(f"{folder}{part}", "bundle")).probabilities(_scan(), _scan().geometry.full_box)


def _rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Another archive out of the members (below their folder) of this one."""
    with zipfile.ZipFile(path) as archive:
        root = archive.namelist()[0].partition("/")[0]
        members = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name if name.startswith("..") else f"{root}/{name}", content)


def _of_model(change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        model = json.loads(members["models/model.json"])
        change(model)
        members["models/model.json"] = json.dumps(model).encode()

    return apply


def _node(model: Any) -> Any:
    return model["graph_module"]["graph"]["nodes"][0]


def _signature(model: Any) -> Any:
    return model["graph_module"]["module_call_graph"][0]["signature"]


def _system(model: Any) -> None:
    _node(model).update(
        target="torch.os.system",
        inputs=[{"name": "command", "arg": {"as_string": f"touch {CANARY}"}, "kind": 1}],
    )


def _from_file(model: Any) -> None:
    _node(model)["target"] = "torch.ops.aten.from_file.default"


def _expression(model: Any) -> None:
    sizes = next(iter(model["graph_module"]["graph"]["tensor_values"].values()))["sizes"]
    sizes[0] = {"as_expr": {"expr_str": TOUCH, "hint": {"as_int": 1}}}


def _range(model: Any) -> None:
    model["range_constraints"] = {TOUCH: {"min_val": 0, "max_val": 1}}


def _guards(model: Any) -> None:
    model["guards_code"] = [TOUCH]


def _default_factory(model: Any) -> None:
    context = json.dumps({"default_factory_module": "evil_module", "default_factory_name": "x", "dict_context": []})
    spec = json.loads(_signature(model)["in_spec"])
    spec[1]["children_spec"][1] = {"type": "collections.defaultdict", "context": context, "children_spec": []}
    _signature(model)["in_spec"] = json.dumps(spec)


def _enumeration(model: Any) -> None:
    spec = json.loads(_signature(model)["in_spec"])
    spec[1]["children_spec"][1]["context"] = json.dumps([{"__enum__": True, "fqn": "evil_module:X", "name": "x"}])
    _signature(model)["in_spec"] = json.dumps(spec)


def _argument_name(model: Any) -> None:
    _signature(model)["forward_arg_names"] = [f"x={TOUCH}"]


def _tensor_name(model: Any) -> None:
    model["graph_module"]["graph"]["inputs"][0]["as_tensor"]["name"] = f"x):\n    {TOUCH}\n    ("


def _subgraph(model: Any) -> None:
    _node(model)["inputs"][0]["arg"] = {"as_graph": {"name": "g", "graph": {"nodes": []}}}


def _pickled(where: str) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        config = f"data/{where}/model_{where}_config.json"
        held = io.BytesIO()
        torch.save(_Touch(), held, pickle_module=pickle)
        path = "weight_0" if where == "weights" else "tensor_0"
        members[f"data/{where}/{path}"] = held.getvalue()
        entry = {"path_name": path, "is_param": False, "use_pickle": True, "tensor_meta": None}
        members[config] = json.dumps({"config": {"first.weight": entry}}).encode()

    return apply


def _member(name: str, content: bytes = b"x") -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.update({name: content})


EXPORTS: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "an operation of another library": (_of_model(_system), "no operation of a network"),
    "an operation that reads files": (_of_model(_from_file), "no operation of a network"),
    "Python as an expression": (_of_model(_expression), "expression"),
    "Python as a range": (_of_model(_range), "cannot be loaded"),
    "a container that imports a module": (_of_model(_default_factory), "defaultdict"),
    "an enumeration that imports a module": (_of_model(_enumeration), "more than tensors"),
    "Python as an argument's name": (_of_model(_argument_name), "holds the name"),
    "Python as a tensor's name": (_of_model(_tensor_name), "holds the name"),
    "a graph in a graph": (_of_model(_subgraph), "which no network needs"),
    "a pickled weight": (_pickled("weights"), "could run code"),
    "a pickled constant": (_pickled("constants"), "could run code"),
    "an object": (_member("data/constants/opaque_obj_0", pickle.dumps(_Touch())), "no part of a network"),
    "a compiled library": (_member("data/aotinductor/model/evil.so"), "no part of a network"),
    "a legacy constant": (_member("data/constants/model.pt", pickle.dumps(_Touch())), "no part of a network"),
    "a member outside": (_member(f"../{CANARY}"), "outside its folder"),
}


@pytest.mark.parametrize("payload", EXPORTS)
def test_exported_networks_that_are_programs(tmp_path: Path, payload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(TOUCH)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1), "torch.export")
    change, match = EXPORTS[payload]
    _rewritten(folder / FILES["torch.export"], change)
    _refused(folder, match)


def test_example_inputs_and_guards_are_not_looked_at(tmp_path: Path) -> None:
    """torch would unpickle the one and run the other; the network runs without them."""
    folder = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1), "torch.export")
    path = folder / FILES["torch.export"]
    good = Bundle(parse_spec(str(folder), "bundle")).probabilities(_scan(), _scan().geometry.full_box)["liver tumor"]
    held = io.BytesIO()
    torch.save(_Touch(), held, pickle_module=pickle)
    _rewritten(path, _member("data/sample_inputs/model.pt", held.getvalue()))
    _rewritten(path, _of_model(_guards))
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps(manifest))
    found = Bundle(parse_spec(str(folder), "bundle")).probabilities(_scan(), _scan().geometry.full_box)["liver tumor"]
    np.testing.assert_array_equal(found, good)


class _Saver(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "canary")
        return x[:, :1]


class _Reader(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file("canary", shared=True, size=4096, dtype=torch.float32)


class _AtLoading(nn.Module):
    """`__setstate__` runs while torch loads the file."""

    def __init__(self) -> None:
        super().__init__()
        self.w = torch.ones(1)

    @torch.jit.export
    def __getstate__(self) -> tuple[torch.Tensor, bool]:
        return (self.w, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]) -> None:
        self.w = state[0]
        self.training = state[1]
        torch.save(self.w, "canary")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


@pytest.mark.parametrize("network", [_Saver, _Reader, _AtLoading])
def test_torchscript_that_reaches_a_file(tmp_path: Path, network: type[nn.Module]) -> None:
    folder = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1))
    torch.jit.save(torch.jit.script(network()), folder / FILES["torchscript"])
    _refused(folder, "cannot be loaded as torchscript: its source .* no operation of a network")


def _source(line: str) -> Callable[[dict[str, bytes]], None]:
    def apply(members: dict[str, bytes]) -> None:
        name = next(n for n in members if n.startswith("code/__torch__/") and n.endswith(".py") and "helpers" in n)
        text = members[name].decode()
        head, def_, rest = text.partition("-> Tensor:\n")
        members[name] = f"{head}{def_}    {line}\n{rest}".encode()

    return apply


SCRIPTS: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "another name for the operation": (_source("f = torch.save"), "no operation of a network"),
    "a tensor's method": (_source('_0 = (x).save("canary")'), "reaches beyond"),
    "an attribute by its name": (_source('_0 = getattr(x, "save")("canary")'), "reaches beyond"),
    "another name for the library": (_source("o = ops"), "under another name"),
    "an operation of another library": (_source("_0 = ops.quantized.celu(x, 1., 0, 1.)"), "no operation of a network"),
    "a call of Python": (_source("_0 = ops.prim.PythonOp(x)"), "no operation of a network"),
    "a class of another library": (_source("_0 = __torch__.torch.classes.a.B()"), "another library"),
    "a pickle": (_member("data.pkl", pickle.dumps(_Touch(), protocol=2)), "no tensor or container"),
    "a pickle of a later protocol": (_member("constants.pkl", pickle.dumps(_Touch(), protocol=4)), "opcode"),
    "a member of another program": (_member("bytecode.pkl", pickle.dumps(_Touch())), "no part of a TorchScript"),
    "a member outside": (_member(f"../{CANARY}"), "outside its folder"),
}


@pytest.mark.parametrize("payload", SCRIPTS)
def test_torchscript_archives_that_were_edited(tmp_path: Path, payload: str) -> None:
    folder = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1))
    change, match = SCRIPTS[payload]
    _rewritten(folder / FILES["torchscript"], change)
    _refused(folder, match)


def test_torchscript_needs_consent_by_name(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1))
    with pytest.raises(InputError, match="TorchScript, a program") as caught:
        Bundle(parse_spec(str(folder), "bundle")).check()
    assert f"bundle:{folder}#trust" in caught.value.hint
    Bundle(parse_spec(f"{folder}#trust", "bundle")).check()


def test_an_archive_that_unpacks_to_more_than_its_size_explains(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1))
    path = folder / FILES["torchscript"]
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("network/extra/zeros", b"\0" * 50_000_000)
    _refused(folder, "more than its size explains")


# ONNX

ONNX = pytest.mark.skipif(find_spec("onnx") is None or find_spec("onnxruntime") is None, reason="needs onnx")


def _onnx(change: Callable[[Any], None]) -> bytes:
    import onnx

    held = io.BytesIO()
    network = TinyNet(channels=1, classes=1)
    torch.onnx.export(network, (torch.zeros(1, 1, 16, 16, 16),), held, dynamo=False)
    model = onnx.load_from_string(held.getvalue())
    change(model)
    return bytes(model.SerializeToString())


def _external(tensor: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret.bin"


def _weights_beside(model: Any) -> None:
    _external(model.graph.initializer[0])


def _constant_beside(model: Any) -> None:
    node = model.graph.node.add(op_type="Constant", output=["c"])
    attribute = node.attribute.add(name="value", type=4)
    _external(attribute.t)


def _constant_in_a_branch(model: Any) -> None:
    node = model.graph.node.add(op_type="If", output=["c"])
    attribute = node.attribute.add(name="then_branch", type=5)
    _external(attribute.g.initializer.add(name="w", dims=[1], data_type=1))


def _cached_program(model: Any) -> None:
    node = model.graph.node.add(op_type="EPContext", domain="com.microsoft", output=["c"])
    node.attribute.add(name="ep_cache_context", type=3, s=b"../evil.so")


@ONNX
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_weights_beside, "another file"),
        (_constant_beside, "another file"),
        (_constant_in_a_branch, "another file"),
        (_cached_program, "EPContext"),
    ],
)
def test_onnx_files_that_reach_other_files(tmp_path: Path, change: Callable[[Any], None], match: str) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 4096)
    folder = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1), "onnx")
    (folder / FILES["onnx"]).write_bytes(_onnx(change))
    _refused(folder, match)


@ONNX
def test_onnx_in_another_form_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", TinyNet(channels=1, classes=1), "onnx")
    (folder / FILES["onnx"]).write_bytes(b"\x20\0\0\0ORTM" + b"\0" * 100)
    _refused(folder, "own format")
    good = _onnx(lambda model: None)
    check_onnx(good)
    with pytest.raises(ValueError, match="ONNX file"):
        check_onnx(good[:-7])
