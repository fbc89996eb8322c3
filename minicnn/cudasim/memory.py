"""Device memory: blocks of the arena in `runtime/arena.cpp`, each ending at a guard page."""

from __future__ import annotations

from minicnn.cudasim.library import runtime


def allocate(nbytes: int, initialised: bool) -> int:
    """Return the address of a new block, aligned to 16 bytes.

    Args:
        nbytes: its size; 0 is allowed.
        initialised: whether the caller is about to write all of it. If not, every byte is 0xFF, and
            check mode reports kernels that read what nobody has written.

    Raises:
        MemoryError: the arena is full.
    """
    address = runtime().cudasim_allocate(nbytes, initialised)
    if not address:
        raise MemoryError(f"no room for {nbytes} bytes of simulated device memory")
    return address


def free(address: int) -> None:
    """Give a block back; until it is used again, any access to it is a memory fault."""
    runtime().cudasim_free(address)


def mark_initialised(address: int, nbytes: int) -> None:
    """Note that these bytes of a block have been written."""
    runtime().cudasim_mark_initialised(address, nbytes)
