"""Memory for training steps: freed memory is used again without asking the system for pages."""

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, torch
from loralaw.training import machine
machine.prepare_memory()
machine.prepare_memory()  # every pack asks again
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.ones(6_250_000) for _ in range(8)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="asks glibc")
def test_what_a_step_frees_is_kept_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", STEPS], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 5000  # 200 MB are 49,000 pages
