"""Every CUDA kernel keeps its budget; and the budget keeps what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minicnn.cudasim.occupancy import occupancy
from minicnn.kernelcheck import budgets, listing, report
from minicnn.kernels import _launch
from tests.needs import needs_compiler, needs_nvdisasm, needs_nvrtc


@needs_compiler
@needs_nvrtc
@needs_nvdisasm
@pytest.mark.slow
@pytest.mark.parametrize("stem", _launch.stems())
def test_kernels_keep_their_budget(stem):
    worse = budgets.violations(report.measure([stem]), budgets.read())
    assert not worse, "\n".join(worse)


def test_every_kernel_has_a_row_for_each_type():
    table = budgets.read()
    for stem in _launch.stems():
        named = {
            f"{kernel}<{dtype}>" for kernel in _launch.signatures(stem) for dtype in report.DTYPES
        }
        assert set(table.sections[stem]) == named
    assert set(table.sections) == set(_launch.stems())


def test_a_reason_stands_only_where_a_rule_is_broken():
    for row in budgets.read().rows.values():
        breaks = (row.coalescing or 1) < 0.9 or (row.bank_conflict or 1) > 2
        tiled = "_tiled_cuda<" in row.kernel and min(row.multiply_adds) < 80
        assert bool(row.reason) == (breaks or tiled), row


def test_the_listing_names_every_kernel_once():
    ops = listing.ops()
    cuda = {kernel for op in ops for kernel in op.cuda}
    assert cuda == {name for stem in _launch.stems() for name in _launch.signatures(stem)}
    gemm = next(op for op in ops if op.name == "gemm")
    assert gemm.cpu == ("gemm_plain_cpu", "gemm_tiled_cpu")
    assert gemm.cuda[:2] == ("gemm_plain_cuda", "gemm_plain_shared_cuda")
    assert [op.name for op in listing.ops(("smooth_l1",))] == [
        "smooth_l1_forward", "smooth_l1_backward",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="stem: got 'nothing', expected some of"):
        listing.ops(("nothing",))


def build(arch, **changes):
    registers = changes.pop("registers", 32)
    made = report.Build(arch, registers, 0, 0, 0, occupancy(arch, registers, 0, 256), 0.85, 100)
    return replace(made, **changes)


def kernel(**changes):
    builds = tuple(build(arch) for arch in report.ARCHITECTURES)
    made = report.KernelReport(
        "some", "some_tiled_cuda", "float", "some_tiled_cuda<float, 8>", 256, 0, builds, (), 0.95, 2
    )
    return replace(made, **changes)


def report_of(*kernels, compiler="13.0"):
    return report.Report(compiler, report.ARCHITECTURES, list(kernels), [])


@pytest.fixture
def table(tmp_path):
    """The table that holds the good kernel, at `path`."""
    path = tmp_path / "budgets.csv"
    budgets.write(report_of(kernel()), path)
    return path


def found(path, *kernels, compiler="13.0"):
    return budgets.violations(report_of(*kernels, compiler=compiler), budgets.read(path))


def with_builds(**changes):
    return kernel(builds=tuple(build(arch, **changes) for arch in report.ARCHITECTURES))


def test_what_was_written_is_read_and_kept(table):
    assert found(table, kernel()) == []
    read = budgets.read(table)
    assert read.compiler == "13.0"
    assert read.rows["some_tiled_cuda<float>"] == budgets.budget_of(kernel())
    assert budgets.budget_of(kernel()).occupancy == (100, 100, 100, 100, 100)


@pytest.mark.parametrize(
    ("worse", "sentences"),
    [
        (with_builds(registers=40), ["40 registers on sm_75, held to 32"]),
        (with_builds(registers=40), ["occupancy is 75% on sm_80, held to 100%"]),
        (with_builds(multiply_adds=0.83), ["multiply_adds is 83% on sm_90, held to 85%"]),
        (with_builds(multiply_adds=0.79), ["79.0% of the inner loop multiply and add on sm_100"]),
        (with_builds(multiply_adds=None), ["0.0% of the inner loop multiply and add on sm_120"]),
        (with_builds(stack=64), ["keeps 64 bytes of arrays in memory on sm_75"]),
        (kernel(coalescing=0.92), ["coalescing is 0.92, held to 0.95"]),
        (kernel(coalescing=0.5), ["50.0% of the bytes that move are wanted, expected at least"]),
        (kernel(bank_conflict=4), ["bank conflict is 4-way, expected at most 2-way"]),
        (kernel(bank_conflict=4), ["the worst bank conflict is 4-way, held to 2-way"]),
        (kernel(spilling=(("some_tiled_cuda<float, 1>", 75),)), ["<float, 1> spills on sm_75"]),
        (
            kernel(kernel="other_cuda"),
            ["other_cuda<float> has no row", "some_tiled_cuda<float> has a row, but is no kernel"],
        ),
    ],
)
def test_what_is_worse_is_named(table, worse, sentences):
    told = "\n".join(found(table, worse))
    for sentence in sentences:
        assert sentence in told


def test_what_is_better_passes(table):
    assert found(table, with_builds(registers=24)) == []
    assert found(table, kernel(coalescing=1.0, bank_conflict=1)) == []


def test_another_compiler_may_deal_out_registers_otherwise(table):
    assert found(table, with_builds(registers=40), compiler="13.1") == []
    assert found(table, kernel(coalescing=0.91), compiler="13.1") == []
    assert found(table, with_builds(multiply_adds=0.79), compiler="13.1") != []


def test_a_reason_excuses_rules_but_neither_spills_nor_what_becomes_worse(table):
    bad = kernel(coalescing=0.5, bank_conflict=4)
    budgets.write(report_of(bad), table)
    assert len(found(table, bad)) == 2
    table.write_text(table.read_text().replace(",0.50,4,", ',0.50,4,"strided, by nature"'))
    assert found(table, bad) == []
    budgets.write(report_of(bad), table)  # an update keeps the reason
    assert budgets.read(table).rows["some_tiled_cuda<float>"].reason == "strided, by nature"
    assert len(found(table, kernel(coalescing=0.4, bank_conflict=8))) == 2
    assert len(found(table, replace(bad, spilling=(("x", 90),)))) == 1


def test_an_update_of_some_files_leaves_the_others(table):
    other = kernel(stem="another", kernel="another_cuda")
    budgets.write(report_of(other), table)
    assert list(budgets.read(table).sections) == ["another", "some"]
    assert found(table, kernel(), other) == []


def test_roofline():
    row = report.RooflineRow("some", "gemm", "main", "float", 2_000_000, 100_000)
    assert row.intensity == 20
    assert row.bound() == "arithmetic"  # an A100 does 19.5e12 / 1555e9 = 12.5 a byte
    assert replace(row, bytes=200_000).bound() == "memory"
    assert replace(row, bytes=250_000, dtype="double").bound() == "arithmetic"  # 6.2 a byte


def test_an_unknown_file_is_refused():
    with pytest.raises(ValueError, match="stem: got 'nothing', expected some of activation"):
        report.measure(["nothing"])
