import numpy as np
import torch
from xpeng_world.rl.augment import _shifted, augment


def pictures(batch=6):
    return torch.rand(batch, 3, 16, 32, generator=torch.Generator().manual_seed(0))


def test_strength_nought_changes_nothing():
    assert torch.equal(augment(pictures(), 0.0, np.random.default_rng(0)), pictures())


def test_pictures_stay_pictures_and_follow_the_generator():
    changed = augment(pictures(), 1.0, np.random.default_rng(3))
    assert changed.shape == pictures().shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert torch.equal(changed, augment(pictures(), 1.0, np.random.default_rng(3)))
    assert not torch.allclose(changed, augment(pictures(), 1.0, np.random.default_rng(4)), atol=0.05)


def test_each_picture_is_changed_in_its_own_way():
    same = pictures(1).expand(4, -1, -1, -1)
    changed = augment(same, 1.0, np.random.default_rng(1))
    assert all(float((changed[0] - changed[i]).abs().mean()) > 0.01 for i in (1, 2, 3))


def test_a_shift_moves_by_whole_pixels_and_repeats_edges():
    moved = _shifted(pictures(2), torch.tensor([3, -2]), torch.tensor([1, 0]))
    assert torch.equal(moved[0, :, 1:, 3:], pictures(2)[0, :, :-1, :-3])
    assert torch.equal(moved[1, :, :, :-2], pictures(2)[1, :, :, 2:])
    assert torch.equal(moved[1, :, :, -1], pictures(2)[1, :, :, -1])


def test_two_pictures_of_one_moment_change_alike_but_for_the_grain() -> None:
    one = pictures()
    alone = augment(one, 1.0, np.random.default_rng(3))
    both = augment(torch.cat((one, one), 1), 1.0, np.random.default_rng(3))
    now, before = both.split(3, 1)
    # grain is 0.03 at most a standard deviation, everything else changes the pictures by far more
    assert (now - before).abs().mean() < 0.03
    assert (now - before).abs().max() > 0
    assert (now - one).abs().mean() > 2 * (now - before).abs().mean()
    assert alone.shape == one.shape


def test_movement_is_kept() -> None:
    before = torch.full((6, 3, 64, 128), 0.5)
    now = before.clone()
    now[:, :, 20:40, 50:70] = 0.8
    changed = augment(torch.cat((now, before), 1), 0.5, np.random.default_rng(1))
    gap = (changed[:, :3] - changed[:, 3:]).abs()
    assert gap[:, :, 24:36, 56:64].mean() > 0.2
    assert gap[:, :, 48:, :].mean() < 0.03
