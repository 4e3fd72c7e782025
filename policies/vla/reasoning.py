"""Grounded thoughts: what a scene holds, as the rules see it, and what it asks of the driver, in sixteen words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...batched import Batched
from ...geometry import wrap_angle
from ...rewards.signal_facts import way_ahead
from ...scene import Track
from ...world import ROUTE_AHEAD_SPACING, Observation
from .bins import STANDARD
from .navigation import bend_speed, remaining
from .tokens import Vocabulary
from .words import CAUSES, DISTANCES, LIMITS, MOTIONS, NOTHING, TIMES, VERDICTS, WAYS

SIGHT = 62.0  # m, what is further is not spoken of
STEADY = 0.7  # m/s; a gap that changes less is steady
BENT = 0.35  # rad; the route turns where it leads this far from where the car points
ACCELERATION, BRAKING, HEADWAY_S, STANDSTILL = 1.8, 2.0, 1.3, 2.5  # of the car following that weighs causes
VERDICT_ABOVE = (-2.0, -0.5, 0.4)  # m/s2 asked for, that part brake, ease, hold and gain


@dataclass(frozen=True)
class Evidence(Batched):
    """What bears on the next moment; gaps are from the ego's front, infinite for nothing in sight."""

    speed: Tensor  # [B] m/s
    lead_gap: Tensor  # [B] m to the vehicle ahead on the ego's way
    lead_speed: Tensor  # [B] m/s along it
    red_gap: Tensor  # [B] m to the stop line of a red light, or of a yellow one that can still be met
    limit: Tensor  # [B] m/s
    bend: Tensor  # [B] m/s, the highest speed that bends ahead allow now
    turn_gap: Tensor  # [B] m along the route to where it turns
    turn_side: Tensor  # [B] -1 right, 0 ahead, 1 left
    route_left: Tensor  # [B] m of route in sight

    @property
    def contact(self) -> Tensor:
        """Time [B] in s until the vehicle ahead is met if both keep their speed; infinite where the gap does not close."""
        closing = self.speed - self.lead_speed
        return torch.where(closing > STEADY, self.lead_gap / closing.clamp_min(1e-3), torch.full_like(closing, torch.inf))


def evidence(track: Track, observation: Observation) -> Evidence:
    """The evidence of every moment of one episode.

    Args:
        track: [1, T] or [B, 1]; the facts of `rewards.signal_facts` are read off it.
        observation: [T] or [B], of the same moments.
    """
    way = track.derived(way_ahead)
    flat = lambda value: value.reshape(-1)
    speed, limit, route = observation.ego[:, 0], observation.ego[:, 4], observation.route
    step = torch.diff(route, dim=1)
    course = torch.atan2(step[..., 1], step[..., 0])
    bent = (wrap_angle(course).abs() > BENT) & (step.norm(dim=-1) > 0.5)
    first = bent.int().argmax(1)
    turns = bent.any(1)
    side = torch.sign(course.gather(1, first.unsqueeze(1)).squeeze(1)) * turns
    gap = torch.where(turns, ROUTE_AHEAD_SPACING * (first + 1).float(), torch.inf)
    return Evidence(
        speed, flat(way.lead_gap), flat(way.lead_speed), flat(way.red_gap), limit, bend_speed(route), gap, side, remaining(route)
    )


def cause(facts: Evidence) -> Tensor:
    """Index [B] into CAUSES of what bounds the speed most, by the acceleration that each allows.

    Vehicles and lights by IDM's interaction, bends, limits and the route's end by the speed they allow.
    Source: Treiber et al. 2000.
    """

    def follow(gap: Tensor, other: Tensor) -> Tensor:
        closing = facts.speed * (facts.speed - other) / (2 * (ACCELERATION * BRAKING) ** 0.5)
        return ACCELERATION * (1 - ((STANDSTILL + (facts.speed * HEADWAY_S + closing).clamp_min(0)) / gap.clamp_min(0.5)).square())

    reach = lambda allowed: 0.9 * (allowed - facts.speed)
    whole = 79.0  # m, past which the route goes on out of sight
    end = torch.where(facts.route_left < whole, reach((2.8 * facts.route_left).sqrt()), torch.full_like(facts.speed, torch.inf))
    allowed = (
        follow(facts.lead_gap, facts.lead_speed),
        follow(facts.red_gap + STANDSTILL - 1.0, torch.zeros_like(facts.speed)),
        reach(facts.bend),
        reach(facts.limit),
        end,
        torch.full_like(facts.speed, ACCELERATION - 1e-3),
    )
    return torch.stack(allowed, -1).argmin(-1)


def verdict(facts: Evidence, action: Tensor) -> Tensor:
    """Index [B] into VERDICTS of what an action [B, 2] in [-1, 1] does."""
    pedal = action[:, 1]
    wanted = torch.where(pedal >= 0, pedal * STANDARD["max_acceleration"], pedal * STANDARD["max_braking"])
    index = 1 + torch.bucketize(wanted.contiguous(), wanted.new_tensor(VERDICT_ABOVE))
    return torch.where((facts.speed < 0.5) & (wanted < VERDICT_ABOVE[-1]), torch.zeros_like(index), index)


def think(vocabulary: Vocabulary, facts: Evidence, action: Tensor) -> Tensor:
    """Thoughts [B, THOUGHT_LENGTH] as token ids: the evidence, then what `action` [B, 2] makes of it and what for.

    `lead` gap motion `red` gap `limit` speed `turn` side gap `contact` time `so` verdict `for` cause; nearest word of each.
    """
    batch = len(facts.speed)
    label = lambda word: torch.full((batch,), vocabulary.ids[word])
    choose = lambda words, index: torch.tensor([vocabulary.ids[word] for word in words])[index]
    change = facts.lead_speed - facts.speed
    motion = torch.where(change < -STEADY, 0, torch.where(change > STEADY, 2, 1))
    lead = facts.lead_gap < SIGHT
    words = (
        label("lead"),
        _spoken(vocabulary, facts.lead_gap, DISTANCES, "m", SIGHT),
        torch.where(lead, choose(MOTIONS, motion), vocabulary.ids[NOTHING]),
        label("red"),
        _spoken(vocabulary, facts.red_gap, DISTANCES, "m", SIGHT),
        label("limit"),
        _spoken(vocabulary, facts.limit * 3.6, LIMITS, "kmh", 1000.0),
        label("turn"),
        choose(WAYS, (1 - facts.turn_side).long()),
        _spoken(vocabulary, facts.turn_gap, DISTANCES, "m", SIGHT),
        label("contact"),
        _spoken(vocabulary, facts.contact, TIMES, "s", 10.0),
        label("so"),
        choose(VERDICTS, verdict(facts, action)),
        label("for"),
        choose(CAUSES, cause(facts)),
    )
    return torch.stack(words, -1)


def _spoken(vocabulary: Vocabulary, value: Tensor, known: Sequence[int], unit: str, most: float) -> Tensor:
    """Ids [B] of the word nearest to each value [B], NOTHING where it is `most` or more."""
    steps = torch.tensor([float(k) for k in known])
    index = torch.bucketize(value.contiguous(), (steps[1:] + steps[:-1]) / 2)
    ids = torch.tensor([vocabulary.ids[f"{k}{unit}"] for k in known])[index]
    return torch.where(value < most, ids, vocabulary.ids[NOTHING])
