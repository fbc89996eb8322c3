"""Build what cases launch, on all cores, before the launch comes that waits for it.

    with build_ahead(needed_builds("softmax", case, dtype, ["shim"], ["fast", "check"])):
        ...

On the simulator every instantiation of a kernel is compiled at its first launch, once a route and
again for check mode: over a thousand runs of a compiler for all cases, each on one core while the
others idle. A launch that needs what a thread is building waits for that thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from minicnn.kernelcheck.case import Case, make_arguments, run_case
from minicnn.kernels import _launch


@dataclass(frozen=True)
class NeededBuild:
    """One library of the simulator: an instantiation, compiled by a route for a mode."""

    launch: _launch.Launch
    route: str
    mode: str

    def build(self) -> None:
        """Build and load it."""
        from minicnn import cudasim

        function = _launch.fetch(
            cudasim, self.launch.stem, self.launch.kernel, self.launch.shared_mem
        )
        function.compile(self.route, self.mode)


def needed_builds(
    stem: str, case: Case, dtype: np.dtype, routes: Sequence[str], modes: Sequence[str]
) -> list[NeededBuild]:
    """Return what a case needs built, which follows from its shapes: nothing is computed."""
    from minicnn import cudasim

    with _launch.record(run=False) as launches:
        run_case(stem, case, make_arguments(case, dtype), cudasim)
    return [NeededBuild(one, route, mode) for one in launches for route in routes for mode in modes]


@contextmanager
def build_ahead(
    needed: Iterable[NeededBuild], threads: int | None = None
) -> Iterator[list[Future[None]]]:
    """Build in the order given while the `with` block runs; at its end, give up what is left.

    Args:
        needed: what to build, begun as soon as it is named; one named twice is built once.
        threads: how many build at the same time, one a core by default.

    Yields:
        A future for each build. It may hold an error of the compiler, which the launch would meet
        too; wait for all of them to have everything built.
    """
    started: dict[tuple[str, str, str, str], Future[None]] = {}
    pool = ThreadPoolExecutor(threads or os.cpu_count())
    try:
        for one in needed:
            key = (one.launch.stem, one.launch.kernel, one.route, one.mode)
            if key not in started:
                started[key] = pool.submit(one.build)
        yield list(started.values())
    finally:
        pool.shutdown(cancel_futures=True)
