import dataclasses
import io
import json
import zipfile

import onnx
import pytest
import torch
from xpeng_world import cli
from xpeng_world.errors import CheckpointError, ConfigError, DataError
from xpeng_world.evaluation import export as exporting
from xpeng_world.policies import load_policy
from xpeng_world.policies.export import driving_frames, load_exportable, packages, read_bundle
from xpeng_world.policies.export.quantise import quantisable
from xpeng_world.world import observe


def model_of(exported, precision):
    return onnx.load_model_from_string(read_bundle(exported.bundle).files[f"policy.{precision}.onnx"])


def test_the_bundle_drives_as_torch_does_in_any_batch(exported, fake):
    torch_policy, onnx_policy = load_policy(exported.weights), load_policy(str(exported.bundle))
    seen = observe(fake.FakeWorld().reset([3, 4, 5]))
    expected = torch_policy.act(seen, None)[0]
    assert expected.std() > 0.01
    assert torch.allclose(onnx_policy.act(seen, onnx_policy.initial_memory([3, 4, 5]))[0], expected, atol=1e-5)
    assert torch.allclose(onnx_policy.act(seen[1], None)[0], expected[1:2], atol=1e-5)
    assert onnx_policy.name == "bundle:fp32"


def test_actions_are_clipped_in_the_graph(exported, fake):
    seen = observe(fake.FakeWorld().reset([3]))
    far = dataclasses.replace(seen, route=seen.route * 1e4)
    action, _ = load_policy(str(exported.bundle)).act(far, None)
    assert action.abs().max() == 1


def test_int8_is_near_and_not_equal(exported, fake):
    seen = observe(fake.FakeWorld().reset([3, 4]))
    expected = load_policy(exported.weights).act(seen, None)[0]
    gap = (load_policy(f"{exported.bundle}:int8").act(seen, None)[0] - expected).abs()
    assert 1e-6 < gap.max() < 0.1


def test_int8_quantises_every_weight_symmetrically_and_no_bias(exported):
    plain, model = model_of(exported, "fp32"), model_of(exported, "int8")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made_by = {node.output[0]: node for node in model.graph.node}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == len(quantisable(plain)) == 8
    for layer in layers:
        activation, weight = made_by[layer.input[0]], made_by[layer.input[1]]
        assert (activation.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert stored[weight.input[0]].dtype == "int8"
        assert stored[weight.input[1]].shape == (stored[weight.input[0]].shape[0],)
        assert not stored[weight.input[2]].any()
        assert not stored[activation.input[2]].any()
        assert stored[layer.input[2]].dtype == "float32"
    assert [entry.domain for entry in model.opset_import] == [""]


def test_models_tell_nothing_of_where_they_were_made(exported):
    for data in read_bundle(exported.bundle).files.values():
        assert b".py" not in data
        assert b"site-packages" not in data


def test_manifest_says_what_was_verified_where_and_what_was_not(exported):
    manifest = read_bundle(exported.bundle).manifest
    exact, rounded, script = manifest["verified"]
    assert exact["largest_difference"] <= exact["tolerance"] == 1e-5
    assert (exact["frames"], exact["split"], exact["run"]) == (12, "validation", True)
    assert "onnxruntime" in exact["where"]
    assert rounded["calibration_frames"] == 10
    assert 0 < rounded["mean_difference"] <= rounded["largest_difference"]
    assert script["run"] is False
    camera, ego, route = manifest["inputs"]
    assert (camera["dtype"], camera["shape"], camera["low"], camera["high"]) == ("uint8", ["batch", 64, 128, 3], 0, 255)
    assert (ego["shape"], route["shape"]) == (["batch", 5], ["batch", 20, 2])
    assert manifest["ranges_of_the_frames"]["camera"] == {"least": [90.0], "greatest": [255.0]}
    assert manifest["policy"]["parameters"] == sum(p.numel() for p in load_policy(exported.weights).net.parameters())


def test_figures_are_kept_with_their_command(exported):
    record = json.loads((exported.out / "metrics.json").read_text())
    assert set(record["metrics"]) == {"parity_fp32", "int8_mean_difference", "int8_max_difference"}
    assert record["metrics"]["parity_fp32"]["n"] == 12
    assert record["threads"] == 1
    assert "frames=12" in record["command"]


def test_a_model_that_acts_otherwise_is_not_bundled(exported, tmp_path, monkeypatch):
    model = read_bundle(exported.bundle).files["policy.fp32.onnx"]
    wrong = onnx.load_model_from_string(model)
    bias = next(tensor for tensor in wrong.graph.initializer if tensor.name == "net.action.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + 1e-3, bias.name))
    monkeypatch.setattr(exporting, "to_onnx", lambda policy: wrong.SerializeToString())
    with pytest.raises(CheckpointError, match=r"differ from torch's by up to 0\.001"):
        exporting.export_policy(dataclasses.replace(exported.config, out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("target", "extra", "absent"), [("onnx", "export", "onnxruntime"), ("tensorrt", "tensorrt", "tensorrt_rtx")])
def test_a_missing_package_is_named_before_any_work(capsys, monkeypatch, target, extra, absent):
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == absent else object())
    assert cli.main(["export", "no/such/weights", f"target={target}"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert f"pip install 'xpeng-world[{extra}]'" in message


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["target=tensort"], "did you mean 'tensorrt'"),
        (["target=tensorrt", "chips=[SM98]"], "did you mean 'SM89'"),
        (["chips=[SM87]"], "build_engine.sh"),
        (["tolerance=0"], "above 0"),
        ([], "no such folder"),
    ],
)
def test_what_cannot_be_exported_is_one_line(capsys, words, reason):
    assert cli.main(["export", "no/such/weights", *words]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert reason in message


def test_only_known_formats_are_exported(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    with pytest.raises(ConfigError, match=r"format 'qwen3' cannot be exported.*xpeng-world-car"):
        load_exportable(tmp_path)
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_exportable(tmp_path)


def test_frames_are_spread_over_the_clips_of_one_split(clips):
    frames = driving_frames(clips, "validation", 6)
    assert frames.camera.shape == (6, 64, 128, 3)
    assert frames.ego.shape == (6, 5)
    speeds = {seed: driving_frames(clips, split, 16).ego[:, 0] for seed, split in enumerate(("train", "validation"))}
    assert not torch.equal(speeds[0], speeds[1])
    assert set(frames.ego[:, 0].tolist()) < set(speeds[1].tolist())
    assert len(set(frames.ego[:, 0].tolist())) == 6
    assert torch.equal(driving_frames(clips, "validation", 6).ego, frames.ego)


def test_too_few_frames_are_refused(clips):
    with pytest.raises(DataError, match="only 16 such frames"):
        driving_frames(clips, "validation", 17)
    with pytest.raises(ConfigError, match="too few"):
        driving_frames(clips, "validation", 0)


def test_the_zip_holds_what_its_hashes_list(exported):
    with zipfile.ZipFile(io.BytesIO(exported.bundle.read_bytes())) as archive:
        names = archive.namelist()
    assert names == sorted(names)
    assert set(names) == {"SHA256SUMS", "build_engine.sh", "manifest.json", "policy.fp32.onnx", "policy.int8.onnx"}
