import os
import subprocess
import zipfile
from importlib.util import find_spec

import onnx
import pytest
from onnx import TensorProto, helper
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies.export import read_bundle
from xpeng_world.policies.export.engines import CHIPS, build_engine
from xpeng_world.policies.export.exportable import Port
from xpeng_world.policies.export.operators import check_operators
from xpeng_world.policies.export.runtime import OnnxNetwork

VALUE = Port("x", "float32", (3, 3), "a matrix", "1")


def model_with(operator, domain="", weight=None):
    """One operator from x [B, 3, 3] to y."""
    shape = ["batch", 3, 3]
    inputs = ["x"] if weight is None else ["x", weight.name]
    node = helper.make_node(operator, inputs, ["y"], "the_node", domain=domain)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch"] if operator == "Det" else shape)],
        [] if weight is None else [weight],
    )
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


def external_weight(path):
    weight = helper.make_tensor("w", TensorProto.FLOAT, (3, 3), [0.0] * 9)
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=path)
    return weight


@pytest.mark.parametrize(("operator", "domain", "named"), [("Det", "", "'Det'"), ("Gelu", "com.microsoft", r"'com\.microsoft\.Gelu'")])
def test_operators_that_a_target_lacks_are_named(operator, domain, named):
    with pytest.raises(ConfigError, match=f"no operator {named} .*the_node"):
        check_operators(model_with(operator, domain), "m.onnx")
    with pytest.raises(ConfigError, match=named):
        OnnxNetwork(model_with(operator, domain), [VALUE], [VALUE])


@pytest.mark.parametrize("path", ["/etc/passwd", "../weights.bin", "weights.bin"])
def test_weights_in_other_files_are_never_opened(path):
    with pytest.raises(CheckpointError, match="weight 'w' in another file"):
        check_operators(model_with("MatMul", weight=external_weight(path)), "m.onnx")


@pytest.mark.parametrize("data", [b"", b"not a model", b"\x00" * 64])
def test_what_is_no_model_is_refused(data):
    with pytest.raises(CheckpointError, match=r"m\.onnx"):
        check_operators(data, "m.onnx")


@pytest.fixture
def unpacked(exported, tmp_path):
    """The bundle unpacked, and a trtexec that writes down what it was called with."""
    with zipfile.ZipFile(exported.bundle) as archive:
        archive.extractall(tmp_path / "bundle")
    tool = tmp_path / "trtexec"
    tool.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/called\n')
    tool.chmod(0o755)
    return tmp_path


def run_script(folder, *words, tool="trtexec"):
    environment = {**os.environ, "TRTEXEC": str(folder / tool)}
    return subprocess.run(
        ["sh", str(folder / "bundle/build_engine.sh"), *words], env=environment, capture_output=True, text=True, check=False, cwd="/"
    )


@pytest.mark.parametrize(
    ("words", "model", "flag"),
    [((), "policy.fp32.onnx", None), (("fp16",), "policy.fp32.onnx", "--fp16"), (("int8",), "policy.int8.onnx", "--int8")],
)
def test_the_script_calls_trtexec_with_the_model_and_its_shapes(unpacked, words, model, flag):
    assert run_script(unpacked, *words).returncode == 0
    called = (unpacked / "called").read_text().splitlines()
    assert f"--onnx={model}" in called
    assert f"--saveEngine=policy.{words[0] if words else 'fp32'}.engine" in called
    assert "--minShapes=camera:1x64x128x3,ego:1x5,route:1x20x2" in called
    assert "--maxShapes=camera:16x64x128x3,ego:16x5,route:16x20x2" in called
    assert [word for word in called if word in ("--fp16", "--int8")] == ([flag] if flag else [])


def test_the_script_refuses_altered_models_unknown_precisions_and_no_trtexec(unpacked):
    assert "unknown precision 'fp8'" in run_script(unpacked, "fp8").stderr
    assert "no trtexec" in run_script(unpacked, tool="gone").stderr
    with open(unpacked / "bundle/policy.fp32.onnx", "ab") as file:
        file.write(b"x")
    done = run_script(unpacked)
    assert done.returncode == 2
    assert "not the file of this bundle" in done.stderr
    assert not (unpacked / "called").exists()


needs_tensorrt = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="the extra [tensorrt] is not installed")


@needs_tensorrt
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("chip", list(CHIPS))
def test_engines_are_built_without_a_gpu(exported, chip, precision):
    bundle = read_bundle(exported.bundle)
    engine = build_engine(bundle.files[f"policy.{precision}.onnx"], chip, bundle.ports("inputs"))
    assert engine.chip == chip
    assert len(engine.data) > 10_000


@needs_tensorrt
def test_tensorrt_names_the_operator_it_lacks():
    with pytest.raises(ConfigError, match="'Det'"):
        build_engine(model_with("Det"), "SM89", [VALUE])


@needs_tensorrt
def test_the_engines_stand_beside_the_bundle_or_in_it(exported, tmp_path):
    import dataclasses
    import json

    from xpeng_world.evaluation.export import export_policy

    config = dataclasses.replace(exported.config, target="tensorrt", out=str(tmp_path), int8=False, bundle_engines=True)
    bundle = read_bundle(export_policy(config))
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]["engines_built"]["value"] == 3
    for chip in CHIPS:
        assert bundle.files[f"engines/{chip}.engine"] == (tmp_path / "engines" / f"{chip}.engine").read_bytes()
    notes = [note for note in bundle.manifest["verified"] if note["what"].startswith("engines/")]
    assert [note["run"] for note in notes] == [False] * 3


def test_the_models_are_valid_onnx(exported):
    models = [data for name, data in read_bundle(exported.bundle).files.items() if name.endswith(".onnx")]
    assert models
    for data in models:
        onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
