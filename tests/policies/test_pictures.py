import pytest
import torch
from xpeng_world.errors import ConfigError
from xpeng_world.policies.pictures import LONGEST_LAG, PictureMemory, check_lag


def picture(*levels):
    """Pictures [B, 64, 128, 3], each of one grey level."""
    return torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 64, 128, 3)


def levels(pictures):
    return pictures[:, 5, 7, 1].tolist()


def test_the_earlier_picture_lies_lag_frames_back_and_is_the_first_one_near_the_start():
    memory, seen = PictureMemory.empty(2, 3), []
    for t in range(7):
        earlier, memory = memory.see(picture(10 + t, 20 + t))
        seen.append(levels(earlier))
    assert [row[0] for row in seen] == [10, 10, 10, 10, 11, 12, 13]
    assert [row[1] for row in seen] == [20, 20, 20, 20, 21, 22, 23]
    assert memory.frames.dtype == torch.uint8
    assert memory.frames.shape == (2, 3, 64, 128, 3)


def test_a_kept_memory_goes_on_as_it_was_and_rows_begin_anew_alone():
    _, memory = PictureMemory.empty(2, 2).see(picture(1, 51))
    _, memory = memory.see(picture(2, 52))
    kept = memory
    _, memory = memory.see(picture(3, 53))
    one, other = kept.see(picture(100, 100))[0], kept.see(picture(200, 200))[0]
    assert levels(one) == levels(other) == [1, 51]
    begun = memory.put([1], PictureMemory.empty(1, 2))
    earlier, begun = begun.see(picture(4, 90))
    assert levels(earlier) == [2, 90]
    assert levels(begun.see(picture(5, 91))[0]) == [3, 90]
    both = PictureMemory.cat([kept[1], memory[0]])
    assert levels(both.see(picture(0, 0))[0]) == [51, 2]


@pytest.mark.parametrize("lag", [-1, LONGEST_LAG + 1, 1.5, True, "4"])
def test_a_lag_out_of_range_is_refused(lag):
    with pytest.raises(ConfigError, match="whole number of frames"):
        check_lag(lag)
    with pytest.raises(ConfigError, match="lag"):
        PictureMemory.empty(1, 0)
