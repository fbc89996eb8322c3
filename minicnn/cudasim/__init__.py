"""CUDA kernels without a GPU: a look-alike of CuPy that runs, and checks, `.cu` files on the CPU.

    import numpy as np
    import minicnn.cudasim as cudasim

    module = cudasim.RawModule(code=text, name_expressions=["scale<float>"])
    scale = module.get_function("scale<float>")
    x = cudasim.asarray(np.arange(1000, dtype=np.float32))
    with cudasim.settings(mode="check"):
        scale((4,), (256,), (x, np.float32(2), np.int32(1000)))
    x.get()

Arrays, functions and launches have CuPy's names and refuse what CuPy refuses, so that the same
Python runs on a GPU by another import. `settings` chooses how kernels run:

    fast     as fast as the CPU allows; an access far outside an array is an error
    check    every access is watched: out of bounds, races, uninitialised reads, barriers and
             shuffles that not all threads reach, misalignment, overflow, each with file and line
    profile  every access is counted: sectors a request, bank conflicts, bytes

and in which order threads run, since a race often shows in one order only. The package needs NumPy
and, to run kernels, g++ or clang++ on the PATH; it uses nothing else of minicnn.

What a silent check does not prove:

- Time, caches, occupancy, warps in lock-step, the driver and the last stage of NVIDIA's compiler
  are not simulated; the figures of profile are counts, never times.
- The race test knows barriers, `__syncwarp`, atomics and the end of a launch. An atomic ticket with
  `__threadfence` ("the last block does the rest"), and several threads writing the same value, are
  reported as races although a GPU may run them rightly: use two launches, or one thread.
- `__activemask()`, synchronisation of the whole grid, overlapping streams, textures and launches
  from kernels are not modelled.
- Route "shim" uses the C library's mathematics and has exact `__expf`; a GPU may differ by 2 units
  in the last place, and by about 1e-6 of the value for the fast intrinsics.
- An index that stays inside the right array but means the wrong element shows in the numbers only.
- Of each word two readers are remembered: the list of races may be incomplete, while the verdict
  that there is one is right for code whose threads meet at barriers alone.
"""
