"""Where big arrays get their memory.

A training step frees megabytes and asks for the same megabytes again. GNU's malloc by default hands
blocks of that size back to the system, and every page that comes back must be cleared and mapped
anew: 0.4 ms and more for each megabyte, a third of a LeNet step. Told to keep up to KEEP bytes, it
gives the warm pages out again.
"""

from __future__ import annotations

import ctypes

BLOCK = 32 << 20  # the largest block that malloc may take from its own heap
KEEP = 1 << 30  # how much free memory it may hold on to

# From malloc.h of the GNU C library.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Let malloc keep freed memory for this process; return whether it is GNU's and could."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not GNU's, or a system without such a library
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, BLOCK) and mallopt(M_TRIM_THRESHOLD, KEEP))
