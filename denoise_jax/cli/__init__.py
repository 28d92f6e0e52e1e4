"""The `denoise-jax` command: one file for each sub-command. Frameworks are imported inside functions only."""
