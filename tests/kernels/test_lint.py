"""What no `.cu` file may hold: what NVRTC has not, what hides faults, what computes in double."""

from __future__ import annotations

import re

import pytest

from minicnn.kernels import _launch
from tests.needs import needs_nvrtc

FILES = sorted([*_launch.FOLDER.glob("*.cu"), *_launch.FOLDER.glob("*.h")])
each_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
each_stem = pytest.mark.parametrize("stem", _launch.stems())

FORBIDDEN = {
    "INFINITY|NAN|FLT_MAX|FLT_MIN|FLT_EPSILON|DBL_MAX|DBL_MIN": "NVRTC does not know it",
    "u?int(8|16|32|64)_t": "NVRTC does not know it: write long long, unsigned char",
    "volatile": "order accesses by __syncthreads or __syncwarp",
    "__activemask": "lanes that happen to be here are not those that must be",
    "__threadfence(_block|_system)?": "let two launches do what one block after another must",
    "asm|__asm__": "inline PTX is for one architecture",
    "__managed__|__constant__|texture|surface": "pass arrays",
    "new|delete|malloc|free": "kernels allocate nothing",
    "__half2?|half2|__nv_bfloat16": "kernels are of float and double",
    "atomic\\w+": "gather: the order of atomics differs from run to run",
    "goto|do": "loops have their condition at the top",
    "expf|logf|sqrtf|fabsf|fmaxf|fminf|powf|tanhf|rsqrtf|__expf|__logf|__fdividef|__powf": (
        "overloads serve float and double"
    ),
    "std|thrust|cub|cooperative_groups": "NVRTC has no headers",
}
NUMBER = re.compile(r"(?<![\w.])(\d+\.\d*|\.\d+|\d+[eE][-+]?\d+|\d+\.\d*[eE][-+]?\d+)([fF]?)\b")


def code(path):
    """Return a file without comments, its lines in place."""
    text = path.read_text(encoding="utf-8")
    return _launch.COMMENT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def place(path, text, found):
    return f"{path.name}:{text.count(chr(10), 0, found.start()) + 1}: {found[0].strip()!r}"


def bodies(text):
    """Yield the head and body of each kernel."""
    for found in re.finditer(r"__global__[^{]*\{", text):
        depth, at = 1, found.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        yield found[0], text[found.end() : at]


def test_there_are_files():
    assert {"activation.cu", "gemm.cu", "_reduce.h"} <= {path.name for path in FILES}


@each_file
def test_only_our_own_headers_are_included(path):
    for line in re.findall(r"^[ \t]*#[ \t]*include.*$", code(path), re.M):
        found = re.fullmatch(r'#include "(_\w+\.h)"', line.rstrip())
        assert found, f"{path.name}: {line}"
        assert (_launch.FOLDER / found[1]).is_file()


@each_file
@pytest.mark.parametrize("words", FORBIDDEN)
def test_forbidden_words(path, words):
    text = code(path)
    found = re.search(rf"(?<![\w.])(?:{words})(?!\w)", text)
    assert not found, f"{place(path, text, found)}: {FORBIDDEN[words]}"


@each_file
def test_numbers_are_of_the_kernels_type(path):
    """`0.5 * x` computes in double, `0.1f * x` is not 0.1 in double: T(0.1) is right in both.

    Plain numbers of float stay where a value is exact: T(0.5f), 1.0f in code of float alone.
    """
    text = code(path)
    for found in NUMBER.finditer(text):
        value = float(found[1])
        exact = value * 1024 == int(value * 1024) and abs(value) < 2**20
        inside = re.search(r"T\(\s*-?\s*$", text[: found.start()])
        assert inside or found[2], f"{place(path, text, found)} is a double"
        assert exact or not found[2], f"{place(path, text, found)} is not exact in double"


@each_file
def test_kernels_do_not_return_early(path):
    """A thread that has left cannot meet the others at a barrier."""
    for head, body in bodies(code(path)):
        assert not re.search(r"\breturn\s*;", body), f"{path.name}: return in {head}"


@each_file
def test_shared_arrays_stand_alone(path):
    text = code(path)
    for found in re.finditer(r"__shared__([^;]*);", text):
        declared = re.sub(r"__align__\s*\(\s*\d+\s*\)|\[[^\]]*\]|<[^>]*>", "", found[1])
        assert "," not in declared and "=" not in declared, place(path, text, found)


@each_file
def test_kernels_with_shared_arrays_bound_their_blocks(path):
    for head, body in bodies(code(path)):
        if "__shared__" in body and "extern __shared__" not in body:
            assert "__launch_bounds__" in head, f"{path.name}: {head.split('(')[0].split()[-1]}"


@each_file
def test_warp_primitives_name_all_lanes(path):
    text = code(path)
    for found in re.finditer(r"__(?:shfl\w*|ballot|any|all)_sync\s*\(\s*([^,]*),", text):
        assert found[1].strip() in ("ALL_LANES", "0xffffffffu"), place(path, text, found)


@each_file
def test_loops_are_right_with_too_few_blocks(path):
    """Every kernel takes what its grid does not cover in further rounds."""
    for head, body in bodies(code(path)):
        assert "gridDim" in body, f"{path.name}: no stride over the grid in {head.split('(')[0]}"


@needs_nvrtc
@each_stem
def test_float_kernels_compute_nothing_in_double(stem):
    from minicnn.cudasim import nvrtc

    names = [
        f"{name}<float{', 1' * (len(signature.template) - 1)}>"
        for name, signature in _launch.signatures(stem).items()
        if signature.template
    ]
    text = nvrtc.compile(_launch.source(stem), names, 80).text
    found = re.search(r"^.*\.f64\b.*$", text, re.M)
    before = text[: found.start()].splitlines() if found else []
    location = next((line for line in reversed(before) if ".loc" in line), "")
    assert not found, f"{stem}.cu: {found[0].strip()} {location.strip()}"


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("#include <math.h>\n", test_only_our_own_headers_are_included),
        ("__global__ void k(float* x) { x[0] *= 0.5; }", test_numbers_are_of_the_kernels_type),
        ("T half = T(0.1f);", test_numbers_are_of_the_kernels_type),
        (
            "__global__ void k(int n) { if (n) return; __syncthreads(); }",
            test_kernels_do_not_return_early,
        ),
        ("__global__ void k() { __shared__ float a[3], b[4]; }", test_shared_arrays_stand_alone),
        (
            "__global__ void k() { __shared__ float a[3]; }",
            test_kernels_with_shared_arrays_bound_their_blocks,
        ),
        ("v = __shfl_xor_sync(mask, v, 1);", test_warp_primitives_name_all_lanes),
        (
            "__global__ void k(float* x) { x[threadIdx.x] = 1; }",
            test_loops_are_right_with_too_few_blocks,
        ),
    ],
)
def test_the_lint_finds(tmp_path, text, check):
    path = tmp_path / "planted.cu"
    path.write_text(text)
    with pytest.raises(AssertionError, match=r"planted\.cu"):
        check(path)


@pytest.mark.parametrize("word", ["INFINITY", "volatile", "atomicAdd", "int64_t", "expf", "std"])
def test_the_lint_finds_words(tmp_path, word):
    path = tmp_path / "planted.cu"
    path.write_text(f"// {word} in a comment is none\nfoo({word} x);")
    with pytest.raises(AssertionError, match=rf"planted\.cu:2: '{word}'"):
        for words in FORBIDDEN:
            test_forbidden_words(path, words)
