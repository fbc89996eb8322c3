"""Machine code as NVIDIA's disassembler shows it: what the inner loops of a kernel are made of.

A multiprocessor issues a fixed number of instructions a cycle, so the share of fused multiply-adds
among the instructions of the innermost loop bounds what part of the peak rate it can reach. That
much is known without a GPU; how long anything takes is not.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minicnn.cudasim import toolkit

MULTIPLY_ADDS = {"FFMA", "FFMA2", "DFMA"}
MEMORY = {"LDG", "STG", "LDS", "STS"}
WIDE = re.compile(r"(LDG|STG|LDS|STS)\b.*\.(64|128)\b")

_SECTION = re.compile(r'^\s*\.section\s+\.text\.(\S+?),"ax"', re.M)
_LABEL = re.compile(r"\s*(\.L_\w+):")
_INSTRUCTION = re.compile(
    r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)\s*(?P<operands>[^;]*);"
)
_TARGET = re.compile(r"\(?(\.L_\w+)\)?")


class NvdisasmNotFoundError(RuntimeError):
    """nvdisasm is neither in a wheel, nor on the PATH, nor in a CUDA toolkit."""


@dataclass(frozen=True)
class Instructions:
    """A stretch of instructions: their opcodes with all modifiers, such as "LDS.128"."""

    opcodes: tuple[str, ...]

    @property
    def counts(self) -> Counter[str]:
        """How often each opcode stands, without modifiers but for widths: FFMA, LDS.128."""
        return Counter(map(_short, self.opcodes))

    @property
    def multiply_adds(self) -> int:
        """Fused multiply-adds of float32 or float64."""
        return sum(opcode.split(".")[0] in MULTIPLY_ADDS for opcode in self.opcodes)

    @property
    def share(self) -> float:
        """The part of them that multiplies and adds, from 0 to 1."""
        return self.multiply_adds / len(self.opcodes) if self.opcodes else 0.0

    @property
    def wide(self) -> int:
        """Loads and stores of 8 or 16 bytes a thread."""
        return sum(WIDE.match(opcode) is not None for opcode in self.opcodes)


@dataclass(frozen=True)
class Listing:
    """One kernel: all its instructions, and those of each loop that holds no other loop."""

    code: Instructions
    inner_loops: tuple[Instructions, ...]

    @property
    def main_loop(self) -> Instructions | None:
        """The inner loop that multiplies and adds most, or None if none does."""
        found = max(self.inner_loops, key=lambda loop: loop.multiply_adds, default=None)
        return found if found is not None and found.multiply_adds else None


def nvdisasm() -> Path:
    """Return NVIDIA's disassembler.

    Raises:
        NvdisasmNotFoundError: there is none; the message says what to install.
    """
    tool = toolkit.find_tool("nvdisasm")
    if tool is None:
        raise NvdisasmNotFoundError(
            "NVIDIA's disassembler nvdisasm was not found; pip install nvidia-cuda-nvdisasm, "
            "or set CUDA_HOME to a CUDA toolkit (no GPU is needed)"
        )
    return tool


def disassemble(cubin: bytes) -> dict[str, Listing]:
    """Return the listing of each function of a compiled module, by symbol.

    Raises:
        NvdisasmNotFoundError: there is no nvdisasm; the message says what to install.
        RuntimeError: it does not accept the code.
    """
    tool = nvdisasm()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        done = subprocess.run([tool, "-c", path], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"nvdisasm: {done.stderr.strip()}")
    return parse_listing(done.stdout)


def parse_listing(text: str) -> dict[str, Listing]:
    """Read what `nvdisasm -c` prints."""
    parts = _SECTION.split(text)
    return {name: _read(part) for name, part in zip(parts[1::2], parts[2::2], strict=True)}


def _read(text: str) -> Listing:
    opcodes: list[str] = []
    labels: dict[str, int] = {}
    branches: list[tuple[int, str]] = []
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(opcodes)
        elif found := _INSTRUCTION.search(line):
            target = _TARGET.search(found["operands"])
            if found["opcode"].startswith("BRA") and target:
                branches.append((len(opcodes), target[1]))
            opcodes.append(found["opcode"])
    # A jump back ends a loop. Code ends with a jump to itself, which is none.
    loops = [
        (labels[target], at) for at, target in branches if target in labels and labels[target] < at
    ]
    inner = [loop for loop in loops if not any(_within(other, loop) for other in loops)]
    return Listing(
        _working(opcodes), tuple(_working(opcodes[first : last + 1]) for first, last in inner)
    )


def _working(opcodes: Sequence[str]) -> Instructions:
    # NOP fills the last line of the instruction cache, or the wait for a unit that is busy.
    return Instructions(tuple(opcode for opcode in opcodes if opcode != "NOP"))


def _within(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return inner != outer and outer[0] <= inner[0] and inner[1] <= outer[1]


def _short(opcode: str) -> str:
    name, *modifiers = opcode.split(".")
    widths: Iterator[str] = (m for m in modifiers if m in ("64", "128") and name in MEMORY)
    return ".".join([name, *widths])
