"""The arena: where blocks lie, what fresh and freed memory holds, what counts as written."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim import memory
from tests.cudasim.launching import kernel, zeros
from tests.needs import needs_compiler

pytestmark = needs_compiler
READ = """extern "C" __global__ void k(unsigned long long a, int n, unsigned char* out) {
    for (int i = 0; i < n; ++i) out[i] = ((const unsigned char*)a)[i];
}"""


def content(address: int, nbytes: int) -> bytes:
    return ctypes.string_at(address, nbytes)


@pytest.mark.parametrize("nbytes", [1, 3, 16, 100, 4096, 4097, 70_000])
def test_blocks_are_aligned_and_filled(nbytes: int) -> None:
    address = memory.allocate(nbytes, False)
    assert address % 16 == 0
    assert content(address, nbytes) == b"\xff" * nbytes
    # The block ends where its last page ends, but for what the alignment takes.
    assert -(address + nbytes) % 4096 < 16
    memory.free(address)


def test_empty_blocks_have_addresses_of_their_own() -> None:
    one, other = memory.allocate(0, True), memory.allocate(0, True)
    assert one and other and one != other
    memory.free(one)
    memory.free(other)


def test_too_large_a_block() -> None:
    with pytest.raises(MemoryError, match="no room for 1152921504606846976 bytes"):
        memory.allocate(1 << 60, False)


def test_freed_memory_comes_back_late_and_fresh() -> None:
    addresses = []
    for _ in range(200):
        addresses.append(memory.allocate(5000, False))
        assert content(addresses[-1], 5000) == b"\xff" * 5000
        ctypes.memset(addresses[-1], 7, 5000)
        memory.free(addresses[-1])
    # Not at once, so that use after free is found; but it does come back.
    assert len(set(addresses[:64])) == 64
    assert len(set(addresses)) < 200


def test_many_blocks_keep_their_content() -> None:
    rng = np.random.default_rng(0)
    blocks: dict[int, tuple[int, int]] = {}
    for step in range(3000):
        if blocks and rng.random() < 0.45:
            address = list(blocks)[rng.integers(len(blocks))]
            nbytes, value = blocks.pop(address)
            assert content(address, nbytes) == bytes([value]) * nbytes
            memory.free(address)
        else:
            nbytes = int(rng.integers(1, 20_000))
            address = memory.allocate(nbytes, False)
            blocks[address] = nbytes, step % 256
            ctypes.memset(address, step % 256, nbytes)
    for address, (nbytes, value) in blocks.items():
        assert content(address, nbytes) == bytes([value]) * nbytes
        memory.free(address)


def unwritten(address: int, nbytes: int) -> int:
    """Return how many bytes of a block check mode takes as never written."""
    out = zeros(nbytes, np.uint8)
    try:
        with cudasim.settings(mode="check"):
            kernel(READ)((1,), (1,), (np.uint64(address), np.int32(nbytes), out))
    except cudasim.SimulationError as error:
        assert {f.kind for f in error.findings} == {"uninitialised read"}
        return error.findings[0].count
    return 0


def test_marking_bytes_as_written() -> None:
    for start, length, left in [(0, 100, 0), (0, 10, 90), (33, 34, 66), (99, 1, 99), (0, 0, 100)]:
        address = memory.allocate(100, False)
        memory.mark_initialised(address + start, length)
        assert unwritten(address, 100) == left
        memory.free(address)


def test_marks_add_up() -> None:
    address = memory.allocate(40, False)
    for start in range(0, 40, 3):
        memory.mark_initialised(address + start, min(3, 40 - start))
    assert unwritten(address, 40) == 0
    memory.free(address)


def test_marks_do_not_survive_the_block() -> None:
    address = memory.allocate(64, True)
    memory.free(address)
    for _ in range(100):
        address = memory.allocate(64, False)
        assert unwritten(address, 64) == 64
        memory.free(address)


@pytest.mark.parametrize("size", [1, 5, 63, 1024, 1025])
def test_an_array_of_any_size_is_bounded_exactly(size: int) -> None:
    code = 'extern "C" __global__ void k(float* a, int i) { a[i] = 1.f; }'
    for index in (-1, size):
        with cudasim.settings(mode="check"), pytest.raises(cudasim.SimulationError) as caught:
            kernel(code)((1,), (1,), (zeros(size), np.int32(index)))
        assert [f.kind for f in caught.value.findings] == ["out-of-bounds"]
        assert f"element {index} of {size} float" in str(caught.value)
    for index in (0, size - 1):
        with cudasim.settings(mode="check"):
            kernel(code)((1,), (1,), (zeros(size), np.int32(index)))


def test_views_are_named_and_counted_from_their_own_start() -> None:
    whole = zeros(100)
    code = 'extern "C" __global__ void k(float* a, float* b, int i) { b[i] = 1.f; }'
    with cudasim.settings(mode="check"), pytest.raises(cudasim.SimulationError) as caught:
        kernel(code)((1,), (1,), (whole[:50], whole[50:], np.int32(50)))
    (found,) = caught.value.findings
    assert found.array == "b"
    assert "element 50 of 50 float" in found.message
