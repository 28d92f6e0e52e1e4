"""From checkpoints to figures, and to text."""
