"""PTX to C++: instructions one by one, and kernels that check mode must judge as the shim does."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from minicnn import cudasim
from minicnn.cudasim import build, ptx
from minicnn.cudasim.library import runtime
from minicnn.cudasim.ptx.translator import source_name
from tests.needs import needs_compiler

HEAD = ".version 9.0\n.target sm_80\n.address_size 64\n"
REGISTERS = """
    .reg .pred %p<9>; .reg .b16 %rs<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>, %given, %found;
    .reg .f32 %f<9>; .reg .f64 %fd<9>;
"""
# What the compiler puts before kernels: tables, and functions that it did not inline.
DEVICE = """
.const .align 4 .b8 table[12] = {1, 0, 0, 0, 2, 0, 0, 0, 255, 1, 0, 0};
.func (.param .b32 result) twice(.param .b32 x)
{
    .reg .b32 %r<3>;
    ld.param.u32 %r1, [x];
    add.u32 %r2, %r1, %r1;
    st.param.b32 [result], %r2;
    ret;
}
"""
NAN = math.nan
INF = math.inf
TINY = 1e-40  # subnormal in float32


def run(*cases):
    """Run PTX instructions in one thread and return what each case leaves in register r.

    A case is (instructions, values, dtype of r); the values are in registers a0, a1, ...
    """
    sizes = {1: "b8", 2: "b16", 4: "b32", 8: "b64"}
    given = np.zeros((len(cases), 4), np.uint64)
    blocks = []
    for number, (body, values, out) in enumerate(cases):
        lines = [f"{{ .reg .{sizes[np.dtype(out).itemsize]} %r;"]
        for i, value in enumerate(values):
            size = sizes[value.itemsize]
            given[number, i] = np.array(value).view(f"u{value.itemsize}")
            # There are no registers of 8 bits.
            lines.append(f".reg .{'b16' if size == 'b8' else size} %a{i};")
            lines.append(f"ld.global.{size} %a{i}, [%given+{32 * number + 8 * i}];")
        size = sizes[np.dtype(out).itemsize]
        blocks += [*lines, body, f"st.global.{size} [%found+{8 * number}], %r; }}"]
    text = (
        f"{HEAD}{DEVICE}.visible .entry k(.param .u64 inputs, .param .u64 outputs)\n{{\n"
        f"{REGISTERS}ld.param.u64 %given, [inputs]; ld.param.u64 %found, [outputs];\n"
        + "\n".join(blocks)
        + "\nret; }\n"
    )
    found = cudasim.zeros(len(cases), np.uint64)
    launch(ptx.translate(text, "k").source, [cudasim.asarray(given), found])
    return [
        value.tobytes()[: np.dtype(out).itemsize]
        for value, (_, _, out) in zip(found.get(), cases, strict=True)
    ]


def launch(source, arrays):
    """Run `cudasim_kernel` of a C++ text in one thread, in float32's mode of the CPU."""
    runtime()
    flags = [*build.FAST_FLAGS, "-O1", "-ffp-contract=off"]
    library = ctypes.CDLL(str(build.build(source, flags, "test-ptx")))
    address = ctypes.cast(library.cudasim_kernel, ctypes.c_void_p).value
    code = (ctypes.c_size_t * 2)()
    begin = ctypes.addressof(code)
    runtime().cudasim_code_range(address, begin, begin + ctypes.sizeof(ctypes.c_size_t))
    cells = np.array([array.data.ptr for array in arrays], np.uint64)
    one = (ctypes.c_uint * 3)(1, 1, 1)
    status = runtime().cudasim_launch(
        address, cells.tobytes(), 2, 3, 3, code, one, one, 0, 49152, 0, 0, 0, 1, 1, 1
    )
    assert status == 0


u8, u16, u32, u64 = np.uint8, np.uint16, np.uint32, np.uint64
i8, i16, i32, i64, f32, f64 = np.int8, np.int16, np.int32, np.int64, np.float32, np.float64
TOP = i32(-(2**31))

INSTRUCTIONS = [
    # integers wrap
    ("add.s32 %r, %a0, %a1;", [i32(2**31 - 1), i32(1)], i32, TOP),
    ("sub.s32 %r, %a0, %a1;", [TOP, i32(1)], i32, 2**31 - 1),
    ("add.s32 %r, %a0, -4;", [i32(1)], i32, -3),
    ("add.s64 %r, %a0, -4;", [i64(1)], i64, -3),
    ("neg.s32 %r, %a0;", [TOP], i32, TOP),
    ("abs.s32 %r, %a0;", [i32(-7)], i32, 7),
    ("mul.lo.s32 %r, %a0, %a1;", [i32(65536), i32(65537)], i32, 65536),
    ("mul.lo.u16 %r, %a0, %a1;", [u16(65535), u16(65535)], u16, 1),
    ("mul.hi.s32 %r, %a0, %a1;", [i32(-3), i32(2**30)], i32, -1),
    ("mul.hi.u32 %r, %a0, %a1;", [u32(2**32 - 1), u32(2**32 - 1)], u32, 2**32 - 2),
    ("mul.hi.u64 %r, %a0, %a1;", [u64(2**63), u64(6)], u64, 3),
    ("mul.wide.s32 %r, %a0, %a1;", [i32(-3), i32(2**30)], i64, -3 * 2**30),
    ("mul.wide.u32 %r, %a0, %a1;", [u32(2**32 - 1), u32(2)], u64, 2**33 - 2),
    ("mad.lo.s32 %r, %a0, %a1, %a2;", [i32(7), i32(-5), i32(1)], i32, -34),
    ("mad.wide.s32 %r, %a0, 8, %a1;", [i32(-1), i64(100)], i64, 92),
    ("div.s32 %r, %a0, %a1;", [i32(-7), i32(2)], i32, -3),
    ("div.u32 %r, %a0, %a1;", [u32(7), u32(0)], u32, 2**32 - 1),
    ("rem.s32 %r, %a0, %a1;", [i32(-7), i32(3)], i32, -1),
    ("div.s32 %r, %a0, %a1;", [TOP, i32(-1)], i32, TOP),
    ("min.s32 %r, %a0, %a1;", [i32(-1), i32(1)], i32, -1),
    ("min.u32 %r, %a0, %a1;", [u32(2**32 - 1), u32(1)], u32, 1),
    ("add.cc.u32 %r1, %a0, %a0; addc.u32 %r, 5, 0;", [u32(2**31)], u32, 6),
    ("sub.cc.u32 %r1, 1, %a0; subc.u32 %r, 5, 0;", [u32(2)], u32, 4),
    ("mad.lo.cc.u32 %r1, %a0, %a0, %a0; madc.hi.u32 %r, %a0, %a0, 0;", [u32(65537)], u32, 1),
    # bits
    ("shl.b32 %r, %a0, %a1;", [u32(1), u32(31)], u32, 2**31),
    ("shl.b32 %r, %a0, %a1;", [u32(1), u32(32)], u32, 0),
    ("shr.u32 %r, %a0, %a1;", [u32(2**31), u32(40)], u32, 0),
    ("shr.s32 %r, %a0, %a1;", [i32(-8), u32(1)], i32, -4),
    ("shr.s32 %r, %a0, %a1;", [i32(-8), u32(99)], i32, -1),
    ("not.b32 %r, %a0;", [u32(0)], u32, 2**32 - 1),
    ("lop3.b32 %r, %a0, %a1, 12, 0x96;", [u32(5), u32(6)], u32, 5 ^ 6 ^ 12),
    ("lop3.b32 %r, %a0, %a1, 12, 0xEA;", [u32(5), u32(6)], u32, (5 & 6) | 12),
    ("shf.l.wrap.b32 %r, %a0, %a1, 8;", [u32(0x80000000), u32(1)], u32, 0x180),
    ("shf.r.wrap.b32 %r, %a0, %a1, 36;", [u32(0x10), u32(0xF)], u32, 0xF0000001),
    ("bfe.u32 %r, %a0, 8, 8;", [u32(0x12345678)], u32, 0x56),
    ("bfe.s32 %r, %a0, 4, 4;", [i32(0xF0)], i32, -1),
    ("bfi.b32 %r, %a0, %a1, 8, 4;", [u32(0xF), u32(0)], u32, 0xF00),
    ("prmt.b32 %r, %a0, %a1, 0x7410;", [u32(0x33221100), u32(0x77665544)], u32, 0x77441100),
    ("prmt.b32 %r, %a0, 0, 0x8888;", [u32(0x80)], u32, 0xFFFFFFFF),
    ("popc.b32 %r, %a0;", [u32(0xF0F)], u32, 8),
    ("clz.b32 %r, %a0;", [u32(1)], u32, 31),
    ("clz.b32 %r, %a0;", [u32(0)], u32, 32),
    ("clz.b64 %r, %a0;", [u64(1)], u32, 63),
    ("brev.b32 %r, %a0;", [u32(1)], u32, 2**31),
    ("bfind.u32 %r, %a0;", [u32(40)], u32, 5),
    ("mov.b64 {%r1, %r}, %a0;", [u64(0x1234567800000000)], u32, 0x12345678),
    ("mov.b64 %r, {%a0, %a1};", [u32(1), u32(2)], u64, 2**33 + 1),
    ("{ .reg .b32 %t; mov.b64 {%t, %r}, %a0; }", [f64(-0.0)], u32, 2**31),
    # conversions
    ("cvt.s32.s8 %r, %a0;", [i8(-3)], i32, -3),
    ("cvt.u32.u8 %r, %a0;", [u8(253)], u32, 253),
    ("cvt.s64.s32 %r, %a0;", [i32(-3)], i64, -3),
    ("cvt.u32.u64 %r, %a0;", [u64(2**32 + 5)], u32, 5),
    ("cvt.sat.u8.s32 %r1, %a0; cvt.u32.u32 %r, %r1;", [i32(300)], u32, 255),
    ("cvt.rzi.s32.f32 %r, %a0;", [f32(-2.9)], i32, -2),
    ("cvt.rni.s32.f32 %r, %a0;", [f32(2.5)], i32, 2),
    ("cvt.rmi.s32.f32 %r, %a0;", [f32(-2.1)], i32, -3),
    ("cvt.rpi.s32.f32 %r, %a0;", [f32(2.1)], i32, 3),
    ("cvt.rzi.s32.f32 %r, %a0;", [f32(3e9)], i32, 2**31 - 1),
    ("cvt.rzi.u32.f32 %r, %a0;", [f32(-3)], u32, 0),
    ("cvt.rzi.s32.f32 %r, %a0;", [f32(NAN)], i32, 0),
    ("cvt.rzi.s64.f64 %r, %a0;", [f64(NAN)], i64, -(2**63)),
    ("cvt.rzi.s64.f64 %r, %a0;", [f64(-1e30)], i64, -(2**63)),
    ("cvt.rn.f32.s32 %r, %a0;", [i32(2**24 + 1)], f32, 2.0**24),
    ("cvt.rp.f32.s32 %r, %a0;", [i32(2**24 + 1)], f32, 2.0**24 + 2),
    ("cvt.rn.f32.u64 %r, %a0;", [u64(2**63)], f32, 2.0**63),
    ("cvt.rn.f32.f64 %r, %a0;", [f64(0.1)], f32, f32(0.1)),
    ("cvt.rz.f32.f64 %r, %a0;", [f64(0.1)], f32, np.nextafter(f32(0.1), f32(0))),
    ("cvt.f64.f32 %r, %a0;", [f32(0.1)], f64, float(f32(0.1))),
    ("cvt.rni.f32.f32 %r, %a0;", [f32(-3.5)], f32, -4),
    ("cvt.ftz.sat.f32.f32 %r, %a0;", [f32(1.5)], f32, 1),
    ("cvt.ftz.sat.f32.f32 %r, %a0;", [f32(NAN)], f32, 0),
    # floats
    ("add.ftz.f32 %r, %a0, %a1;", [f32(0.1), f32(0.2)], f32, f32(0.1) + f32(0.2)),
    ("sub.f64 %r, %a0, %a1;", [f64(0.3), f64(0.1)], f64, 0.3 - 0.1),
    ("add.ftz.f32 %r, %a0, 0f00000000;", [f32(TINY)], f32, 0),
    ("add.f64 %r, %a0, 0d0000000000000000;", [f64(1e-310)], f64, 1e-310),
    ("mul.ftz.f32 %r, %a0, 0f40000000;", [f32(1e38)], f32, f32(2e38)),
    ("mul.rn.f32 %r1, %a0, %a0; add.rn.f32 %r, %r1, %a1;", [f32(1 + 2**-12), f32(-1)], f32, 2**-11),
    ("fma.rn.f32 %r, %a0, %a0, %a1;", [f32(1 + 2**-12), f32(-1)], f32, 2**-11 + 2**-24),
    ("fma.rm.ftz.f32 %r, %a0, 0f3F800000, %a1;", [f32(2**-30), f32(1)], f32, 1),
    ("fma.rp.ftz.f32 %r, %a0, 0f3F800000, %a1;", [f32(2**-30), f32(1)], f32, 1 + 2**-23),
    ("add.rz.f32 %r, %a0, %a1;", [f32(-1), f32(2**-30)], f32, -1 + 2**-24),
    ("sub.rm.f32 %r, %a0, %a1;", [f32(1), f32(2**-30)], f32, 1 - 2**-24),
    ("mul.rp.f32 %r, %a0, %a0;", [f32(1 + 2**-23)], f32, 1 + 2**-21 - 2**-22 + 2**-23),
    ("mul.rm.f32 %r, %a0, %a1;", [f32(0), f32(5)], u32, 0),
    ("mul.rm.f32 %r, %a0, %a1;", [f32(-0.0), f32(5)], u32, 2**31),
    ("mul.rz.f32 %r, %a0, %a1;", [f32(-3e38), f32(5)], f32, -3.4028234663852886e38),
    ("add.rm.f32 %r, %a0, %a1;", [f32(1), f32(-1)], u32, 2**31),
    ("add.rp.f32 %r, %a0, %a1;", [f32(1), f32(-1)], u32, 0),
    ("fma.rp.f32 %r, %a0, %a0, %a1;", [f32(INF), f32(1)], f32, INF),
    ("fma.rm.f64 %r, %a0, 0d3FF0000000000000, %a1;", [f64(-(2**-80)), f64(1)], f64, 1 - 2**-53),
    ("div.rn.f32 %r, %a0, %a1;", [f32(1), f32(3)], f32, f32(1) / f32(3)),
    ("div.rn.f64 %r, %a0, %a1;", [f64(1), f64(0)], f64, INF),
    ("div.rz.f32 %r, %a0, %a1;", [f32(2), f32(3)], f32, np.nextafter(f32(2) / f32(3), f32(0))),
    ("sqrt.rn.f32 %r, %a0;", [f32(2)], f32, np.sqrt(f32(2))),
    ("rsqrt.approx.f32 %r, %a0;", [f32(4)], f32, 0.5),
    ("rcp.approx.ftz.f32 %r, %a0;", [f32(-0.0)], f32, -INF),
    ("ex2.approx.ftz.f32 %r, %a0;", [f32(-3)], f32, 0.125),
    ("lg2.approx.ftz.f32 %r, %a0;", [f32(8)], f32, 3),
    ("abs.f32 %r, %a0;", [f32(-0.0)], f32, 0),
    ("neg.f32 %r, %a0;", [f32(0)], u32, 2**31),
    ("copysign.f32 %r, %a0, %a1;", [f32(-1), f32(3)], f32, -3),
    ("min.f32 %r, %a0, %a1;", [f32(NAN), f32(3)], f32, 3),
    ("max.f32 %r, %a0, %a1;", [f32(3), f32(NAN)], f32, 3),
    ("max.NaN.f32 %r, %a0, %a1;", [f32(3), f32(NAN)], f32, NAN),
    ("min.f32 %r, %a0, %a1;", [f32(0), f32(-0.0)], u32, 2**31),
    ("max.f32 %r, %a0, %a1;", [f32(-0.0), f32(0)], u32, 0),
    ("max.f64 %r, %a0, %a1;", [f64(NAN), f64(NAN)], f64, NAN),
]  # fmt: skip

COMPARISONS = [
    ("eq", 1, 1, True), ("eq", NAN, NAN, False), ("ne", NAN, 1, False), ("neu", NAN, 1, True),
    ("lt", 1, 2, True), ("lt", NAN, 2, False), ("ltu", NAN, 2, True), ("ltu", 3, 2, False),
    ("ge", 2, 2, True), ("geu", NAN, NAN, True), ("num", 1, 2, True), ("num", 1, NAN, False),
    ("nan", 1, NAN, True), ("nan", 1, 2, False), ("gt", INF, 1, True), ("le", -0.0, 0, True),
]  # fmt: skip


COMPARISONS_OF_INTEGERS = [
    ("setp.lt.s32", i32(-1), i32(1), 1),
    ("setp.lt.u32", i32(-1), i32(1), 0),
    ("setp.lo.u32", i32(-1), i32(1), 0),
    ("setp.hs.u32", i32(-1), i32(1), 1),
    ("setp.gt.s64", i64(2**40), i64(-(2**40)), 1),
    ("setp.eq.b32", i32(7), i32(7), 1),
]
JOINED = "setp.lt.s32 %p1, %a0, 5; setp.gt.and.s32 %p2, %a0, 0, !%p1; mov.u32 %r, 1;"
OTHERS = [
    (f"{JOINED} @%p2 add.u32 %r, %r, 2;", [i32(7)], u32, 3),
    (f"{JOINED} @%p2 add.u32 %r, %r, 2;", [i32(3)], u32, 1),
    (f"{JOINED} @!%p2 add.u32 %r, %r, 2;", [i32(3)], u32, 3),
    ("set.lt.u32.f32 %r, %a0, %a1;", [f32(1), f32(2)], u32, 2**32 - 1),
    ("set.lt.f32.f32 %r, %a0, %a1;", [f32(1), f32(2)], f32, 1),
    ("mov.u64 %rd1, table; ld.const.u32 %r, [%rd1+8];", [], u32, 511),
    ("ld.const.u32 %r, [table+4];", [], u32, 2),
    ("""{
        .param .b32 param0;
        st.param.b32 [param0], %a0;
        .param .b32 retval0;
        call.uni (retval0), twice, (param0);
        ld.param.b32 %r, [retval0];
        }""", [u32(21)], u32, 42),
    (""".local .align 8 .b8 depot[16];
        mov.u64 %rd1, depot;
        cvta.local.u64 %rd2, %rd1;
        st.local.v2.u32 [%rd1+8], {%a0, 7};
        ld.u32 %r1, [%rd2+8];
        ld.u32 %r2, [%rd2+12];
        add.u32 %r, %r1, %r2;""", [u32(21)], u32, 28),
    *(
        (f"""choose{i}: .branchtargets zero{i}, one{i};
            brx.idx %a0, choose{i};
            zero{i}:
            mov.u32 %r, 5;
            bra.uni end{i};
            one{i}:
            mov.u32 %r, 6;
            end{i}:""", [u32(i)], u32, 5 + i)
        for i in (0, 1)
    ),
    ("atom.global.add.u32 %r1, [%given], 3; ld.global.u32 %r2, [%given]; sub.u32 %r, %r2, %r1;",
     [], u32, 3),
    ("atom.global.cas.b32 %r1, [%given], 5, 6; ld.global.u32 %r2, [%given]; "
     "setp.eq.u32 %p1, %r1, %r2; selp.u32 %r, 1, 0, %p1;", [], u32, 1),
    ("st.global.f32 [%given], 0f40400000; red.global.max.s32 [%given], 5; "
     "ld.global.f32 %r, [%given];", [], f32, 3),
]  # fmt: skip
CASES = [
    *INSTRUCTIONS,
    *(
        (f"setp.{kind}.f32 %p1|%p2, %a0, %a1; selp.b32 %r1, 1, 0, %p1; selp.b32 %r, 10, %r1, %p2;",
         [f32(a), f32(b)], u32, 1 if wanted else 10)
        for kind, a, b, wanted in COMPARISONS
    ),
    *(
        (f"{opcode} %p1, %a0, %a1; selp.u32 %r, 1, 0, %p1;", [a, b], u32, wanted)
        for opcode, a, b, wanted in COMPARISONS_OF_INTEGERS
    ),
    *OTHERS,
]  # fmt: skip


@pytest.fixture(scope="module")
def results():
    """What every case gives: compiled once, those of float64 apart, as they run in another mode."""
    single = [i for i, case in enumerate(CASES) if "f64" not in case[0]]
    double = [i for i in range(len(CASES)) if i not in single]
    found = {}
    for numbers in (single, double):
        found |= zip(numbers, run(*(CASES[i][:3] for i in numbers)), strict=True)
    return found


@needs_compiler
@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[" ".join(c[0].split())[:60] for c in CASES]
)
def test_instruction(number, results):
    _, _, out, wanted = CASES[number]
    got = np.frombuffer(results[number], out)[0]
    assert np.array_equal(got, np.array(wanted, out), equal_nan=got.dtype.kind == "f")


@pytest.mark.parametrize(
    ("instruction", "what"),
    [
        ("dp4a.u32.u32 %r1, %r2, %r3, %r4;", "dp4a.u32.u32 %r1, %r2, %r3, %r4: this instruction"),
        ("add.f16 %rs1, %rs2, %rs3;", "type 'f16' is not translated"),
        ("bar.sync 1, 64;", "only barrier 0 of all threads"),
        ("call.uni vprintf, (%r1);", "vprintf is not defined here"),
        ("mov.u32 %r1, %clock;", "operand '%clock' is not understood"),
        ("shfl.down.b32 %r1, %r2, 1, 31;", "shuffles without a mask"),
        ("red.global.add.v2.f32 [%rd1], {%f1, %f2};", "this form is not translated"),
        ("cvt.rn.f16.f32 %rs1, %f1;", "this conversion is not translated"),
    ],
)
def test_what_is_not_translated_is_named_with_its_lines(instruction, what):
    text = (
        f"{HEAD}.visible .entry k()\n{{\n{REGISTERS}\n.loc 1 77 5\n{instruction}\nret;\n}}\n"
        '.file 1 "/somewhere/mine.cu"\n'
    )
    line = text[: text.index(instruction)].count("\n") + 1
    with pytest.raises(cudasim.CompileError) as caught:
        ptx.translate(text, "k")
    assert f"PTX line {line}, from mine.cu:77: " in str(caught.value)
    assert what in str(caught.value)


def test_text_that_is_no_ptx_is_named_with_its_line():
    with pytest.raises(ptx.PtxError, match=r"PTX line 4: 'something else;' is not understood"):
        ptx.parse(f"{HEAD}something else;")
    with pytest.raises(ValueError, match="symbol: got 'other', expected one of"):
        ptx.translate(f"{HEAD}.visible .entry k()\n{{\nret;\n}}\n", "other")


def test_shared_arrays_keep_the_names_of_the_source():
    assert source_name("_ZZ4gemmIfEvPKT_S2_PS0_E6a_tile") == "a_tile"
    assert source_name("_ZZ9block_sumIfLi256EET_S0_E4sums_0") == "sums"
    assert source_name("row") == "row"
