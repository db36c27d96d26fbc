"""The allocator keeps what a training step gives back."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT

FAULTS = """
import resource, sys, torch
from seglab import allocator
if sys.argv[1] == "kept":
    assert allocator.keep_memory()
logits = torch.randn(2, 19, 512, 512, requires_grad=True)
def step():
    logits.grad = None
    logits.softmax(1).square().sum().backward()
for _ in range(8):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_a_step_done_again_costs_hardly_a_page_fault():
    faults = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", FAULTS, how], cwd=ROOT, check=True, capture_output=True
            ).stdout
        )
        for how in ("usual", "kept")
    }
    assert faults["kept"] < faults["usual"] / 4, faults
