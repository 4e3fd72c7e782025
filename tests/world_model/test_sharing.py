"""Pictures that threads share out are those that one thread paints."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from xpeng_world.world_model.learned import LearnedWorld
from xpeng_world.world_model.video.sharing import LEAST, shared


@pytest.fixture(params=[2, 3, 4])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 13, 16, 31])
def test_parts_are_all_of_it_in_order_and_each_has_a_thread_with_its_share(threads: int, count: int) -> None:
    names, shares = set(), []

    def work(begin: int, end: int) -> list[int]:
        names.add(threading.current_thread().name)
        shares.append(torch.get_num_threads())
        return list(range(begin, end))

    parts = shared(work, count)
    assert [index for part in parts for index in part] == list(range(count))
    wanted = {2: 1 if count < 8 else 2, 3: 1 if count < 8 else 2 if count < 12 else 3, 4: 1 if count < 8 else 2 if count < 16 else 4}
    assert len(parts) == wanted[threads]
    assert sum(shares) <= threads
    assert len(set(shares)) <= 1
    assert torch.get_num_threads() == threads
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert len(parts) == 1 or min(sizes) >= LEAST
    assert (threading.current_thread().name in names) == (len(parts) == 1)


def test_threads_know_how_they_were_called_and_say_what_went_wrong(threads: int) -> None:
    state = lambda *_: (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))
    with torch.enable_grad():
        assert set(shared(state, 16)) == {(True, False, False)}
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert set(shared(state, 16)) == {(False, False, True)}
        assert {part.dtype for part in shared(lambda *_: torch.ones(2, 2) @ torch.ones(2, 2), 16)} == {torch.bfloat16}
    with torch.inference_mode():
        assert set(shared(state, 16)) == {(False, True, False)}

    def fails(begin: int, end: int) -> None:
        if begin:
            raise ValueError(f"pictures {begin} to {end}")

    with pytest.raises(ValueError, match="pictures"):
        shared(fails, 16)
    assert shared(lambda begin, end: end - begin, 16)  # and go on after it


@pytest.mark.parametrize("options", [{}, {"steps": 2}])
def test_a_world_paints_the_same_with_any_number_of_threads(threads: int, options: dict) -> None:
    world = LearnedWorld.load(traffic="idm", **options)
    actions = 0.2 * torch.ones(9, 2)

    def pictures() -> Tensor:
        state, seen = world.reset(range(9)), []
        for _ in range(3):
            state = world.step(state, actions)
            seen.append(state.frame)
        return torch.stack(seen)

    several = pictures()
    torch.set_num_threads(1)
    alone = pictures()
    off = np.abs(several.numpy().astype(int) - alone.numpy().astype(int))
    assert off.max() <= 2  # rounding, no more
    assert (off > 0).mean() < 0.01
    assert not torch.equal(several[:, 0], several[:, 1])
