import gc
import json
import shutil

import pytest
import torch
from xpeng_world.data import ShardWriter, check_trainable, encode_clip, read_clips, split_of
from xpeng_world.data.shards import read_index, verify_shards
from xpeng_world.data.split import only_trainable
from xpeng_world.errors import DataError


@pytest.fixture(scope="module")
def written(tmp_path_factory, make_clip):
    folder = tmp_path_factory.mktemp("shards")
    with ShardWriter(folder, clips_per_shard=2) as writer:
        for seed in range(5):
            writer.add(make_clip(steps=3, network_seed=seed, seed=seed, track=False))
        writer.add(make_clip(steps=3, network_seed=200, seed=9, track=False))
    return folder


@pytest.fixture
def folder(written, tmp_path):
    return shutil.copytree(written, tmp_path / "shards")


def seeds(clips):
    return [clip.provenance["seed"] for clip in clips]


def test_clips_come_back_in_order_and_by_split(written):
    assert seeds(read_clips(written, "train", frames=False)) == [0, 1, 2, 3, 4]
    assert seeds(read_clips(written, "test", frames=False)) == [9]
    assert len(list(read_clips(written))) == 6
    assert seeds(read_clips(written / "train-000001.tar", frames=False)) == [2, 3]
    with pytest.raises(DataError, match="no clip of the split 'validation'"):
        read_clips(written, "validation")
    with pytest.raises(DataError, match="did you mean 'train'"):
        read_clips(written, "trian")


def test_shuffling_follows_the_seed_and_changes_by_round(written):
    def first(count, seed):
        stream = read_clips(written, "train", shuffle_seed=seed, repeat=True, frames=False)
        return seeds(next(stream) for _ in range(count))

    assert first(10, 1) == first(10, 1)
    assert first(10, 1) != first(10, 2)
    both = first(10, 1)
    assert sorted(both[:5]) == sorted(both[5:]) == [0, 1, 2, 3, 4]
    assert both[:5] != both[5:]


def test_the_index_says_what_is_there(written):
    shards = read_index(written)
    assert [(s.name, s.split, len(s.keys)) for s in shards] == [
        ("train-000000.tar", "train", 2),
        ("train-000001.tar", "train", 2),
        ("train-000002.tar", "train", 1),
        ("test-000003.tar", "test", 1),
    ]
    assert verify_shards(written) == 6
    assert sorted(p.name for p in written.iterdir() if not p.name.startswith(".")) == sorted(["index.json", *(s.name for s in shards)])
    assert not list(written.glob("*.partial")) + list(written.glob(".*.partial"))


def test_writing_goes_on_where_it_ended(folder, make_clip):
    with ShardWriter(folder) as writer:
        writer.add_encoded(encode_clip(make_clip(steps=3, seed=77, track=False)))
    assert seeds(read_clips(folder, "train", frames=False)) == [0, 1, 2, 3, 4, 77]
    assert verify_shards(folder) == 7


def test_an_interrupted_recording_keeps_whole_clips_only(tmp_path, make_clip):
    clip = make_clip(steps=3, seed=5, track=False)

    def record():
        with ShardWriter(tmp_path) as writer:
            writer.add(clip)
            raise RuntimeError("the simulator died")

    with pytest.raises(RuntimeError, match="died"):
        record()
    assert verify_shards(tmp_path) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the library leaves its files to the collector
def test_webdataset_reads_the_shards(written):
    webdataset = pytest.importorskip("webdataset")
    samples = list(webdataset.WebDataset(str(written / "train-000000.tar"), shardshuffle=False))
    gc.collect()
    assert [s["__key__"] for s in samples] == ["train-000000-0000", "train-000000-0001"]
    assert json.loads(samples[0]["clip.json"])["provenance"]["seed"] == 0


def test_a_truncated_shard_is_named(folder):
    shard = folder / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"'train-000001.tar' .* bytes, not .* copy or record it again"):
        read_clips(folder)
    assert seeds(read_clips(folder, "test", frames=False)) == [9]


def test_a_missing_shard_is_named(folder):
    (folder / "train-000001.tar").unlink()
    with pytest.raises(DataError, match=r"'train-000001.tar' is missing .*\(2 clips\)"):
        read_clips(folder, "train")


def test_an_altered_shard_is_named(folder):
    shard = folder / "train-000001.tar"
    data = bytearray(shard.read_bytes())
    data[600] ^= 255
    shard.write_bytes(data)
    with pytest.raises(DataError, match="altered"):
        verify_shards(folder)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_clips(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no index.json"):
        read_clips(tmp_path)


def test_the_network_decides_the_split(make_clip):
    assert split_of(make_clip(steps=2, network_seed=29, track=False)) == "train"
    assert split_of({"network_seed": 204}) == "test"
    assert split_of({"split": "validation"}) == "validation"
    with pytest.raises(DataError, match="belongs to 'test'"):
        split_of({"network_seed": 204, "split": "train"})
    with pytest.raises(DataError, match="belongs to no split"):
        split_of({"network_seed": 77})
    with pytest.raises(DataError, match="neither"):
        split_of({})


def test_training_on_test_roads_is_refused(written, make_clip):
    check_trainable(make_clip(steps=2, network_seed=1, track=False))
    with pytest.raises(DataError, match="network seed 200"):
        list(only_trainable(read_clips(written, frames=False)))
    assert torch.is_tensor(next(only_trainable(read_clips(written))).frames)
