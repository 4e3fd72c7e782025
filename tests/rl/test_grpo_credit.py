"""What a decision is learned by, on episodes worked out by hand."""

import numpy as np
import pytest
from xpeng_world.rl.grpo_credit import group_credits, later_rewards, token_advantages
from xpeng_world.rl.grpo_rollout import DrivenEpisode


def episode(rewards, ended="time_limit", read=None) -> DrivenEpisode:
    return DrivenEpisode(0, rewards=list(rewards), ended=ended, read=read or [True] * len(rewards))


def test_later_rewards_are_discounted_sums():
    assert later_rewards(episode([1, 2, 4]), 3, 0.5) == pytest.approx([3, 4, 4])
    assert later_rewards(episode([1, 2, 4]), 3, 1.0) == pytest.approx([7, 6, 4])


def test_nothing_comes_after_a_failure_and_arriving_goes_on_earning():
    assert later_rewards(episode([1, 3], "at_fault_collision"), 5, 1.0) == pytest.approx([4, 3])
    arrived = episode([1, 3], "route_end")
    assert later_rewards(arrived, 5, 1.0) == pytest.approx([4 + 3 * 2, 3 + 3 * 2])
    assert later_rewards(arrived, 5, 1.0)[0] == arrived.total(5)
    assert later_rewards(arrived, 4, 0.5) == pytest.approx([1 + 0.5 * (3 + 0.5 * 3), 3 + 0.5 * (2 + 0.5 * 2)])


def test_credit_is_against_the_group_at_the_same_time():
    crashed, alive, best = episode([1, -5], "at_fault_collision"), episode([1, 1, 1, 1]), episode([1, 1, 2, 3])
    credits = group_credits([crashed, alive, best], 4, 1, 1.0, 0.0)
    # to come: [-4, -5], [4, 3, 2, 1], [7, 6, 5, 3]; means 7/3, 4/3, and from the third frame on of the two that drive: 3.5, 2
    assert np.allclose(credits[0], [-4 - 7 / 3, -5 - 4 / 3])
    assert np.allclose(credits[1], [4 - 7 / 3, 3 - 4 / 3, -1.5, -1])
    assert np.allclose(credits[2], [7 - 7 / 3, 6 - 4 / 3, 1.5, 1])
    assert np.allclose(group_credits([crashed, alive], 4, 1, 1.0, 0.0)[1][2:], 0)  # nobody left to compare with


def test_a_late_mistake_does_not_blame_what_came_before_a_short_horizon():
    clean, late = group_credits([episode([1.0] * 60), episode([1.0] * 59 + [-10.0])], 60, 1, 0.8, 0.0)
    assert abs(clean[0] - late[0]) < 1e-3
    assert clean[-1] - late[-1] == pytest.approx(11.0)


def test_decisions_that_are_held_count_from_their_first_frame_and_their_own_format():
    one, other = episode([1, 2, 3, 4], read=[True, False]), episode([0, 0, 0, 0], read=[True, True])
    credits = group_credits([one, other], 4, 2, 1.0, 3.0)
    assert np.allclose(credits[0], [5.0, 3.5 - 1.5])
    assert np.allclose(credits[1], [-5.0, -3.5 + 1.5])


@pytest.mark.parametrize(("scale", "spreads"), [("none", (1, 1)), ("group", (1.5, 5.0)), ("batch", (np.std([2, -1, 5, -5]),) * 2)])
def test_advantages_of_tokens_are_their_decisions(scale, spreads):
    credits = [np.array([2.0, -1.0]), np.array([0.0, 5.0, -5.0])]
    found = token_advantages(credits, [[0, -1, -1, 1], [1, 2, -1]], 2, scale).numpy()
    assert np.allclose(found[0] * spreads[0], [2, 0, 0, -1], atol=1e-2)
    assert np.allclose(found[1] * spreads[1], [5, -5, 0, 0], atol=1e-2)
