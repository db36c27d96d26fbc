"""Triton kernels for CUDA, beside the forms in torch and NumPy that state what they compute.

sums.py serves losses/sums.py, distance.py serves seglab/distance.py: they are what the operators
registered there do with CUDA tensors. Under Triton's interpreter (TRITON_INTERPRET=1, set before
the first import of Triton) the same functions take CPU tensors, which is how they are tested
without a GPU.

SEGLAB_TRITON=0 in the environment switches them off, to compare or to rule them out; it is read
at every call.
"""

import os
import shutil
from functools import cache
from importlib.util import find_spec

import torch

OLDEST = (7, 0)  # compute capability that Triton compiles for


def chosen(device: torch.device) -> bool:
    """Whether the kernels serve this CUDA device: not switched off, and it can run them."""
    return os.environ.get("SEGLAB_TRITON", "1") != "0" and _runs_on(device)


@cache
def _runs_on(device: torch.device) -> bool:
    """Triton compiles its launchers with the machine's C compiler."""
    if find_spec("triton") is None:
        return False
    compiler = os.environ.get("CC") or shutil.which("clang") or shutil.which("gcc")
    return compiler is not None and torch.cuda.get_device_capability(device) >= OLDEST
