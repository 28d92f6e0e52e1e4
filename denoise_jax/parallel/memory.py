"""Keeping memory instead of returning it to the system, for training on CPUs."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # of mallopt(3) in glibc


def keep_freed_memory() -> bool:
    """Makes this process keep the memory that it frees, in one pool; returns whether it could.

    Each train step allocates its temporary arrays anew. The C library would return them to the system after
    the step, and the system would clear them page by page for the next one, which takes up to a sixth of a
    step. To be called before JAX starts its threads; it has an effect with glibc only.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return False
    return all((mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)))
