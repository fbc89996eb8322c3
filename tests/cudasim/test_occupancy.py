"""Occupancy: by hand, and against NVIDIA's own calculation in the toolkit's header."""

from __future__ import annotations

import itertools
import shutil
import subprocess

import pytest

from minicnn.cudasim import toolkit
from minicnn.cudasim.occupancy import MULTIPROCESSORS, occupancy
from tests.needs import needs_compiler

HEADER = toolkit.find_header("cuda_occupancy.h")
REGISTERS = (16, 31, 32, 40, 41, 64, 72, 80, 96, 128, 168, 255)
SHARED = (0, 1024, 8448, 16384, 33000, 49152)
BLOCKS = (32, 64, 96, 128, 256, 384, 512, 1024)
# max threads, max blocks are in the header; shared memory of a multiprocessor and of a block, and
# what the system keeps of each block, come from the device.
PROGRAM = """
#include <cstdio>
#include <climits>
#include <cuda_occupancy.h>
int main() {
    int arch, threads, registers, block;
    size_t shared, reserved, bytes;
    while (scanf("%d %d %zu %zu %d %zu %d", &arch, &threads, &shared, &reserved, &registers, &bytes,
                 &block) == 7) {
        cudaOccDeviceProp device;
        device.computeMajor = arch / 10;
        device.computeMinor = arch % 10;
        device.maxThreadsPerBlock = 1024;
        device.maxThreadsPerMultiprocessor = threads;
        device.regsPerBlock = device.regsPerMultiprocessor = 65536;
        device.warpSize = 32;
        device.sharedMemPerBlock = 49152;
        device.sharedMemPerMultiprocessor = shared;
        device.numSms = 1;
        device.sharedMemPerBlockOptin = shared - reserved;
        device.reservedSharedMemPerBlock = reserved;
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = INT_MAX;
        kernel.numRegs = registers;
        kernel.sharedSizeBytes = bytes;
        kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = shared - reserved;
        kernel.numBlockBarriers = 1;
        cudaOccDeviceState state;
        cudaOccResult result;
        int error = cudaOccMaxActiveBlocksPerMultiprocessor(
            &result, &device, &kernel, &state, block, 0);
        printf("%d\\n", error ? -1 : result.activeBlocksPerMultiprocessor);
    }
}
"""


@pytest.mark.parametrize(
    ("arch", "registers", "shared", "block", "blocks", "limits"),
    [
        (80, 32, 0, 256, 8, ("warps", "registers")),  # 64 warps / 8; 4 x (16384 // 1024) / 8
        (80, 33, 0, 256, 6, ("registers",)),  # 1056 -> 1280 a warp: 4 x 12 // 8
        (80, 16, 0, 32, 32, ("blocks",)),
        (80, 32, 20480, 256, 7, ("shared memory",)),  # 167936 // (20480 + 1024)
        (90, 32, 20480, 256, 8, ("warps", "registers")),
        (90, 32, 30720, 256, 7, ("shared memory",)),  # 233472 // 31744
        (75, 64, 0, 256, 4, ("warps", "registers")),
        (75, 32, 16384, 128, 4, ("shared memory",)),  # nothing reserved: 65536 // 16384
        (120, 40, 0, 256, 6, ("warps", "registers")),
        (100, 255, 0, 512, 0, ("registers",)),  # one block would need 16 warps, there are 4 x 2
    ],
)
def test_by_hand(arch, registers, shared, block, blocks, limits):
    found = occupancy(arch, registers, shared, block)
    assert (found.blocks, found.limits) == (blocks, limits)
    assert found.warps == blocks * -(-block // 32)
    assert found.share == found.warps / MULTIPROCESSORS[arch].max_warps


@needs_compiler
@pytest.mark.skipif(HEADER is None, reason="needs cuda_occupancy.h (nvidia-cuda-runtime)")
def test_as_nvidias_header_calculates(tmp_path):
    source, program = tmp_path / "occupancy.cpp", tmp_path / "occupancy"
    source.write_text(PROGRAM)
    compiler = shutil.which("g++") or shutil.which("clang++")
    subprocess.run([compiler, "-I", HEADER.parent, "-w", "-o", program, source], check=True)
    combinations = list(itertools.product(MULTIPROCESSORS, REGISTERS, SHARED, BLOCKS))
    lines = [
        f"{arch} {32 * has.max_warps} {has.shared} {has.reserved_per_block} "
        f"{registers} {shared} {block}"
        for arch, registers, shared, block in combinations
        for has in [MULTIPROCESSORS[arch]]
    ]
    done = subprocess.run([program], input="\n".join(lines), capture_output=True, text=True)
    theirs = [int(line) for line in done.stdout.split()]
    assert len(theirs) == len(combinations) > 4000
    assert min(theirs) >= 0
    ours = [occupancy(*combination).blocks for combination in combinations]
    assert ours == theirs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((70, 32, 0, 256), "arch: got 70, expected one of"),
        ((80, 32, 0, 0), "block: got 0 threads, expected 1 to 1024"),
        ((80, 32, 0, 1025), "block: got 1025 threads"),
        ((80, 256, 0, 256), "registers: got 256, expected 0 to 255"),
        ((80, 32, -1, 256), "shared: got -1 bytes"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        occupancy(*arguments)
