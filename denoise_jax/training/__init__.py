"""Training: one sharded step, the loop around it, and the logs and plots of a run."""
