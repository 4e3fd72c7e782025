import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from xpeng_world.data import import_donkeycar, import_video, read_clips
from xpeng_world.data.codec import encode_video
from xpeng_world.data.importing import import_clips
from xpeng_world.data.picture import crop_box, fit_picture
from xpeng_world.data.plan import plan_clips
from xpeng_world.errors import ConfigError, DataError


def write_tub(folder, count=80, interval_ms=50, pause_at=(), deleted=(), session=lambda i: "a"):
    """A tub whose picture i is a flat grey of value i and whose angle and throttle are ramps."""
    (folder / "images").mkdir(parents=True)
    lines, time = [], 1_700_000_000_000
    for i in range(count):
        time += interval_ms + (5000 if i in pause_at else 0)
        name = f"{i}_cam_image_array_.jpg"
        Image.fromarray(np.full((120, 160, 3), i, np.uint8)).save(folder / "images" / name)
        entry = {"_index": i, "_session_id": session(i), "_timestamp_ms": time, "cam/image_array": name}
        lines.append(json.dumps({**entry, "user/angle": i / 100, "user/throttle": 0.5, "user/mode": "user"}))
    (folder / "catalog_0.catalog").write_text("\n".join(lines) + "\n")
    manifest = [["cam/image_array"], ["image_array"], {}, {}, {"paths": ["catalog_0.catalog"], "deleted_indexes": list(deleted)}]
    (folder / "manifest.json").write_text("\n".join(json.dumps(m) for m in manifest))
    return folder


@pytest.fixture
def tub(tmp_path):
    return write_tub(tmp_path / "tub")


def test_every_second_picture_with_the_mean_action(tub, tmp_path):
    import_donkeycar(tub, tmp_path / "out", min_steps=4, test_share=0.0)
    (clip,) = read_clips(tmp_path / "out")
    assert clip.steps == 40
    assert (clip.frames.float().mean((1, 2, 3)) - torch.arange(0, 80, 2)).abs().max() < 1.5
    torch.testing.assert_close(clip.actions[:-1, 0], -(torch.arange(0, 78, 2) + 0.5) / 100)
    assert torch.equal(clip.actions[-1], torch.zeros(2))
    assert torch.allclose(clip.actions[:-1, 1], torch.tensor(0.5))
    about = clip.provenance
    assert (about["source"], about["split"], about["dt"], about["source_dt"], about["crop"]) == (
        "donkeycar",
        "train",
        0.1,
        0.05,
        [0, 10, 160, 90],
    )
    assert clip.track is None


def test_ten_hertz_needs_no_thinning(tmp_path):
    report = import_donkeycar(write_tub(tmp_path / "tub", interval_ms=100), tmp_path / "out", test_share=0.0)
    assert report.frames == {"train": 80}
    assert report.dropped_frames == 0


def test_drives_end_at_pauses_deletions_and_sessions(tmp_path):
    tub = write_tub(tmp_path / "tub", pause_at=(20,), deleted=(40, 41), session=lambda i: "a" if i < 60 else "b")
    report = import_donkeycar(tub, tmp_path / "out", min_steps=4, test_share=0.0)
    assert [clip.provenance["records"] for clip in read_clips(tmp_path / "out", frames=False)] == [[0, 18], [20, 38], [42, 58], [60, 78]]
    assert report.frames == {"train": 39}


def test_the_end_is_the_test_split_with_a_guard_between():
    pieces = plan_clips([100, 100], clip_steps=60, min_steps=5, test_share=0.25)
    assert [(p.stretch, p.start, p.stop, p.split) for p in pieces] == [
        (0, 0, 60, "train"),
        (0, 60, 100, "train"),
        (1, 0, 50, "train"),
        (1, 60, 100, "test"),
    ]
    assert {p.split for p in plan_clips([50], 60, 5, 1.0)} == {"test"}
    with pytest.raises(DataError, match="test_share 2"):
        plan_clips([50], 60, 5, 2)


def test_missing_images_are_counted_and_named(tub, tmp_path):
    for index in (10, 11, 50):
        (tub / "images" / f"{index}_cam_image_array_.jpg").unlink()
    with pytest.raises(DataError, match=r"3 of 80 images .* first is 'images/10_cam_image_array_.jpg'.* skip_missing=true"):
        import_donkeycar(tub, tmp_path / "out")
    report = import_donkeycar(tub, tmp_path / "out", min_steps=4, test_share=0.0, skip_missing=True)
    assert report.missing_images == 3
    assert [clip.provenance["records"] for clip in read_clips(tmp_path / "out", frames=False)] == [[0, 8], [12, 48], [51, 77]]


def test_unreadable_images_are_named(tub, tmp_path):
    (tub / "images" / "20_cam_image_array_.jpg").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"20_cam_image_array_.jpg' cannot be read"):
        import_donkeycar(tub, tmp_path / "first")
    report = import_donkeycar(tub, tmp_path / "out", min_steps=4, test_share=0.0, skip_missing=True)
    assert report.missing_images == 1
    assert [clip.provenance["records"] for clip in read_clips(tmp_path / "out", frames=False)] == [[0, 18], [22, 78]]


def test_what_is_no_tub_is_refused(tub, tmp_path):
    with pytest.raises(DataError, match=r"no manifest.json"):
        import_donkeycar(tmp_path, tmp_path / "out")
    catalog = tub / "catalog_0.catalog"
    lines = catalog.read_text().splitlines()
    catalog.write_text("\n".join([*lines[:5], lines[5][:30], *lines[6:]]))
    with pytest.raises(DataError, match=r"catalog_0.catalog' line 6 is damaged"):
        import_donkeycar(tub, tmp_path / "out")
    catalog.unlink()
    with pytest.raises(DataError, match=r"catalog_0.catalog' is missing"):
        import_donkeycar(tub, tmp_path / "out")
    with pytest.raises(DataError, match=r"recorded at 7.1 Hz"):
        import_donkeycar(write_tub(tmp_path / "odd", interval_ms=140), tmp_path / "out")


def test_importing_twice_into_one_folder_needs_consent(tub, tmp_path):
    import_donkeycar(tub, tmp_path / "out", test_share=0.0)
    with pytest.raises(DataError, match="append=true"):
        import_donkeycar(tub, tmp_path / "out")
    import_donkeycar(tub, tmp_path / "out", test_share=0.0, append=True)
    assert len(list(read_clips(tmp_path / "out", frames=False))) == 2


def test_pictures_are_cut_to_the_road():
    assert crop_box(160, 120) == (0, 10, 160, 90)
    assert crop_box(160, 120, 1.0) == (0, 40, 160, 120)
    assert crop_box(300, 100) == (50, 0, 250, 100)
    rows = np.repeat(np.arange(120, dtype=np.uint8)[:, None, None], 160, 1).repeat(3, 2)
    fitted = fit_picture(Image.fromarray(rows), 0.25)
    assert fitted.shape == (64, 128, 3)
    assert abs(int(fitted[0, 0, 0]) - 10) <= 1
    assert abs(int(fitted[-1, 0, 0]) - 89) <= 1
    with pytest.raises(DataError, match="crop_top"):
        crop_box(160, 120, 2)


def test_a_plain_video_has_no_actions(tmp_path):
    frames = (torch.arange(100) * 2).to(torch.uint8).view(100, 1, 1, 1).expand(100, 96, 160, 3)
    (tmp_path / "drive.mp4").write_bytes(encode_video(frames, fps=20))
    report = import_clips("video", str(tmp_path / "drive.mp4"), str(tmp_path / "out"), test_share=0.0)
    (clip,) = read_clips(tmp_path / "out")
    assert report.frames == {"train": 50}
    assert clip.provenance["actions"] == "none"
    assert not clip.actions.any()
    step = clip.frames.float().mean((1, 2, 3)).diff()
    assert (step - 4).abs().max() <= 2.1


def test_what_is_no_video_is_refused(tmp_path):
    with pytest.raises(DataError, match="no video"):
        import_video(tmp_path / "drive.mp4", tmp_path / "out")
    (tmp_path / "drive.mp4").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DataError, match="cannot be read as a video"):
        import_video(tmp_path / "drive.mp4", tmp_path / "out")
    with pytest.raises(ConfigError, match="did you mean 'video'"):
        import_clips("vidio", "a", "b")


def test_a_real_tub_steers_the_way_its_pictures_turn(recordings, tmp_path):
    cv2 = pytest.importorskip("cv2")
    tub = tmp_path / "tub"
    shutil.copytree(recordings / "donkey_tub", tub, ignore=shutil.ignore_patterns("images"))
    (tub / "images").symlink_to((recordings / "donkey_tub" / "images").resolve())
    manifest = (tub / "manifest.json").read_text().splitlines()
    tail = json.loads(manifest[4]) | {"paths": ["catalog_1.catalog"]}
    (tub / "manifest.json").write_text("\n".join([*manifest[:4], json.dumps(tail)]))
    report = import_donkeycar(tub, tmp_path / "out", test_share=0.0)
    assert report.frames["train"] > 400
    steering, shift = [], []
    window = cv2.createHanningWindow((128, 36), cv2.CV_32F)
    for clip in read_clips(tmp_path / "out"):
        assert clip.provenance["licence"] == "MIT License"
        # The walls far off, above the carpet, show turning alone.
        far = [cv2.GaussianBlur(frame[:36], (0, 0), 1.5) for frame in clip.frames.float().mean(-1).numpy()]
        for t in range(2, clip.steps - 1):
            (across, _), quality = cv2.phaseCorrelate(far[t], far[t + 1], window)
            if quality > 0.2:
                shift.append(across)
                steering.append(float(clip.actions[t - 2, 0]))  # the servo answers about 150 ms late
    # Turning left moves the picture to the right.
    assert np.corrcoef(steering, shift)[0, 1] > 0.4


def test_a_real_dashcam_video_is_read(recordings, tmp_path):
    report = import_video(recordings / "dashcam_highway" / "drive.mp4", tmp_path / "out", clip_steps=110)
    assert report.frames == {"train": 480, "test": 110}
    assert report.dropped_frames == 20
    clip = next(read_clips(tmp_path / "out", "test"))
    assert clip.frames.shape == (110, 64, 128, 3)
    assert clip.frames.float().std() > 20
