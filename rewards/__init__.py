"""Rules, reward designs and driving scores: one function of a track each, the same for training and for judging."""

from .design import Design, StepReward, design_names, load_design
from .rule import RULES, WINDOW_STEPS, Rule, RuleError, find_rule, rule

__all__ = ["RULES", "WINDOW_STEPS", "Design", "Rule", "RuleError", "StepReward", "design_names", "find_rule", "load_design", "rule"]
