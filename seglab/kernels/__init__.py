"""Triton kernels for CUDA, beside the forms in torch and NumPy that state what they compute.

sums.py serves losses/sums.py, distance.py serves seglab/distance.py: they are what the operators
registered there do with CUDA tensors. Under Triton's interpreter (TRITON_INTERPRET=1, set before
the first import of Triton) the same functions take CPU tensors, which is how they are tested
without a GPU.

SEGLAB_TRITON=0 in the environment switches them off, to compare or to rule them out; it is read
at every call.
"""

import logging
import os
import shutil
import sys
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

log = logging.getLogger(__name__)

OLDEST = (7, 0)  # compute capability that Triton compiles for


def chosen(device: torch.device) -> bool:
    """Whether the kernels serve this CUDA device: not switched off, and it can run them."""
    return os.environ.get("SEGLAB_TRITON", "1") != "0" and _runs_on(device)


@cache
def _runs_on(device: torch.device) -> bool:
    """Triton compiles its launchers with the machine's C compiler and Python's headers.

    What could be installed is said, once for each device.
    """
    if torch.cuda.get_device_capability(device) < OLDEST:
        return False
    missing = _missing()
    if missing is not None:
        log.warning("The Triton kernels are off, slower forms serve instead: %s.", missing)
    return missing is None


def _missing() -> str | None:
    """What Triton lacks on this machine, and what to install; None: nothing."""
    if find_spec("triton") is None:
        return "the package triton is not installed. Install it"
    if not (os.environ.get("CC") or shutil.which("clang") or shutil.which("gcc")):
        return "there is no C compiler. Install gcc, or name one in CC"
    header = Path(sysconfig.get_paths(_scheme())["include"]) / "Python.h"
    if not header.is_file():
        version = ".".join(map(str, sys.version_info[:2]))
        return (
            f"{header} is missing. Install Python's headers (the package python{version}-dev or "
            f"python{version}-devel)"
        )
    return None


def _scheme() -> str:
    """Where Triton looks for the headers; Debian's own scheme names a folder that has none."""
    scheme = sysconfig.get_default_scheme()
    return "posix_prefix" if scheme == "posix_local" else scheme
