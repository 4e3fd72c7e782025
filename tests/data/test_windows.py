import itertools

import pytest
import torch
from torch.utils.data import DataLoader
from xpeng_world.data import ClipWindows, ShardWriter, collate
from xpeng_world.errors import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_clip):
    folder = tmp_path_factory.mktemp("windows")
    with ShardWriter(folder, clips_per_shard=3) as writer:
        for seed, steps in enumerate((8, 11, 6, 9, 3, 10, 12)):
            writer.add(make_clip(steps=steps, network_seed=seed, seed=seed, track=seed < 4))
        writer.add(make_clip(steps=8, network_seed=200, seed=99, track=False))
    return folder


def windows(folder, **options):
    return ClipWindows(folder, **{"length": 4, "pool": 3, "frames": False, "track": False, **options})


def mark(window):
    return window.provenance["seed"], tuple(window.actions.flatten().tolist())


def marks(stream, count):
    return [mark(w) for w in itertools.islice(stream, count)]


def test_windows_are_consecutive_and_of_the_split(folder):
    got = list(windows(folder, frames=True, repeat=False, stride=1))
    assert len(got) == 5 + 8 + 3 + 6 + 7 + 9  # every start of every train clip that is long enough
    assert all(w.frames.shape == (4, 64, 128, 3) and w.actions.shape == (4, 2) for w in got)
    assert {w.provenance["seed"] for w in got} == {0, 1, 2, 3, 5, 6}
    assert len({mark(w) for w in got}) == len(got)


def test_a_one_round_reader_can_be_read_twice(folder):
    reader = windows(folder, repeat=False)
    assert marks(reader, 1000) == marks(reader, 1000)


def test_the_order_follows_the_seed(folder):
    assert marks(windows(folder, seed=1), 30) == marks(windows(folder, seed=1), 30)
    assert marks(windows(folder, seed=1), 30) != marks(windows(folder, seed=2), 30)


@pytest.mark.parametrize("served", [0, 1, 5, 17, 40])
def test_resuming_gives_the_same_sequence(folder, served):
    whole = marks(windows(folder), served + 20)
    first = windows(folder)
    marks(first, served)
    state = first.state_dict()
    second = windows(folder)
    second.load_state_dict(state)
    assert marks(second, 20) == whole[served:]
    assert second.state_dict()["served"] == served + 20


@pytest.mark.parametrize("batches", [0, 1, 4, 7])
def test_resuming_with_workers_gives_the_same_batches(folder, batches):
    def loader(reader):
        return DataLoader(reader, batch_size=3, num_workers=2, collate_fn=lambda ws: [mark(w) for w in ws], multiprocessing_context="fork")

    whole = list(itertools.islice(loader(windows(folder)), batches + 4))
    reader = windows(folder)
    reader.load_state_dict(windows(folder).state_after(batches, batch_size=3, workers=2))
    assert list(itertools.islice(loader(reader), 4)) == whole[batches:]


def test_workers_share_a_round_without_overlap(folder):
    alone = marks(windows(folder, repeat=False), 1000)
    loader = DataLoader(windows(folder, repeat=False), batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert sorted(mark(w) for w in loader) == sorted(alone)


def test_a_position_of_other_settings_is_refused(folder):
    with pytest.raises(DataError, match="length 4, now it is 3"):
        windows(folder, length=3).load_state_dict(windows(folder).state_dict())


def test_windows_that_no_clip_can_fill_are_refused(folder):
    with pytest.raises(DataError, match="has 50 frames"):
        windows(folder, length=50)


def test_batches_hold_padded_tracks(folder, make_clip):
    batch = collate([make_clip(steps=4).window(0, 4), make_clip(steps=4).window(0, 4)])
    assert batch.frames.shape == (2, 4, 64, 128, 3)
    assert batch.track.ego.state.shape == (2, 4, 7)
    assert torch.equal(batch[1].actions, batch.actions[1:])
    assert collate([make_clip(steps=4), make_clip(steps=4, track=False)]).track is None
