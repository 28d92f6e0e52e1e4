"""Measuring checkpoints: losses and accuracies under fixed noise, and a task's own metrics on predictions."""
