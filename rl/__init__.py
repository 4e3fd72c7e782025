"""Training of the car network: imitation, then PPO inside a world."""
