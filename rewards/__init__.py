"""Rules, reward designs and driving scores: one function of a track each, the same for training and for judging."""

from .checks import check_rule
from .design import Design, StepReward, design_names, load_design
from .rule import RULES, WINDOW_STEPS, Rule, RuleError, find_rule, rule

__all__ = [
    "RULES",
    "WINDOW_STEPS",
    "Design",
    "Rule",
    "RuleError",
    "StepReward",
    "check_rule",
    "design_names",
    "find_rule",
    "load_design",
    "rule",
]
