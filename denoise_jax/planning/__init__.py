"""A training run planned before there is hardware: does it fit, how fast should it be, what would it cost."""
