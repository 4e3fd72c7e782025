"""Do followers keep clear of an ego that does what it did not do in the recording, where ordinary braking would have sufficed?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ...data import read_clips
from ...geometry import box_corners, boxes_overlap, sample_polyline, to_frame, wrap_angle
from ...scene import DT, AgentKind, Ego, Scene, Track
from ..bootstrap import Estimate, bootstrap, ratio_of_means
from .pictures import SECOND
from .windows import make_simulator, roll_out, simulated_agents, source_of

HORIZON = 8 * SECOND  # steps
EVERY = 4 * SECOND  # steps between the moments of a clip at which the ego turns to a manoeuvre
SAMPLES = 4  # futures drawn of each case
BRAKING = {"brake": 7.0, "stop": 3.0, "cut_in": 2.0}  # m/s2 of the ego, to standstill; cutting in, while it changes lanes
CUT_IN_TIME = 2.0  # s
SUFFICIENT = 4.0  # m/s2 of the follower that ought to do
REACTION_TIME = 0.5  # s before it brakes
SLOWEST = 3.0  # m/s below which neither ego nor follower makes a case
FARTHEST = 40.0  # m of gap
ASIDE = 1.2  # m off the ego's line, or off each other's, that is the same lane
BESIDE = (2.4, 4.2)  # m aside that is the next lane
MOTOR = (int(AgentKind.CAR), int(AgentKind.TRUCK), int(AgentKind.BUS))
SAME_WAY = math.radians(15.0)
STRAIGHT = 150.0  # m that the ego's way goes on after the recording


@dataclass(frozen=True)
class Case:
    """One manoeuvre of the ego in front of one follower, from the first column of a log on."""

    log: Track  # [1, HORIZON + 1]
    ego: Tensor  # [1, HORIZON + 1, 7]
    follower: int  # slot
    manoeuvre: str  # of BRAKING
    source: str
    clip: int


def find_cases(folders: Sequence[str], clips: int) -> list[Case]:
    """Cases in the first `clips` clips of the test split of each folder.

    Any recorded motor vehicle may be the ego, the one that was is an agent then. A case is a follower that touches the ego if it keeps its
    speed, and does not if it brakes at SUFFICIENT after REACTION_TIME.
    """
    found: list[Case] = []
    number = 0
    for folder in folders:
        for clip in islice(read_clips(folder, split="test", frames=False), clips):
            if clip.track is not None:
                for column in range(0, clip.steps - SECOND, EVERY):
                    found += _cases_at(clip.track, column, source_of(clip), number)
            number += 1
    return found


def keep_clear(cases: Sequence[Case], kind: str, world: str, seed: int) -> Tensor:
    """Share of SAMPLES futures [K] in which each case's follower does not touch the ego."""
    shares = torch.zeros(len(cases))
    numbers = sorted({case.clip for case in cases})
    for number in tqdm(numbers, desc=f"reaction of {kind}", unit="clip", disable=None):
        chosen = [index for index, case in enumerate(cases) if case.clip == number]
        rows = [index for index in chosen for _ in range(SAMPLES)]
        log = Track.cat([cases[index].log for index in rows])
        ego = torch.cat([cases[index].ego for index in rows])
        seeds = 1_000_003 * seed + 10_007 * number + torch.arange(len(rows))
        futures = roll_out(make_simulator(kind, world, cases[chosen[0]].log), log, seeds, begin=1, ego=ego)
        touches = touched(futures, torch.tensor([cases[index].follower for index in rows]))
        shares[chosen] = 1 - touches.view(-1, SAMPLES).float().mean(-1)
    return shares


def touched(track: Track, slot: Tensor) -> Tensor:
    """Whether the agent in `slot` [R] ever touches the ego in a track [R, T], after its first column."""
    pick = lambda value: value[torch.arange(len(slot)), :, slot][:, 1:]
    state, there = pick(track.agents.state), pick(track.agents.valid)
    agent = box_corners(state[..., :2], state[..., 2], state[..., 5], state[..., 6])
    ego, size = track.ego.state[:, 1:], track.profile
    own = box_corners(ego[..., :2], ego[..., 2], *(value.view(-1, 1).expand(ego.shape[:2]) for value in (size.length, size.width)))
    return (boxes_overlap(agent, own) & there).any(-1)


def reaction_figures(cases: Sequence[Case], shares: dict[str, Tensor]) -> dict[str, Estimate]:
    """`keep_clear` of each kind of traffic by data and manoeuvre, drawn anew by clip, and the number of cases."""
    figures: dict[str, Estimate] = {}
    for source in sorted({case.source for case in cases}):
        for manoeuvre in (None, *BRAKING):
            wanted = [i for i, case in enumerate(cases) if case.source == source and manoeuvre in (None, case.manoeuvre)]
            if not wanted:
                continue
            ending = "" if manoeuvre is None else f"_{manoeuvre}"
            figures[f"{source}_cases{ending}"] = Estimate(float(len(wanted)))
            for kind, values in shares.items():
                rows: dict[int, list[float]] = {}
                for index in wanted:
                    kept, count = rows.setdefault(cases[index].clip, [0.0, 0.0])
                    rows[cases[index].clip] = [kept + float(values[index]), count + 1]
                figures[f"{source}_keep_clear{ending}_{kind}"] = bootstrap(np.array(list(rows.values())), statistic=ratio_of_means)
    return figures


def _cases_at(track: Track, column: int, source: str, clip: int) -> Iterator[Case]:
    whole = _from(track, column)
    for leader in (None, *range(whole.agents.valid.shape[2])):
        if leader is None or _drives(whole, leader):
            log = simulated_agents(whole if leader is None else as_ego(whole, leader), 0)
            if float(log.ego.speed[0, 0]) > SLOWEST:
                yield from _cases_of(log, source, clip)


def _drives(log: Track, slot: int) -> bool:
    """Whether an agent is a motor vehicle that is there in the first column, and under way."""
    agents = log.agents
    return bool(agents.valid[0, 0, slot]) and int(agents.kind[0, 0, slot]) in MOTOR and float(agents.speed[0, 0, slot]) > SLOWEST


def as_ego(log: Track, slot: int) -> Track:
    """The log [1, T] with an agent of its first column as the ego and the ego in the agent's slot; gone, it stays where it was last."""
    agents, size = log.agents, log.profile
    mine = agents.valid[0, :, slot] & (agents.id[0, :, slot] == agents.id[0, 0, slot])
    last = torch.where(mine, torch.arange(log.steps), 0).cummax(0).values
    state = agents.state[0, last, slot]
    ego = torch.cat((state[:, :5], torch.zeros(log.steps, 2)), -1)
    box = torch.stack((size.length[0], size.width[0], size.height[0])).expand(log.steps, 3)
    others = agents.map(torch.clone)
    others.state[0, :, slot] = torch.cat((log.ego.state[0, :, :5], box), -1)
    others.kind[0, :, slot], others.valid[0, :, slot] = int(AgentKind.CAR), log.valid[0]
    others.id[0, :, slot] = int(agents.id.max()) + 1
    profile = dataclasses.replace(size, length=state[:1, 5], width=state[:1, 6], height=state[:1, 7])
    return dataclasses.replace(log, ego=Ego(ego.unsqueeze(0)), agents=others, profile=profile)


def _cases_of(log: Track, source: str, clip: int) -> Iterator[Case]:
    scene = log.scene(0)
    length, width = (float(value[0]) for value in (scene.profile.length, scene.profile.width))
    time = DT * torch.arange(HORIZON + 1)
    for manoeuvre, braking in BRAKING.items():
        for slot, gap, aside in followers(scene, manoeuvre == "cut_in"):
            ego, driven, shift = ego_motion(log, braking, aside)
            speed, its_length, its_width = (float(scene.agents.state[0, slot, i]) for i in (3, 5, 6))
            overlap = (aside - shift).abs() < (width + its_width) / 2
            touches, does_not = (
                contact(gap, driven, behind, overlap, length + its_length) for behind in (speed * time, braked_distance(speed, time))
            )
            if bool(touches) and not bool(does_not):
                yield Case(log, ego, slot, manoeuvre, source, clip)


def _from(track: Track, column: int) -> Track:
    """The columns from one on, the last repeated until there are HORIZON + 1; the time goes on."""
    index = (column + torch.arange(HORIZON + 1)).clamp_max(track.steps - 1)
    at = lambda value: value[:, index]
    time = track.time[:, column : column + 1] + DT * torch.arange(HORIZON + 1)
    return dataclasses.replace(
        track, ego=track.ego.map(at), agents=track.agents.map(at), signals=at(track.signals), time=time, valid=at(track.valid)
    )


def followers(scene: Scene, beside: bool) -> list[tuple[int, float, float]]:
    """The nearest motor vehicle behind the ego of a scene [1] in its lane, or in each next lane: slot, gap and metres to the left."""
    agents, ego = scene.agents, scene.ego
    place = to_frame(agents.position, ego.position.unsqueeze(1), ego.heading.unsqueeze(1))[0]
    gap = -place[:, 0] - (agents.length[0] + scene.profile.length) / 2
    along = wrap_angle(agents.heading - ego.heading.unsqueeze(1))[0].abs() < SAME_WAY
    motor = agents.valid[0] & torch.isin(agents.kind[0], torch.tensor(MOTOR))
    usable = motor & along & (gap > 0) & (gap < FARTHEST)
    aside = place[:, 1]
    lanes = [(aside > BESIDE[0]) & (aside < BESIDE[1]), (aside < -BESIDE[0]) & (aside > -BESIDE[1])] if beside else [aside.abs() < ASIDE]
    found = []
    for lane in lanes:
        behind = torch.where(usable & lane, gap, torch.inf)
        slot = int(behind.argmin())
        if math.isfinite(float(behind[slot])) and float(agents.speed[0, slot]) > SLOWEST:
            found.append((slot, float(gap[slot]), float(aside[slot]) if beside else 0.0))
    return found


def ego_motion(log: Track, braking: float, aside: float) -> tuple[Tensor, Tensor, Tensor]:
    """What the ego of a log [1, T] does that brakes at `braking` on its recorded way, or slows while it moves `aside` metres to the left.

    Returns:
        its states [1, T, 7], the distance driven along the way [T] and the shift to the left [T].
    """
    time = DT * torch.arange(log.steps)
    start = float(log.ego.speed[0, 0])
    braked = time if aside == 0 else time.clamp_max(CUT_IN_TIME)
    slowing = braked.clamp_max(start / braking)
    speed = start - braking * slowing
    driven = start * slowing - 0.5 * braking * slowing.square() + speed * (time - slowing)
    points, heading = sample_polyline(_way(log), driven)
    share = (time / CUT_IN_TIME).clamp_max(1.0)
    shift = aside * (0.5 - 0.5 * torch.cos(math.pi * share))
    sideways = torch.where(share < 1, aside * 0.5 * math.pi / CUT_IN_TIME * torch.sin(math.pi * share), torch.zeros_like(share))
    points = points + shift.unsqueeze(-1) * torch.stack((-torch.sin(heading), torch.cos(heading)), -1)
    heading = heading + torch.atan2(sideways, speed.clamp_min(1.0))
    push = torch.where(slowing < braked, torch.zeros_like(time), torch.full_like(time, -braking))
    if aside != 0:
        push = torch.where(time < CUT_IN_TIME, push, torch.zeros_like(push))
    still = torch.zeros_like(speed)
    return torch.stack((*points.unbind(-1), wrap_angle(heading), speed, push, still, still), -1).unsqueeze(0), driven, shift


def _way(log: Track) -> Tensor:
    """The line [P, 2] that the ego of a log [1, T] drove, straight on from where it ends."""
    kept = [log.ego.position[0, 0]]
    for point in log.ego.position[0, 1:]:
        if float((point - kept[-1]).norm()) > 0.5:
            kept.append(point)
    heading = log.ego.heading[0, -1]
    return torch.stack([*kept, kept[-1] + STRAIGHT * torch.stack((torch.cos(heading), torch.sin(heading)))])


def braked_distance(speed: float, time: Tensor, braking: float = SUFFICIENT, reaction: float = REACTION_TIME) -> Tensor:
    """Distance in m driven by times [T] in s at `speed` in m/s, kept for `reaction` seconds before braking to standstill."""
    slowing = (time - reaction).clamp(0.0, speed / braking)
    return speed * time.clamp_max(reaction) + speed * slowing - 0.5 * braking * slowing.square()


def contact(gap: float, ahead: Tensor, behind: Tensor, overlap: Tensor, lengths: float) -> Tensor:
    """Whether who drove `behind` metres [T] from `gap` metres back meets who drove `ahead` [T], at times at which they overlap across [T].

    `lengths` is the sum of both lengths: who is farther past than that has overtaken.
    """
    room = gap + ahead - behind
    return ((room <= 0) & (room > -lengths) & overlap).any()
