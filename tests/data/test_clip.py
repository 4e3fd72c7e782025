import dataclasses
import json

import pytest
import torch
from xpeng_world.batched import flatten
from xpeng_world.data import Clip, decode_clip, encode_clip
from xpeng_world.errors import DataError


def psnr(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    error = (a.float() - b.float()).square().mean((1, 2, 3))
    return 10 * torch.log10(255**2 / error.clamp_min(1e-6))


def test_a_clip_survives_the_round_trip(make_clip):
    clip = make_clip(steps=30)
    back = decode_clip(encode_clip(clip))
    assert psnr(clip.frames, back.frames).min() >= 42
    assert torch.equal(back.actions, clip.actions)
    assert back.provenance == clip.provenance
    before, after = flatten(clip.track), flatten(back.track)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert torch.equal(after[name], tensor), name


def test_colours_are_not_shifted():
    flat = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [200, 120, 40]], dtype=torch.uint8)
    frames = flat.view(6, 1, 1, 3).expand(6, 64, 128, 3).contiguous()
    back = decode_clip(encode_clip(Clip(frames, torch.zeros(6, 2), None, {}))).frames
    assert (back.int() - frames.int()).abs().max() <= 2


def test_video_and_track_can_be_left_unread(make_clip):
    members = encode_clip(make_clip(steps=5))
    del members["frames.mp4"]
    clip = decode_clip(members, frames=False)
    assert clip.frames.shape == (5, 0, 0, 3)
    assert clip.track.steps == 5
    assert decode_clip(members, frames=False, track=False).track is None


def test_a_clip_without_a_track(make_clip):
    members = encode_clip(make_clip(steps=4, track=False))
    assert decode_clip(members).track is None


def test_a_window_cuts_everything_alike(make_clip):
    clip = make_clip(steps=9)
    window = clip.window(2, 4)
    assert torch.equal(window.frames, clip.frames[2:6])
    assert torch.equal(window.actions, clip.actions[2:6])
    assert torch.equal(window.track.ego.state, clip.track.ego.state[:, 2:6])


def test_encoding_is_deterministic(make_clip):
    assert encode_clip(make_clip(steps=6)) == encode_clip(make_clip(steps=6))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"frames": torch.zeros(4, 64, 128, 3)}, "uint8"),
        ({"actions": torch.zeros(3, 2)}, r"\[4, 2\]"),
        ({"frames": torch.zeros(4, 64, 128, 1, dtype=torch.uint8)}, "T, H, W, 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make_clip, change, said):
    with pytest.raises(DataError, match=said):
        dataclasses.replace(make_clip(steps=4, track=False), **change)


def test_a_track_of_another_length_is_refused(make_clip):
    clip = make_clip(steps=4)
    with pytest.raises(DataError, match=r"needs a track \[1, 4\], not \[1, 3\]"):
        dataclasses.replace(clip, track=clip.track.columns(slice(0, 3)))


def test_what_json_cannot_hold_is_refused(make_clip):
    clip = make_clip(steps=2, track=False)
    with pytest.raises(DataError, match="provenance is not JSON"):
        encode_clip(dataclasses.replace(clip, provenance={"when": object()}))
    with pytest.raises(DataError, match="not finite"):
        encode_clip(dataclasses.replace(clip, actions=torch.full((2, 2), torch.nan)))


def test_damage_is_named(make_clip):
    members = encode_clip(make_clip(steps=4))
    for name, said in (
        ("frames.mp4", "video"),
        ("track.safetensors.gz", "damaged"),
        ("actions.safetensors", "damaged"),
        ("clip.json", "not a clip"),
    ):
        with pytest.raises(DataError, match=said):
            decode_clip({**members, name: members[name][: len(members[name]) // 2]})
        with pytest.raises(DataError):
            decode_clip({n: data for n, data in members.items() if n != name})
    newer = json.loads(members["clip.json"]) | {"version": 99}
    with pytest.raises(DataError, match="version 99"):
        decode_clip({**members, "clip.json": json.dumps(newer).encode()})
