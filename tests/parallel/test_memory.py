"""Memory that is kept, in a process of its own."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from denoise_jax.parallel.memory import keep_freed_memory

if {keep}:
    assert keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="an option of glibc")
def test_memory_that_was_freed_is_used_again():
    def faults(keep: bool) -> tuple[int, int]:
        command = [sys.executable, "-c", CODE.format(keep=keep)]
        first, second = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return int(first), int(second)

    first, second = faults(keep=True)
    assert second < first / 10
    first, second = faults(keep=False)
    assert second > first / 2, "otherwise there is nothing to gain"
