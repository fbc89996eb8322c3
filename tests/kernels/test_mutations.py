"""The cases notice a fault planted in a kernel: at least 95 % of all mutants are killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap

import pytest

from minicnn.kernels import _launch
from tests.kernels import mutation
from tests.needs import needs_compiler

pytestmark = needs_compiler


def unexplained(results: list[tuple[mutation.Mutant, str]]) -> list[str]:
    """Return the survivors that `survivors.txt` does not explain."""
    known = mutation.explained()
    return [str(m) for m, verdict in results if verdict == "survived" and str(m) not in known]


def test_changes_are_made_where_they_should():
    kinds = {
        "x[i] = y[j + 1] < 3;": {"x[i + 1] = y[j + 1] < 3;", "x[i] = y[j + 1 + 1] < 3;",
                                 "x[i] = y[j + 1] <= 3;"},
        "if (y >= 0) __syncthreads();": {"if (y >= -1) __syncthreads();", "if (y >= 0) ;"},
        "atomicAdd(&x[0], v * 2);": {"x[0] += v * 2;", "atomicAdd(&x[0 + 1], v * 2);"},
        "atomicMax(x + 1, v);": {"*(x + 1) = max(*(x + 1), v);"},
        "    __shared__ T tile[16][17];": set(),
        "    float sums[4][4];": set(),
        "    const T* at[N];": set(),
        "    Pack<T, 4> held[N];": set(),
        "    const T (&a)[N][M + P<T>], T (&b)[N]": set(),
        "    return a[i];": {"    return a[i + 1];"},
        "    const T* row = a + n;": set(),
        "template <typename T, int N>": set(),
        "f<float, 3>(x);": set(),
        "x = y <= 2;": set(),
    }  # fmt: skip
    for code, wanted in kinds.items():
        changes = mutation._changes(code)
        assert {code[:start] + new + code[end:] for start, end, _, new in changes} == wanted


def test_a_mutant_knows_its_kernel_and_its_line():
    mutants = mutation.mutants("activation")
    lines = (_launch.FOLDER / "activation.cu").read_text(encoding="utf-8").splitlines()
    for mutant in mutants:
        assert lines[mutant.line - 1] == mutant.before
        above = "\n".join(lines[: mutant.line])
        assert f" {mutant.kernel}(" in above[above.rindex("__global__") :]
    assert {m.kernel for m in mutants} == set(_launch.signatures("activation"))


def test_a_known_fault_is_killed_and_an_equivalent_program_survives():
    bound = next(m for m in mutation.mutants("activation") if m.kind == "bound")
    verdict = mutation.verdict(bound)
    assert verdict.startswith("killed by relu_forward one element")
    assert "out-of-bounds" in verdict
    same = _launch.source("activation").replace("T(0) : input[i]", "T(0) : input[i + 0]", 1)
    harmless = mutation.Mutant("activation", "relu_forward_cuda", "", 0, "", "", "", same)
    assert mutation.verdict(harmless) == "survived"


def test_one_that_does_not_end_is_killed():
    lines = """
        import dataclasses
        from tests.kernels import mutation
        from minicnn.kernels import _launch
        ends = mutation.mutants("activation")[0]
        mutation.verdict(ends)
        mutation.LIMIT = 3
        loop = _launch.source("activation").replace("output[i] =", "while (total) output[i] =", 1)
        mutation.work([ends, dataclasses.replace(ends, text=loop), ends], 1, 0)
    """
    command = [sys.executable, "-c", textwrap.dedent(lines)]
    done = subprocess.run(command, cwd=mutation.ROOT, capture_output=True, text=True)
    assert done.returncode == -signal.SIGPROF
    assert done.stdout.startswith("0\tkilled by") and done.stdout.count("\n") == 1


def test_a_sample_is_killed():
    results = list(mutation.run(_launch.stems(), every=20))
    assert len(results) > 30
    assert not unexplained(results)


@pytest.mark.slow
def test_at_least_95_percent_are_killed():
    results = list(mutation.run(_launch.stems()))
    verdicts = [verdict for _, verdict in results if verdict != "refused"]
    killed = sum(verdict.startswith("killed") for verdict in verdicts)
    assert not unexplained(results)
    assert killed >= 0.95 * len(verdicts), f"{killed} of {len(verdicts)} killed"


def test_every_explanation_is_of_a_mutant_that_exists():
    everything = {str(mutant) for stem in _launch.stems() for mutant in mutation.mutants(stem)}
    assert set(mutation.explained()) <= everything
