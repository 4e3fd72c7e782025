"""The small world: its video model, its start bank, and the policy of the demo."""
