"""Named configurations: each module has a function `config()` that returns a complete `Config`.

The docstring of a module gives the command, the hardware and the measured result, or "not yet run".
"""
