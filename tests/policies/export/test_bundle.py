import stat
import zipfile

import pytest
from xpeng_world import cli
from xpeng_world.errors import CheckpointError, ConfigError
from xpeng_world.policies import load_policy
from xpeng_world.policies.export import read_bundle, write_bundle


def members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path, files, compression=zipfile.ZIP_STORED, mode=stat.S_IFREG | 0o644):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = compression
            archive.writestr(entry, data)
    return path


def refusal(path):
    """The one line that a bundle is refused with."""
    with pytest.raises(CheckpointError) as caught:
        load_policy(str(path))
    (line,) = str(caught.value).splitlines()
    return line


def test_equal_content_gives_equal_bytes(exported, tmp_path):
    bundle = read_bundle(exported.bundle)
    forward, backward = dict(sorted(bundle.files.items())), dict(sorted(bundle.files.items(), reverse=True))
    first = write_bundle(tmp_path / "a.zip", bundle.manifest, forward)
    assert first == write_bundle(tmp_path / "b.zip", bundle.manifest, backward)
    assert (tmp_path / "a.zip").read_bytes() == exported.bundle.read_bytes()


@pytest.mark.parametrize("name", ["manifest.json", "policy.fp32.onnx", "policy.int8.onnx", "build_engine.sh"])
def test_a_changed_file_is_named(exported, tmp_path, name):
    files = members(exported.bundle)
    files[name] = files[name][:-2] + bytes([files[name][-2] ^ 1]) + files[name][-1:]
    assert f"'{name}' is not the file that was bundled" in refusal(pack(tmp_path / "x.zip", files))


def test_missing_and_added_files_are_named(exported, tmp_path):
    files = members(exported.bundle)
    assert "'more.onnx' is not the file" in refusal(pack(tmp_path / "x.zip", {**files, "more.onnx": b"x"}))
    assert "'policy.int8.onnx' is missing" in refusal(pack(tmp_path / "x.zip", {n: d for n, d in files.items() if n != "policy.int8.onnx"}))
    assert "no SHA256SUMS" in refusal(pack(tmp_path / "x.zip", {n: d for n, d in files.items() if n != "SHA256SUMS"}))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_bundle_is_refused(exported, tmp_path, share):
    data = exported.bundle.read_bytes()
    (tmp_path / "x.zip").write_bytes(data[: int(share * len(data))])
    assert "truncated or no bundle" in refusal(tmp_path / "x.zip")


def test_a_flipped_bit_anywhere_is_found(exported, tmp_path):
    data = bytearray(exported.bundle.read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / "x.zip").write_bytes(data)
    assert "refused" in refusal(tmp_path / "x.zip")


@pytest.mark.parametrize("name", ["../x.onnx", "/etc/x", "a/../../x", "C:\\x", ".hidden", "a//b", "x\ny", "folder/"])
def test_names_that_lead_elsewhere_are_refused(exported, tmp_path, name):
    assert "is not allowed" in refusal(pack(tmp_path / "x.zip", {**members(exported.bundle), name: b"x"}))


def test_links_and_compression_are_refused(exported, tmp_path):
    files = members(exported.bundle)
    assert "is a link, compressed or encrypted" in refusal(pack(tmp_path / "x.zip", files, mode=stat.S_IFLNK | 0o777))
    assert "is a link, compressed or encrypted" in refusal(pack(tmp_path / "x.zip", files, zipfile.ZIP_DEFLATED))


def test_other_versions_and_manifests_are_refused(exported, tmp_path):
    bundle = read_bundle(exported.bundle)
    write_bundle(tmp_path / "x.zip", {**bundle.manifest, "version": 99}, bundle.files)
    assert "xpeng-world-bundle' 99" in refusal(tmp_path / "x.zip")
    write_bundle(tmp_path / "x.zip", {**bundle.manifest, "inputs": [{"name": "camera"}]}, bundle.files)
    assert "manifest is not understood" in refusal(tmp_path / "x.zip")
    write_bundle(tmp_path / "x.zip", {**bundle.manifest, "models": {"fp32": "gone.onnx"}}, bundle.files)
    assert "no model 'gone.onnx'" in refusal(tmp_path / "x.zip")


def test_a_manifest_with_other_inputs_than_the_model_s_is_refused(exported, tmp_path):
    bundle = read_bundle(exported.bundle)
    camera, *others = bundle.manifest["inputs"]
    write_bundle(tmp_path / "x.zip", {**bundle.manifest, "inputs": [{**camera, "shape": ["batch", 32, 64, 3]}, *others]}, bundle.files)
    assert "has ports" in refusal(tmp_path / "x.zip")


def test_unknown_precision_and_file(exported):
    with pytest.raises(ConfigError, match="did you mean 'int8'"):
        load_policy(f"{exported.bundle}:int4")
    with pytest.raises(ConfigError, match=r"no bundle 'gone\.zip'"):
        load_policy("gone.zip")


def test_the_command_refuses_a_damaged_bundle_in_one_line(exported, tmp_path, capsys):
    (tmp_path / "x.zip").write_bytes(exported.bundle.read_bytes()[:-40])
    assert cli.main(["eval", f"{tmp_path / 'x.zip'}:int8", f"out={tmp_path / 'eval'}"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "truncated" in message
