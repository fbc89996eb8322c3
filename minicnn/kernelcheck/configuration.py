"""The ways in which a kernel must give the same results on the simulated device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from minicnn.kernels import _launch


@dataclass(frozen=True)
class Configuration:
    """One way to run on the simulator.

    Attributes:
        route: "shim" (the text of the `.cu` file) or "ptx" (what NVIDIA's compiler made of it).
        mode: "fast", or "check" to watch every access.
        order: of the threads, "ascending", "descending" or "random".
        blocks: at most so many; None for as many as the launch asks for.
    """

    route: str
    mode: str
    order: str
    blocks: int | None = None

    def __str__(self) -> str:
        few = "" if self.blocks is None else f", at most {self.blocks} blocks"
        return f"{self.route} route, {self.mode} mode, {self.order} order{few}"

    @contextmanager
    def active(self) -> Iterator[None]:
        """Simulate this way inside."""
        from minicnn import cudasim

        blocks = _launch.MAX_BLOCKS if self.blocks is None else self.blocks
        with (
            cudasim.settings(mode=self.mode, order=self.order, route=self.route, seed=1),
            _launch.limit_blocks(blocks),
        ):
            yield


# Check mode watches one order: what it finds does not depend on luck in scheduling. The runs with
# too few blocks take other orders, so that loops over tiles meet them too.
CONFIGURATIONS = tuple(
    Configuration(route, *rest)
    for route in ("shim", "ptx")
    for rest in (
        ("fast", "ascending", None),
        ("fast", "descending", None),
        ("fast", "random", None),
        ("fast", "descending", 1),
        ("check", "ascending", None),
        ("check", "random", 2),
    )
)
