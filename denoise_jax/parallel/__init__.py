"""The device mesh and the one table that says how every array of the train state is laid out on it."""
