"""What a rule must not do, tried on a drive: write into the track, look ahead, look back further than a running window."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..scene import Track
from .rule import WINDOW_STEPS, Rule, RuleError, where_from

OWN = f"{__package__}.rules"  # of the rules that come with the package; tests hold them to the same
PLACES = 4  # columns that are looked at


def check_rule(rule: Rule, track: Track, parameters: Mapping[str, Any] | None = None) -> None:
    """Try a rule on a drive.

    Args:
        rule: any.
        track: [B, T], the longer the better; it is not changed, whatever the rule does.
        parameters: of the rule.

    Raises:
        RuleError: the rule writes into the track; a column's value depends on later ones; or the last value over a running window of
            WINDOW_STEPS columns is not that of the whole track, so that a policy would be trained on another reward than is reported.
    """
    given, where = dict(parameters or {}), where_from(rule)
    copy = track.map(torch.clone)
    whole = rule(copy, **given)
    if not _same(copy, track):
        raise RuleError(f"{where}: rule '{rule.name}' writes into the track; work on copies (clamp, not clamp_)")
    fresh = lambda begin, end: track.columns(slice(begin, end)).map(torch.clone)
    for end in sorted({max(1, round(track.steps * k / PLACES)) for k in range(1, PLACES)}):
        early = rule(fresh(0, end), **given)[:, -1]
        if not _close(early, whole[:, end - 1]):
            raise RuleError(
                f"{where}: rule '{rule.name}' looks ahead: at step {end - 1} it says {_apart(whole[:, end - 1], early)} knowing what comes"
                f" and {_apart(early, whole[:, end - 1])} without; a rule sees no later column"
            )
        begin = max(0, end - WINDOW_STEPS)
        window = rule(fresh(begin, end), **given)[:, -1]
        if not _close(window, whole[:, end - 1]):
            raise RuleError(
                f"{where}: rule '{rule.name}' looks back further than {WINDOW_STEPS} steps: at step {end - 1} it says"
                f" {_apart(window, whole[:, end - 1])} over a running window and {_apart(whole[:, end - 1], window)} over the whole drive"
            )


def check_own_rules(calls: Iterable[tuple[Rule, Mapping[str, Any]]], track: Track) -> None:
    """`check_rule` for all rules that did not come with the package, on one drive.

    Raises:
        RuleError: as `check_rule`.
    """
    for rule, parameters in calls:
        if not rule.function.__module__.startswith(OWN):
            check_rule(rule, track, parameters)


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=1e-3, rtol=1e-3)


def _apart(values: Tensor, other: Tensor) -> str:
    """That of values [B] which differs most from the other's, for a message."""
    return f"{float(values[int((values - other).abs().argmax())]):.4g}"


def _same(a: Track, b: Track) -> bool:
    """Whether all tensors of two tracks are equal, NaN included."""
    kept: tuple[list[Tensor], list[Tensor]] = ([], [])
    for track, tensors in zip((a, b), kept, strict=True):
        track.map(lambda tensor, tensors=tensors: tensors.append(tensor) or tensor)  # type: ignore[misc]
    return all(torch.allclose(x.double(), y.double(), rtol=0.0, atol=0.0, equal_nan=True) for x, y in zip(*kept, strict=True))
