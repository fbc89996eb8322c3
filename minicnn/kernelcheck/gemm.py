"""Cases of `gemm.cu`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minicnn.kernelcheck.case import Case, Rng

Maker = Callable[[Rng, np.dtype], tuple[np.ndarray, ...]]

# rows, depth, columns, and which operands are transposed views. Tiles have 16, 32, 64 or 128 rows
# and 128 columns, slabs a depth of 16; 16 bytes at a time need multiples of 4 floats or 2 doubles.
SHAPES = {
    "one number": (1, 1, 1, ""),
    "edges of every tile": (17, 9, 129, ""),
    "edges, A transposed": (35, 13, 11, "a"),
    "edges, B transposed": (66, 7, 130, "b"),
    "edges, both transposed": (131, 10, 33, "ab"),
    "aligned": (132, 24, 136, ""),
    "aligned, A transposed": (12, 20, 132, "a"),
    "aligned, B transposed": (40, 12, 20, "b"),
    "aligned, both transposed": (20, 44, 8, "ab"),
    "aligned for double alone": (6, 10, 14, ""),
    "cut depth": (20, 777, 12, ""),
    "no depth": (5, 0, 4, ""),
    "no rows": (0, 3, 4, ""),
}
MAIN = (128, 32, 256, "")
# A case for each instantiation that the host can choose: the rows a thread takes, one number or 16
# bytes at a time, and which operands are transposed.
INSTANTIATIONS = {
    f"{rows} rows, {'wide' if wide else 'narrow'}{transposed and ', transposed '}{transposed}": (
        (rows, 20, 36, transposed) if wide else (rows + 1, 11, 21, transposed)
    )
    for rows in (12, 28, 60, 124)
    for wide in (False, True)
    for transposed in ("", "a", "b", "ab")
}


def _matrices(rows: int, depth: int, columns: int, transposed: str) -> Maker:
    def arguments(rng: Rng, dtype: np.dtype) -> tuple[np.ndarray, ...]:
        a = rng.standard_normal((depth, rows) if "a" in transposed else (rows, depth))
        b = rng.standard_normal((columns, depth) if "b" in transposed else (depth, columns))
        a, b = a.astype(dtype), b.astype(dtype)
        return a.T if "a" in transposed else a, b.T if "b" in transposed else b

    return arguments


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.matmul(a.astype(np.float64), b.astype(np.float64))


def _flops(a: np.ndarray, b: np.ndarray) -> int:
    return 2 * a.shape[0] * a.shape[1] * b.shape[1]


def _stacks(rng: Rng, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    return tuple(rng.standard_normal(s).astype(dtype) for s in [(3, 1, 2, 4), (5, 4, 3)])


def _case(rung: str, label: str, shape: tuple[int, int, int, str], main: bool = False) -> Case:
    # Each of `depth` additions rounds a sum that grows like its square root.
    atol = 2e-6 + 2e-7 * shape[1], 1e-14 + 4e-16 * shape[1]
    return Case(
        "gemm",
        f"{rung}: {label}",
        _matrices(*shape),
        device_options={"algorithm": rung},
        reference=_product,
        atol=atol,
        flops=_flops,
        main=main,
    )


CASES = [_case("tiled", label, shape) for label, shape in {**SHAPES, **INSTANTIATIONS}.items()]
for _rung in ("plain", "plain_shared"):
    for _label in ("one number", "edges of every tile", "edges, A transposed", "no depth"):
        CASES.append(_case(_rung, _label, SHAPES[_label]))
CASES += [_case(rung, "main", MAIN, main=True) for rung in ("plain", "plain_shared", "tiled")]
CASES.append(Case("matmul", "stacks broadcast", _stacks, reference=_product))
