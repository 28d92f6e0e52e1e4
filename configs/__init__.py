"""Named configurations: each module has a function `config()` that returns a complete one.

A docstring says the command, the hardware and the measured result, or "not yet run".
"""
