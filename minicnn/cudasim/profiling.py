"""What kernels ask of a GPU's memory, counted by simulating them.

    with cudasim.profile() as prof:
        transpose((2, 2), (32, 32), (a, b, np.int32(64)))
    print(prof)

Each line of a kernel that touches memory gets a row: how many requests its warps make; of global
memory the 32-byte sectors they cost, against what their bytes would fill; of shared memory the
cycles its 32 banks take, against one. `runtime/statistics.cpp` holds the rules. Nothing here is a
time, and a GPU's compiler may merge or drop accesses that a CPU's keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod

from minicnn.cudasim.explain import Launched, locate
from minicnn.cudasim.library import RawArray, RawRow, runtime
from minicnn.cudasim.settings import settings

SECTOR = 32  # bytes
MOST_ROWS = 4096
MOST_ARRAYS = 256
# Requests of that many blocks are looked at by default, spread over the grid.
SAMPLED_BLOCKS = 64
_KINDS = ("load", "store", "atomic")
_SPACES = {1: "global", 2: "shared"}


@dataclass
class Row:
    """One line's accesses of one kind and width.

    Attributes:
        file, line: where; None if unknown.
        source: the line itself.
        kind: "load", "store" or "atomic".
        space: "global" or "shared".
        width: bytes a lane.
        requests: how often a warp asked.
        lanes: how many lanes took part in all of them.
        sectors, ideal_sectors: of global memory.
        cycles, ideal_cycles: of the banks of shared memory.
        worst_degree: the most words that one bank had to serve in a request.
    """

    file: str | None
    line: int | None
    source: str
    kind: str
    space: str
    width: int
    requests: float = 0
    lanes: float = 0
    sectors: float = 0
    ideal_sectors: float = 0
    cycles: float = 0
    ideal_cycles: float = 0
    worst_degree: int = 0

    @property
    def bytes(self) -> float:
        """Bytes that lanes asked for."""
        return self.lanes * self.width

    @property
    def coalescing(self) -> float:
        """Ideal sectors over sectors; 1 where every byte that moves is wanted."""
        return self.ideal_sectors / self.sectors if self.sectors else 1.0

    @property
    def sectors_per_request(self) -> float:
        """Sectors of global memory a request."""
        return self.sectors / self.requests if self.requests else 0.0

    @property
    def bank_conflict(self) -> float:
        """Cycles over ideal cycles: the mean degree of bank conflicts, 1 without any."""
        return self.cycles / self.ideal_cycles if self.ideal_cycles else 1.0


@dataclass
class ArrayTraffic:
    """Bytes of one array that launches touch at least once, added over the launches."""

    name: str
    bytes: int
    read: int = 0
    written: int = 0


@dataclass
class KernelProfile:
    """All launches of one kernel.

    Attributes:
        name: of the kernel.
        rows: by line.
        arrays: by name; what must come from and go to memory whatever the caches do.
        launches, blocks, threads: how many were started.
        profiled_blocks: whose requests were counted; the rows are scaled up to all of them.
    """

    name: str
    rows: list[Row] = field(default_factory=list)
    arrays: dict[str, ArrayTraffic] = field(default_factory=dict)
    launches: int = 0
    blocks: int = 0
    threads: int = 0
    profiled_blocks: int = 0

    def _sum(self, name: str, space: str) -> float:
        return sum(getattr(row, name) for row in self.rows if row.space == space)

    @property
    def sectors(self) -> float:
        """Sectors of global memory, of 32 bytes, that all requests cost."""
        return self._sum("sectors", "global")

    @property
    def transferred_bytes(self) -> float:
        """Bytes between the multiprocessors and the caches: sectors times 32."""
        return self.sectors * SECTOR

    @property
    def coalescing(self) -> float:
        """Ideal over actual sectors, of all requests together."""
        return self._sum("ideal_sectors", "global") / self.sectors if self.sectors else 1.0

    @property
    def bank_conflict(self) -> float:
        """Mean degree of bank conflicts over all requests of shared memory."""
        ideal = self._sum("ideal_cycles", "shared")
        return self._sum("cycles", "shared") / ideal if ideal else 1.0

    @property
    def worst_degree(self) -> int:
        """The worst bank conflict of any request; 1 without any."""
        return max((row.worst_degree for row in self.rows if row.space == "shared"), default=1)

    @property
    def unique_bytes(self) -> int:
        """Bytes read at least once plus bytes written at least once, launch by launch."""
        return sum(array.read + array.written for array in self.arrays.values())

    def _row(self, key: tuple) -> Row:
        file, line, source, kind, space, width = key
        for row in self.rows:
            if (row.file, row.line, row.kind, row.space, row.width) == (
                file, line, kind, space, width,
            ):  # fmt: skip
                return row
        self.rows.append(Row(file, line, source, kind, space, width))
        return self.rows[-1]

    def __str__(self) -> str:
        plural = "" if self.launches == 1 else "es"
        lines = [
            f"{self.name}: {self.launches} launch{plural}, {self.blocks} blocks, "
            f"{self.threads} threads"
        ]
        lines.append("  line        access          bytes  requests  per request        efficiency")
        for row in sorted(self.rows, key=lambda r: (r.file or "", r.line or 0)):
            access = f"{row.space} {row.kind}"
            if row.space == "global":
                cost = f"{row.sectors_per_request:5.1f} sectors"
                ideal = f"{100 * row.coalescing:5.1f} % of the bytes moved are wanted"
            else:
                cost = f"{row.cycles / row.requests if row.requests else 0:5.1f} cycles "
                ideal = f"{row.bank_conflict:5.1f}-way bank conflict (worst {row.worst_degree})"
            where = f"{row.file}:{row.line}" if row.line else "?"
            lines.append(
                f"  {where:20} {access:15} {row.width:3} {row.requests:9.0f}  {cost}  {ideal}"
            )
            lines.append(f"      {row.source}")
        for array in self.arrays.values():
            lines.append(
                f"  {array.name}: {array.read} different bytes read, {array.written} written"
            )
        return "\n".join(lines)


class Profile:
    """What was counted, kernel by kernel.

    Attributes:
        kernels: by the name they were fetched by.
    """

    def __init__(self, blocks: int | None = None):
        self.kernels: dict[str, KernelProfile] = {}
        self._wanted = SAMPLED_BLOCKS if blocks is None else blocks

    def every(self, grid: Sequence[int]) -> int:
        """Return that each so many-th block is to be counted."""
        # An odd distance, so that it does not fall in step with a grid of tiles.
        distance = -(-prod(grid) // self._wanted)
        return distance if distance == 1 else distance | 1

    def add(
        self, launched: Launched, grid: Sequence[int], block: Sequence[int], every: int
    ) -> None:
        """Add what the launch that has just ended has shown."""
        kernel = self.kernels.setdefault(launched.kernel, KernelProfile(launched.kernel))
        blocks = prod(grid)
        profiled = int(runtime().cudasim_profiled_blocks())
        kernel.launches += 1
        kernel.blocks += blocks
        kernel.threads += blocks * prod(block)
        kernel.profiled_blocks += profiled
        scale = blocks / profiled if profiled else 1.0

        raw_rows = (RawRow * MOST_ROWS)()
        count = min(runtime().cudasim_take_rows(raw_rows, MOST_ROWS), MOST_ROWS)
        lines = locate([raw.site for raw in raw_rows[:count]], launched.library)
        for raw in raw_rows[:count]:
            line = lines.get(raw.site)
            file, number = launched.source.place(line) if line else (None, None)
            quoted = launched.source.quote(line).strip() if line else ""
            space = _SPACES[raw.space]
            row = kernel._row((file, number, quoted, _KINDS[raw.kind], space, raw.bytes))
            for name in ("requests", "lanes", "sectors", "ideal_sectors", "cycles", "ideal_cycles"):
                setattr(row, name, getattr(row, name) + scale * getattr(raw, name))
            row.worst_degree = max(row.worst_degree, raw.worst_degree)

        raw_arrays = (RawArray * MOST_ARRAYS)()
        count = min(runtime().cudasim_take_arrays(raw_arrays, MOST_ARRAYS), MOST_ARRAYS)
        for raw_array in raw_arrays[:count]:
            number = raw_array.argument
            name = launched.parameters[number] if number >= 0 else "no argument"
            array = kernel.arrays.setdefault(name, ArrayTraffic(name, raw_array.array_bytes))
            array.read += raw_array.read
            array.written += raw_array.written

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.kernels.values()))


_active: list[Profile] = []


def active() -> Profile:
    """Return the profile that launches are counted in.

    Raises:
        RuntimeError: there is none.
    """
    if not _active:
        raise RuntimeError(
            'mode "profile" counts for a profile: launch inside `with cudasim.profile() as prof:`'
        )
    return _active[-1]


@contextmanager
def profile(blocks: int | None = None) -> Iterator[Profile]:
    """Count every access of the kernels launched inside; launches add up.

    Args:
        blocks: of how many blocks a launch the requests are looked at, spread over the grid; 64 by
            default. The different bytes of each array are counted over all blocks.

    Raises:
        ValueError: for less than 1 block.
    """
    if blocks is not None and blocks < 1:
        raise ValueError(f"blocks: got {blocks}, expected at least 1")
    _active.append(Profile(blocks))
    try:
        with settings(mode="profile"):
            yield _active[-1]
    finally:
        _active.pop()
