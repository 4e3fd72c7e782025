"""The words that thoughts are made of."""

from __future__ import annotations

DISTANCES = (3, 6, 10, 15, 20, 30, 40, 60)  # m
TIMES = (1, 2, 3, 5, 8)  # s
LIMITS = tuple(range(0, 150, 10))  # km/h
NOTHING = "none"
MOTIONS = ("closing", "steady", "opening")  # of the gap to the vehicle ahead
WAYS = ("left", "ahead", "right")
VERDICTS = ("stop", "brake", "ease", "hold", "gain")
CAUSES = ("vehicle", "signal", "bend", "limit", "end", "road")  # what bounds the speed; the last: nothing does
LABELS = ("lead", "red", "limit", "turn", "contact", "so", "for")
THOUGHT_LENGTH = 16  # words of every thought
WORDS = tuple(
    dict.fromkeys((
        *LABELS, NOTHING, *MOTIONS, *WAYS, *VERDICTS, *CAUSES,
        *(f"{value}m" for value in DISTANCES), *(f"{value}s" for value in TIMES), *(f"{value}kmh" for value in LIMITS),
    ))
)  # fmt: skip
