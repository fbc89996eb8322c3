"""CuPy's way to kernels: RawModule compiles a text, its functions launch grids on the simulator.

    module = RawModule(code=text, options=("-DTILE=64",), name_expressions=["gemm<float>"])
    gemm = module.get_function("gemm<float>")
    gemm((blocks,), (threads,), (a, b, c, np.int32(n)), shared_mem=0)

A kernel is compiled when it is first launched, for each mode and route by itself, and kept on disk.
Arguments are checked against the kernel's own signature, which CuPy cannot do: it passes a Python
float as eight bytes and an array of the wrong dtype as a pointer like any other.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from minicnn.cudasim import build, profiling, rewrite
from minicnn.cudasim.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CompileError,
    Finding,
    SimulationError,
)
from minicnn.cudasim.explain import Launched, explain
from minicnn.cudasim.library import RawFinding, runtime
from minicnn.cudasim.settings import MODES, ORDERS, Settings, get_settings
from minicnn.cudasim.signature import Signature

STATIC_SHARED_LIMIT = 48 << 10  # of any GPU, without asking for more
DYNAMIC_SHARED_LIMIT = 163 << 10  # of an A100, on request
MAX_THREADS = 1024
MAX_BLOCK_DEPTH = 64  # in z
MAX_GRID = (2**31 - 1, 65535, 65535)
MOST_FINDINGS = 64


@dataclass(frozen=True)
class _Compiled:
    """A kernel ready to run, in one mode and route."""

    library: Path
    handle: ctypes.CDLL
    address: int | None
    code_range: Any
    launch_bound: int


class RawModule:
    """CUDA C from which kernels are fetched; `cupy.RawModule`'s look-alike.

    Args:
        code: the text; `#line` directives in it are honoured when lines are shown.
        path: the file to read instead; with both, only the name that lines are shown with.
        options: as of NVIDIA's compiler; -D, -U, -I, --std and -ftz matter here.
        name_expressions: the instantiations of templates, and plain C++ kernels, to fetch.
        backend, translate_cucomplex, enable_cooperative_groups, jitify: accepted, of no effect.

    Raises:
        CompileError: the text holds what cannot be simulated.
    """

    def __init__(
        self,
        code: str | None = None,
        *,
        path: str | Path | None = None,
        options: Sequence[str] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Sequence[str] | None = None,
        jitify: bool = False,
    ):
        if code is None and path is None:
            raise TypeError("RawModule: expected code or path, got neither")
        if isinstance(options, str):
            raise TypeError(f"options: got the string {options!r}, expected a tuple of strings")
        if code is None:
            code = Path(str(path)).read_text(encoding="utf-8")
        self.code = code
        self.options = tuple(options)
        self.file_path = None if path is None else str(path)
        self.name_expressions = tuple(name_expressions or ())
        self._name = Path(str(path)).name if path else "kernel.cu"
        folders = [option[2:] for option in self._compiler_options() if option.startswith("-I")]
        if path:
            folders.insert(0, str(Path(str(path)).parent))
        self._folders = tuple(folders)
        self._source = rewrite.read(code, self._name, self._folders)
        self._functions: dict[str, Function] = {}

    @property
    def kernels(self) -> dict[str, rewrite.KernelText]:
        """The kernels that the text declares, by name."""
        return self._source.kernels

    def get_function(self, name: str) -> Function:
        """Return a kernel: of extern "C" by its name, any other by one of the name expressions.

        Raises:
            ValueError: there is no such kernel, or CuPy would not find it by this name.
        """
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = Function(self, name, self._declared(name))
        return function

    def compile(self, log_stream: Any = None) -> None:
        """Compile every kernel that can be fetched, which otherwise happens at its first launch."""
        plain = [name for name, kernel in self.kernels.items() if kernel.extern_c]
        for name in (*self.name_expressions, *plain):
            self.get_function(name).compile()

    def _declared(self, name: str) -> rewrite.KernelText:
        base = re.match(r"\s*(?:\w+::)*(\w*)", name)
        kernel = self.kernels.get(base[1]) if base else None
        if kernel is None:
            known = ", ".join(self.kernels) or "none"
            raise ValueError(f"{self._name} has no kernel {name}; it has {known}")
        if name not in self.name_expressions and not kernel.extern_c:
            what = "is a template" if kernel.template is not None else 'is not extern "C"'
            raise ValueError(
                f"{name}: kernel {kernel.name} {what}, so that CuPy finds it only if "
                f"name_expressions holds {name!r}; got {list(self.name_expressions)}"
            )
        return kernel

    def _compiler_options(self) -> list[str]:
        """Return the options that mean something to a C++ compiler, in its own spelling."""
        kept, options = [], list(self.options)
        for i, option in enumerate(options):
            option = re.sub(r"^--define-macro=", "-D", option)
            option = re.sub(r"^--include-path=", "-I", option)
            if option in ("-D", "-I", "-U") and i + 1 < len(options):
                kept.append(option + options[i + 1])
            elif option[:2] in ("-D", "-I", "-U"):
                kept.append(option)
            elif (match := re.match(r"--?std=c\+\+(\d+)$", option)) and int(match[1]) >= 17:
                kept.append(f"-std=c++{match[1]}")
        return kept

    @property
    def _flushes(self) -> bool:
        return not any(o in ("-ftz=false", "--ftz=false") for o in self.options)


def RawKernel(code: str, name: str, options: Sequence[str] = (), **others: Any) -> Function:
    """Return one kernel of a text; `cupy.RawKernel`'s look-alike. See RawModule."""
    return RawModule(code, options=options, **others).get_function(name)


class Function:
    """A kernel that can be launched.

    Attributes:
        name: the name or expression it was fetched by.
    """

    def __init__(self, module: RawModule, name: str, declared: rewrite.KernelText):
        self.name = name
        self._module = module
        self._declared = declared
        self._most_dynamic = STATIC_SHARED_LIMIT
        self._compiled: dict[tuple[bool, str], _Compiled] = {}
        self._signature: Signature | None = None
        self._launched: dict[tuple[bool, str], Launched] = {}

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        """The most dynamic shared memory a launch may ask for; raise it above 48 KiB here."""
        return self._most_dynamic

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, value: int) -> None:
        if not 0 <= value <= DYNAMIC_SHARED_LIMIT:
            raise ValueError(
                f"max_dynamic_shared_size_bytes: got {value}, expected 0 to {DYNAMIC_SHARED_LIMIT}"
            )
        self._most_dynamic = int(value)

    @property
    def max_threads_per_block(self) -> int:
        """The most threads a block may have."""
        return self._ready("shim", False).launch_bound or MAX_THREADS

    def compile(self, route: str | None = None, mode: str | None = None) -> None:
        """Compile for a route and a mode, by default those of the settings."""
        settings = get_settings()
        self._ready(route or settings.route, (mode or settings.mode) != "fast")

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        shared_mem: int = 0,
        *,
        stream: Any = None,
    ) -> None:
        """Run a grid of blocks to its end.

        Args:
            grid: blocks in x, y and z; those left out are 1.
            block: threads of a block, likewise.
            args: device arrays for pointers (None for a null pointer), NumPy scalars for numbers.
            shared_mem: bytes of dynamic shared memory.
            stream: accepted, of no effect: a launch ends before the call returns.

        Raises:
            SimulationError: what the kernel did wrong, or a limit that a GPU has.
            ArgumentTypeError, ArgumentValueError: arguments that do not fit the kernel.
        """
        settings = get_settings()
        signature = self._signature or self._read_signature()
        arguments = signature.pack(args)
        compiled = self._ready(settings.route, settings.mode != "fast")
        grid_sizes = self._sizes("grid", grid)
        block_sizes = self._sizes("block", block)
        self._check_limits(grid_sizes, block_sizes, shared_mem, compiled.launch_bound)
        profile = profiling.active() if settings.mode == "profile" else None
        every = profile.every(grid_sizes) if profile else 1
        status = runtime().cudasim_launch(
            compiled.address,
            arguments,
            len(args),
            signature.pointers,
            signature.written,
            compiled.code_range,
            grid_sizes,
            block_sizes,
            shared_mem,
            self._shared_limit(shared_mem),
            MODES.index(settings.mode),
            ORDERS.index(settings.order),
            settings.seed,
            settings.threads,
            signature.flush and self._module._flushes,
            every,
        )
        if status:
            self._report(status, settings, grid_sizes, block_sizes)
        if profile:
            profile.add(self._launch_facts(settings), grid_sizes, block_sizes, every)

    # Compiling -------------------------------------------------------------------------------

    def _ready(self, route: str, checked: bool) -> _Compiled:
        key = (checked, route)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = self._compile(route, checked)
        return compiled

    def _compile(self, route: str, checked: bool) -> _Compiled:
        runtime()
        try:
            text, flags = self._program(route, checked)
            library = build.build(text, flags, f"kernel-{self._declared.name}")
        except CompileError as error:
            message = self._module._source.in_files(str(error), build.SOURCE_NAME)
            raise CompileError(f"{self.name} does not compile:\n{message}") from None
        handle = ctypes.CDLL(str(library))
        address = ctypes.cast(handle.cudasim_kernel, ctypes.c_void_p).value
        code_range = (ctypes.c_size_t * 2)()
        step = ctypes.sizeof(ctypes.c_size_t)
        begin = ctypes.addressof(code_range)
        runtime().cudasim_code_range(address, begin, begin + step)
        bound = ctypes.c_int.in_dll(handle, "cudasim_launch_bound").value
        return _Compiled(library, handle, address, code_range, bound)

    def _program(self, route: str, checked: bool) -> tuple[str, Sequence[str]]:
        """Return C++ for the kernel, and the flags to compile it with."""
        module = self._module
        flags = build.CHECKED_FLAGS if checked else build.FAST_FLAGS
        options = module._compiler_options()
        if route == "ptx":
            return self._translated(checked)
        source = module._source
        if build.is_clang(build.compiler()):
            source = rewrite.read(module.code, module._name, module._folders, clang=True)
        # A bound that depends on the template's parameters has no value here.
        bound = self._declared.launch_bound or "0"
        if any(re.search(rf"\b{name}\b", bound) for name in self._declared.template or ()):
            bound = "0"
        text = (
            f'#include "cuda_shim.h"\n{source.text}#line 1 "cudasim_stub"\n'
            f"CUDASIM_EXPORT({self.name})\n"
            'extern "C" __attribute__((visibility("default"))) '
            f"const int cudasim_launch_bound = {bound};\n"
        )
        return text, [*flags, *options]

    def _translated(self, checked: bool) -> tuple[str, Sequence[str]]:
        """Return C++ for what NVIDIA's compiler makes of the kernel."""
        from minicnn.cudasim import nvrtc, ptx

        module = self._module
        options = [o for o in module._compiler_options() if o[:2] in ("-D", "-U")]
        compiled = nvrtc.compile(module._source.plain, [self.name], options=options)
        translation = ptx.translate(compiled.text, compiled.lowered_names[self.name])
        # PTX says itself where a product and a sum are rounded together.
        flags = [
            *build.FAST_FLAGS,
            "-ffp-contract=off",
            *(["-DCUDASIM_WATCHED"] if checked else []),
        ]
        return translation.source, flags

    def _read_signature(self) -> Signature:
        """Ask the compiled kernel for the types of its parameters; those of route "shim" know."""
        checked = (True, "shim") in self._compiled or get_settings().mode != "fast"
        out = ctypes.create_string_buffer(1024)
        self._ready("shim", checked).handle.cudasim_signature(out)
        types = [part for part in out.value.decode().split(",") if part]
        self._signature = Signature(self.name, types, self._declared.parameters)
        return self._signature

    # Launching -------------------------------------------------------------------------------

    def _sizes(self, what: str, sizes: Sequence[int]) -> Any:
        if type(sizes) is not tuple:
            kind = type(sizes).__name__
            raise ArgumentTypeError(f"{self.name}: {what} is a {kind}, expected a tuple")
        try:
            return _size_array(sizes)
        except (TypeError, ValueError):
            raise ArgumentValueError(
                f"{self.name}: {what} is {sizes}, expected one to three integers"
            ) from None

    def _check_limits(self, grid: Any, block: Any, shared_mem: int, launch_bound: int) -> None:
        threads = block[0] * block[1] * block[2]
        most = launch_bound or MAX_THREADS
        if threads > most or block[2] > MAX_BLOCK_DEPTH:
            bound = f"__launch_bounds__ allows {most}" if launch_bound else f"a GPU runs {most}"
            raise self._over_limit(
                f"the block {tuple(block)} has {threads} threads, and {bound}, "
                f"{MAX_BLOCK_DEPTH} in z"
            )
        if any(size > limit for size, limit in zip(grid, MAX_GRID, strict=True)):
            raise self._over_limit(f"the grid is {tuple(grid)}, and a GPU runs at most {MAX_GRID}")
        if shared_mem > self._most_dynamic:
            raise self._over_limit(
                f"shared_mem is {shared_mem} bytes, and max_dynamic_shared_size_bytes is "
                f"{self._most_dynamic}"
            )

    def _over_limit(self, what: str) -> SimulationError:
        line = self._declared.line
        file, number = self._module._source.place(line)
        message = f"limit: {what}\n  at {file}:{number}, kernel {self.name}"
        finding = Finding("limit", message, file, number)
        return SimulationError(message, [finding])

    def _shared_limit(self, shared_mem: int) -> int:
        if self._most_dynamic > STATIC_SHARED_LIMIT:
            return DYNAMIC_SHARED_LIMIT
        return STATIC_SHARED_LIMIT

    def _launch_facts(self, settings: Settings) -> Launched:
        key = (settings.mode != "fast", settings.route)
        if key not in self._launched:
            assert self._signature is not None
            self._launched[key] = Launched(
                self.name,
                self._module._source,
                self._compiled[key].library,
                self._signature.names,
                self._signature.types,
            )
        return self._launched[key]

    def _report(self, status: int, settings: Settings, grid: Any, block: Any) -> None:
        """Show what the kernel printed; raise what was found."""
        if status >> 16:
            printed = ctypes.create_string_buffer(1 << 20)
            length = runtime().cudasim_take_printed(printed, len(printed))
            sys.stdout.write(printed.raw[:length].decode(errors="replace"))
        if not status & 0xFFFF:
            return
        raw = (RawFinding * MOST_FINDINGS)()
        count = runtime().cudasim_take_findings(raw, MOST_FINDINGS)
        findings = explain(raw[:count], self._launch_facts(settings))
        head = (
            f"kernel {self.name}, grid {tuple(grid)}, block {tuple(block)}: "
            f"{count} finding{'s' if count > 1 else ''}"
        )
        raise SimulationError("\n\n".join([head, *(f.message for f in findings)]), findings)


@cache
def _size_array(sizes: tuple[int, ...]) -> Any:
    """Return three sizes for C. CuPy raises a 0 to 1, so that an empty grid runs one block."""
    if not 1 <= len(sizes) <= 3:
        raise ValueError
    whole = [max(1, int(size)) for size in (*sizes, 1, 1)[:3]]
    if any(int(size) != size or size < 0 for size in sizes):
        raise ValueError
    return (ctypes.c_uint * 3)(*whole)
