"""How many blocks of a kernel fit on one multiprocessor at a time, and what the limit is.

A multiprocessor of each architecture has room for so many warps, blocks, registers and bytes of
shared memory. Registers are dealt out to warps in units of 256, separately in each of its four
parts of 16,384; shared memory in units of 128 bytes (256 on sm_75), and from sm_80 on the system
takes 1 KiB for every block.

    warps of a block       w = ceil(block / 32)
    by warps               max_warps // w
    by registers           4 * (16384 // round_up(32 * registers, 256)) // w
    by shared memory       shared_per_multiprocessor // round_up(shared + reserved, unit)

The fewest of these and of max_blocks is how many blocks are resident; occupancy is their warps as a
part of max_warps. More warps hide more latency, up to a point: a kernel with much independent work
in each thread needs fewer.

Source: NVIDIA, "CUDA C++ Programming Guide", version 13.0, compute capabilities; the calculation is
that of the toolkit's `cuda_occupancy.h`.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32
MAX_BLOCK = 1024
REGISTER_UNIT = 256
REGISTERS_PER_PART = 16384
PARTS = 4


@dataclass(frozen=True)
class Multiprocessor:
    """What one multiprocessor of an architecture has: shared memory in bytes."""

    max_warps: int
    max_blocks: int
    shared: int
    reserved_per_block: int
    shared_unit: int


MULTIPROCESSORS = {
    75: Multiprocessor(32, 16, 64 << 10, 0, 256),
    80: Multiprocessor(64, 32, 164 << 10, 1024, 128),
    86: Multiprocessor(48, 16, 100 << 10, 1024, 128),
    89: Multiprocessor(48, 24, 100 << 10, 1024, 128),
    90: Multiprocessor(64, 32, 228 << 10, 1024, 128),
    100: Multiprocessor(64, 32, 228 << 10, 1024, 128),
    120: Multiprocessor(48, 24, 100 << 10, 1024, 128),
}


@dataclass(frozen=True)
class Occupancy:
    """What is resident on a multiprocessor: `share` is the part of its warps, from 0 to 1.

    `limits` names what allows no more: "warps", "blocks", "registers", "shared memory".
    """

    blocks: int
    warps: int
    share: float
    limits: tuple[str, ...]


def occupancy(arch: int, registers: int, shared: int, block: int) -> Occupancy:
    """Return the occupancy of a kernel.

    Args:
        arch: the compute capability times ten.
        registers: of a thread.
        shared: bytes of shared memory of a block, static and dynamic.
        block: threads of a block.

    Raises:
        ValueError: an argument that no launch can have.
    """
    if arch not in MULTIPROCESSORS:
        raise ValueError(f"arch: got {arch}, expected one of {list(MULTIPROCESSORS)}")
    if not 1 <= block <= MAX_BLOCK:
        raise ValueError(f"block: got {block} threads, expected 1 to {MAX_BLOCK}")
    if not 0 <= registers <= 255:
        raise ValueError(f"registers: got {registers}, expected 0 to 255")
    if shared < 0:
        raise ValueError(f"shared: got {shared} bytes, expected 0 or more")
    has = MULTIPROCESSORS[arch]
    warps = -(-block // WARP)
    per_warp = _round_up(max(registers, 1) * WARP, REGISTER_UNIT)
    taken = _round_up(shared + has.reserved_per_block, has.shared_unit)
    room = {
        "warps": has.max_warps // warps,
        "blocks": has.max_blocks,
        "registers": PARTS * (REGISTERS_PER_PART // per_warp) // warps,
        "shared memory": has.shared // taken if taken else has.max_blocks,
    }
    blocks = min(room.values())
    limits = tuple(name for name, count in room.items() if count == blocks)
    return Occupancy(blocks, blocks * warps, blocks * warps / has.max_warps, limits)


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
