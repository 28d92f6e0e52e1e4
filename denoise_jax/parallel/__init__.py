"""The device mesh, and how parameters, optimizer state, batches and activations are laid out on it."""
