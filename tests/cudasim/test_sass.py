"""Reading machine code: loops and instructions of a listing written here, and of a real one."""

from __future__ import annotations

import pytest

from minicnn.cudasim import sass, toolkit
from tests.needs import needs_nvdisasm, needs_nvrtc

# An outer loop around two inner ones; the code ends with a jump to itself and padding.
LISTING = """
	.section	.text._Z5firstv,"ax",@progbits
.text._Z5firstv:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   LDG.E.128.CONSTANT R4, [R2.64] ;
.L_x_1:
        /*0020*/                   LDS.128 R8, [R0] ;
        /*0030*/                   FFMA.FTZ R12, R8, R9, R12 ;
        /*0038*/                   NOP ;
        /*0040*/                   FFMA R13, R8.reuse, R10, R13 ;
        /*0050*/              @!P0 BRA `(.L_x_1) ;
.L_x_2:
        /*0060*/                   LDS R8, [R0] ;
        /*0070*/                   FADD R8, R8, R9 ;
        /*0080*/               @P1 BRA `(.L_x_2) ;
        /*0090*/              @UP1 BRA.U `(.L_x_0) ;
        /*00a0*/                   EXIT ;
.L_x_3:
        /*00b0*/                   BRA `(.L_x_3);
        /*00c0*/                   NOP;
        /*00d0*/                   NOP;

	.section	.text._Z6secondv,"ax",@progbits
.text._Z6secondv:
        /*0000*/                   DFMA R4, R4, R6, R8 ;
        /*0010*/                   EXIT ;
"""


def test_loops_and_shares_of_a_listing():
    found = sass.parse_listing(LISTING)
    assert list(found) == ["_Z5firstv", "_Z6secondv"]
    first = found["_Z5firstv"]
    assert len(first.code.opcodes) == 12  # without padding
    assert [loop.opcodes[0] for loop in first.inner_loops] == ["LDS.128", "LDS"]
    main = first.main_loop
    assert (main.multiply_adds, main.share, main.wide) == (2, 0.5, 1)
    assert main.counts == {"LDS.128": 1, "FFMA": 2, "BRA": 1}
    assert first.code.wide == 2  # the load of 16 bytes from global memory too
    assert first.code.counts["LDG.128"] == 1


def test_a_kernel_without_loops_has_no_main_loop():
    second = sass.parse_listing(LISTING)["_Z6secondv"]
    assert second.inner_loops == ()
    assert second.main_loop is None
    assert second.code.multiply_adds == 1


def test_without_the_tool_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(toolkit, "find_tool", lambda name: None)
    with pytest.raises(sass.NvdisasmNotFoundError, match="pip install nvidia-cuda-nvdisasm"):
        sass.disassemble(b"")


@needs_nvdisasm
def test_what_is_no_machine_code_is_refused():
    with pytest.raises(RuntimeError, match="nvdisasm: "):
        sass.disassemble(b"no machine code")


@needs_nvrtc
@needs_nvdisasm
@pytest.mark.parametrize("arch", [75, 80, 90, 100, 120])
def test_a_real_kernel(arch):
    from minicnn.cudasim import nvrtc

    source = """
    __global__ void dot(const float4* a, const float4* b, float* c, int n) {
        float sum = 0;
    #pragma unroll 1
        for (int i = 0; i < n; ++i) {
            float4 x = a[i], y = b[i];
            sum += x.x * y.x + x.y * y.y + x.z * y.z + x.w * y.w;
        }
        c[threadIdx.x] = sum;
    }
    """
    compiled = nvrtc.compile(source, ["dot"], arch, "cubin")
    listing = sass.disassemble(compiled.code)[compiled.lowered_names["dot"]]
    assert len(listing.inner_loops) == 1
    main = listing.main_loop
    assert main.multiply_adds in (3, 4)  # the first of the four may be a plain product
    assert main.counts["LDG.128"] == main.wide == 2
    assert main.share < 0.5
