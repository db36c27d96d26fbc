"""The C library's allocator, told to keep memory between the steps of a training on the CPU.

By default glibc returns every large tensor to the kernel and asks for it again in the next step;
the page faults then cost more than the arithmetic (a softmax over 4 x 19 x 512 x 512 takes 160 ms
instead of 40). The price: what was once in use stays with the process.
"""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_MOST = 2**31 - 1


def keep_memory() -> bool:
    """Sets it for this process. Returns whether the C library took it: glibc does."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    wanted = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MOST), (_M_TOP_PAD, 256 << 20))
    return all(mallopt(option, value) == 1 for option, value in wanted)
