"""Where big arrays get their memory.

A training step frees megabytes and asks for the same megabytes again. Handed back to the system,
every page must be mapped and cleared anew when it returns, which takes 0.4 ms and more for each
megabyte, or 0.07 ms where pages are huge. So freed memory is kept for the next array:

- up to BLOCK bytes by malloc. GNU's is told to; else it hands back blocks of that size too, which
  would be a third of a LeNet step.
- above, by an Arena of ours: GNU's malloc always hands these back. With it an AlexNet step of 4
  pictures, whose linear layers have gradients of 151 and 67 MB, takes 0.92 times as long, in as
  much memory.

An array that `empty` makes is like any other. When it and the last view of it are gone, its block
is free again.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32 << 20  # the largest block that malloc may take from its own heap
KEEP = 1 << 30  # how much free memory it may hold on to
PAGE = 2 << 20  # a huge page
SPARE = 8  # an array may get a block that is larger by one part in so many

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


class Memory(mmap.mmap):
    """Pages from the system that are this process's own; they go back when the object goes."""


@dataclass(frozen=True, eq=False)
class Block:
    """`size` bytes of `memory` from `start` on, where a huge page begins."""

    memory: Memory
    start: int
    size: int


class Lease(weakref.ref):
    """Notices that an array which has a block is gone."""

    __slots__ = ("block",)
    block: Block


class Arena:
    """Blocks that go from array to array.

    It never holds more than its arrays had in use at some time: before it would, it gives back what
    has been free for longest. The most memory that a program takes is therefore about what it would
    take if every block went back at once.

    Args:
        least: arrays of up to so many bytes are left to NumPy.

    Attributes:
        in_use: bytes that arrays have.
        peak: the most that was in use.
        held: bytes that are in use or free.
    """

    def __init__(self, least: int) -> None:
        self.least = least
        self.in_use = self.peak = self.held = 0
        self._free: list[Block] = []  # the one that has been free for longest first
        self._leases: dict[int, Lease] = {}
        self._ended: deque[Lease] = deque()
        # The garbage collector may run anybody's code in the middle of ours.
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            release = self._lock.release
            os.register_at_fork(
                before=self._lock.acquire, after_in_parent=release, after_in_child=release
            )

    def empty(self, shape: int | Sequence[int], dtype: Any) -> NDArray:
        """Return a new array, as `numpy.empty` does."""
        dtype = np.dtype(dtype)
        count = math.prod(shape) if isinstance(shape, Sequence) else int(shape)
        size = count * dtype.itemsize
        if size <= self.least:
            return np.empty(shape, dtype)
        try:
            with self._lock:
                self._take_back()
                block = self._find(size) or self._map(size)
                self.in_use += block.size
                self.peak = max(self.peak, self.in_use)
                array = np.ndarray(shape, dtype, block.memory, block.start)
                lease = Lease(array, self._ended.append)
                lease.block = block
                self._leases[id(lease)] = lease
            return array
        except OSError:  # the system has no more: NumPy says how much was asked for
            self.release()
            return np.empty(shape, dtype)

    def release(self) -> None:
        """Give every free block back to the system."""
        with self._lock:
            self._take_back()
            self.held -= sum(block.size for block in self._free)
            self._free.clear()

    def _take_back(self) -> None:
        """Free the blocks whose arrays are gone.

        An array may go at any moment and in any thread, inside this method too. All that happens
        then is that its lease joins the queue.
        """
        while self._ended:
            lease = self._ended.popleft()
            del self._leases[id(lease)]
            self._free.append(lease.block)
            self.in_use -= lease.block.size

    def _find(self, size: int) -> Block | None:
        """Take the smallest free block that will do, of several the one freed last."""
        best = None
        for block in reversed(self._free):
            if block.size >= size and (best is None or block.size < best.size):
                best = block
        if best is None or best.size > size + size // SPARE:
            return None
        self._free.remove(best)
        return best

    def _map(self, size: int) -> Block:
        """Get a block from the system."""
        size = -(-size // PAGE) * PAGE
        limit = max(self.peak, self.in_use + size)
        while self._free and self.held + size > limit:
            self.held -= self._free.pop(0).size
        if hasattr(mmap, "MAP_ANONYMOUS"):
            memory = Memory(-1, size + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            memory = Memory(-1, size + PAGE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        self.held += size
        return Block(memory, -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % PAGE, size)


arena = Arena(BLOCK if keep_freed_memory() else PAGE)


def is_view(array: Any) -> bool:
    """Whether an array is part of another one, as far as it knows."""
    return array.base is not None and not isinstance(array.base, Memory)


def empty_cache() -> None:
    """Give the memory of big arrays that are gone back to the system."""
    arena.release()


def max_memory_allocated() -> int:
    """Return the most bytes of memory that this process has had: arrays, code and all.

    Raises:
        RuntimeError: the system does not tell.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError as error:
        raise RuntimeError("this system does not tell how much memory a process has had") from error
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if os.uname().sysname == "Darwin" else most * 1024


def reset_peak_memory_stats() -> None:
    """Let `max_memory_allocated` begin anew with what the process has now.

    Raises:
        RuntimeError: the system, if it is not Linux, does not let it.
    """
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
            clear.write("5")
    except OSError as error:
        raise RuntimeError("this system does not let the peak of memory begin anew") from error
