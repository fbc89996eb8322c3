"""Every CUDA kernel with inputs to check it on.

One file a `.cu` file, named after it, lists its cases. A case names a host function of
`minicnn.kernels` and makes arguments for it from a generator and a dtype: ragged sizes, borders,
ties, whatever has ever made such a kernel wrong. `check_case` computes it three times, by the
reference loops, by Numba and on a CUDA device, real or simulated, and compares. The tests, the
mutation run and the report on the kernels all go through these cases.
"""

from minicnn.kernelcheck.ahead import build_ahead, needed_builds
from minicnn.kernelcheck.case import Case, Mismatch, cases, check_case, expected_results, run_case
from minicnn.kernelcheck.configuration import CONFIGURATIONS, Configuration

__all__ = [
    "CONFIGURATIONS", "Case", "Configuration", "Mismatch", "build_ahead", "cases", "check_case",
    "expected_results", "needed_builds", "run_case",
]  # fmt: skip
