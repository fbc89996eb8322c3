"""What can be said about the CUDA kernels without a GPU: counted, compiled, never timed.

For each kernel and dtype, on the arguments of its main cases:

    registers, spills, shared memory   from the log of NVIDIA's assembler, for each architecture
    occupancy                          from these, by NVIDIA's own formula
    multiply-adds                      their share of the instructions of the innermost loop: no
                                       loop can reach more of the peak rate than that
    coalescing                         32-byte sectors that requests of global memory would fill at
                                       best, over those they cost
    bank conflict                      how many words the busiest bank serves in the worst request

Memory accesses are those of NVIDIA's compiler's PTX, simulated. A row of the roofline sets the
floating-point operations of a case against the bytes that must move once, whatever the caches do:
left of the ridge of a GPU, where its peak rate meets its bandwidth, memory is the bound.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from minicnn import cudasim
from minicnn.cudasim import nvrtc, sass
from minicnn.cudasim.occupancy import Occupancy, occupancy
from minicnn.kernelcheck.case import Case, cases, make_arguments, run_case
from minicnn.kernels import _launch
from minicnn.kernels._launch import Launch

ARCHITECTURES = nvrtc.ARCHITECTURES
DTYPES: dict[str, np.dtype] = {"float": np.dtype(np.float32), "double": np.dtype(np.float64)}


@dataclass(frozen=True)
class Gpu:
    """Published peaks: operations a second of float32 and float64, bytes a second of memory."""

    name: str
    float32: float
    float64: float
    bandwidth: float

    def ridge(self, dtype: str) -> float:
        """Operations a byte at which both bounds meet."""
        return (self.float32 if dtype == "float" else self.float64) / self.bandwidth


# NVIDIA, "A100 Tensor Core GPU datasheet", the one with 40 GB.
A100 = Gpu("A100", 19.5e12, 9.7e12, 1555e9)


@dataclass(frozen=True)
class Build:
    """A kernel compiled for one architecture; `multiply_adds` is None where no loop has any."""

    arch: int
    registers: int
    spills: int
    stack: int
    shared: int
    occupancy: Occupancy
    multiply_adds: float | None
    loop_length: int


@dataclass(frozen=True)
class KernelReport:
    """One kernel in one dtype, as its main cases launch it.

    Attributes:
        stem: of its file.
        kernel: its name.
        dtype: "float" or "double".
        instantiation: the one that is described, such as `gemm_tiled_cuda<float, 8, 4, 0, 0>`.
        block: threads of a block.
        dynamic_shared: bytes of shared memory that the launch asks for.
        builds: one an architecture.
        spilling: all instantiations that spill somewhere, with the architecture.
        coalescing, bank_conflict: None where no main case launches it, or it does not use such
            memory.
    """

    stem: str
    kernel: str
    dtype: str
    instantiation: str
    block: int
    dynamic_shared: int
    builds: tuple[Build, ...]
    spilling: tuple[tuple[str, int], ...]
    coalescing: float | None
    bank_conflict: int | None

    @property
    def name(self) -> str:
        """Name and dtype: `gemm_tiled_cuda<float>`."""
        return f"{self.kernel}<{self.dtype}>"


@dataclass(frozen=True)
class RooflineRow:
    """One main case: its operations against the bytes that its launches must move."""

    stem: str
    op: str
    label: str
    dtype: str
    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.bytes

    def bound(self, gpu: Gpu = A100) -> str:
        """Return what bounds it on a GPU: "memory" or "arithmetic"."""
        return "memory" if self.intensity < gpu.ridge(self.dtype) else "arithmetic"


@dataclass(frozen=True)
class Report:
    """All of it; `compiler` is NVRTC's version."""

    compiler: str
    architectures: tuple[int, ...]
    kernels: list[KernelReport]
    roofline: list[RooflineRow]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        shown = asdict(self)
        for row, made in zip(shown["roofline"], self.roofline, strict=True):
            row.update(intensity=made.intensity, bound=made.bound())
        return {**shown, "gpu": asdict(A100)}


def measure(stems: Iterable[str] | None = None) -> Report:
    """Compile and simulate the kernels of some files, of all by default.

    Raises:
        ValueError: a stem of no `.cu` file.
        NvrtcNotFoundError, NvdisasmNotFoundError, CompilerNotFoundError: saying what to install.
    """
    known = _launch.stems()
    chosen = known if stems is None else list(stems)
    for stem in chosen:
        if stem not in known:
            raise ValueError(f"stem: got {stem!r}, expected some of {', '.join(known)}")
    version = ".".join(map(str, nvrtc.version()))
    sass.nvdisasm()  # before the long work that would end for want of it
    kernels: list[KernelReport] = []
    roofline: list[RooflineRow] = []
    for stem in chosen:
        for dtype in DTYPES:
            found, rows = measure_file(stem, dtype)
            kernels += found
            roofline += rows
    return Report(version, ARCHITECTURES, kernels, roofline)


def measure_file(stem: str, dtype: str) -> tuple[list[KernelReport], list[RooflineRow]]:
    """Return what there is to say about the kernels of one file in one dtype."""
    launches = _launches(stem, dtype)
    profiled, roofline = _profile(stem, dtype)
    instantiations = [launch.kernel for found in launches.values() for launch in found]
    builds = compile_all(stem, instantiations)
    reports = []
    for kernel in _launch.signatures(stem):
        found = launches[kernel]
        if not found:
            continue
        seen = profiled.get(kernel, _Counts())
        launch = next((one for one in found if one.kernel in seen.instantiations), found[0])
        reports.append(
            KernelReport(
                stem,
                kernel,
                dtype,
                launch.kernel,
                launch.block,
                launch.shared_mem,
                tuple(_build(builds[arch][launch.kernel], arch, launch) for arch in ARCHITECTURES),
                tuple(
                    (one.kernel, arch)
                    for one in found
                    for arch in ARCHITECTURES
                    if builds[arch][one.kernel].resources.spills
                ),
                seen.coalescing,
                seen.worst_degree or None,
            )  # fmt: skip
        )
    return reports, roofline


def _launches(stem: str, dtype: str) -> dict[str, list[Launch]]:
    """Return how the cases of a file launch its kernels: one launch an instantiation.

    Nothing runs: what a case launches follows from its shapes.
    """
    found: dict[str, dict[str, Launch]] = defaultdict(dict)
    for case in cases(stem):
        with _launch.record(run=False) as launches:
            run_case(stem, case, make_arguments(case, DTYPES[dtype]), cudasim)
        for launch in launches:
            if launch.stem == stem:
                found[_base(launch.kernel)].setdefault(launch.kernel, launch)
    return defaultdict(list, {kernel: list(some.values()) for kernel, some in found.items()})


@dataclass
class _Counts:
    """What the main cases ask of the memory, summed over their launches of one kernel."""

    instantiations: list[str] = field(default_factory=list)
    sectors: float = 0
    ideal_sectors: float = 0
    worst_degree: int = 0

    @property
    def coalescing(self) -> float | None:
        return self.ideal_sectors / self.sectors if self.sectors else None


def _profile(stem: str, dtype: str) -> tuple[dict[str, _Counts], list[RooflineRow]]:
    counts: dict[str, _Counts] = defaultdict(_Counts)
    roofline = []
    for case in cases(stem):
        if not case.main:
            continue
        arguments = make_arguments(case, DTYPES[dtype])
        with cudasim.settings(route="ptx"), cudasim.profile() as profile:
            run_case(stem, case, arguments, cudasim)
        for instantiation, seen in profile.kernels.items():
            into = counts[_base(instantiation)]
            into.instantiations.append(instantiation)
            for row in seen.rows:
                into.sectors += row.sectors
                into.ideal_sectors += row.ideal_sectors
                if row.space == "shared":
                    into.worst_degree = max(into.worst_degree, row.worst_degree)
        if case.flops is not None:
            moved = sum(seen.unique_bytes for seen in profile.kernels.values())
            roofline.append(_roofline_row(stem, case, dtype, arguments, moved))
    return counts, roofline


def _roofline_row(
    stem: str, case: Case, dtype: str, arguments: Sequence[Any], moved: int
) -> RooflineRow:
    assert case.flops is not None
    flops = int(case.flops(*arguments, **case.options))
    return RooflineRow(stem, case.op, case.label, dtype, flops, moved)


@dataclass(frozen=True)
class Compiled:
    """One instantiation for one architecture."""

    resources: nvrtc.Resources
    listing: sass.Listing


def compile_all(stem: str, instantiations: Sequence[str]) -> dict[int, dict[str, Compiled]]:
    """Compile kernels of a file for every architecture; several at a time."""
    source = _launch.source(stem)

    def compile_for(arch: int) -> dict[str, Compiled]:
        made = nvrtc.compile(source, instantiations, arch, "cubin", _launch.OPTIONS)
        resources, listings = made.resources(), sass.disassemble(made.code)
        return {
            name: Compiled(resources[name], listings[made.lowered_names[name]])
            for name in instantiations
        }

    with ThreadPoolExecutor() as pool:
        return dict(zip(ARCHITECTURES, pool.map(compile_for, ARCHITECTURES), strict=True))


def _build(compiled: Compiled, arch: int, launch: Launch) -> Build:
    taken, loop = compiled.resources, compiled.listing.main_loop
    return Build(
        arch,
        taken.registers,
        taken.spills,
        taken.stack,
        taken.shared,
        occupancy(arch, taken.registers, taken.shared + launch.shared_mem, launch.block),
        None if loop is None else loop.share,
        0 if loop is None else len(loop.opcodes),
    )


def _base(instantiation: str) -> str:
    return instantiation.split("<")[0]
