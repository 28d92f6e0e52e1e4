"""The `denoise-jax` command, one file per sub-command. Frameworks are imported only inside functions."""
