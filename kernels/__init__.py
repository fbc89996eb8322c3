"""The kernels: arrays in, arrays out; nothing here knows a Tensor or a gradient graph.

One operator is a pair of files, two readings of one text. The `.py` file reads in this order:

1. the docstring: the formula, index letters, memory order, bytes moved, flops, the rungs from slow
to fast; 2. `<op>_reference`: the definition as plain loops in float64, the oracle of the tests,
never clever; 3. `<op>`: the host function, which allocates, looks at the array's type once and runs
a kernel; 4. `<op>_cpu`: the Numba kernels.

The `.cu` file opens with the same formulas and the rungs of the GPU, and holds `<op>_cuda`, the
twins: the same parameters in the same order, to which CUDA adds sizes and `total`. Faster rungs
stand below, as `<op>_<rung>_cuda`. What several files share is in `_*.h`. `_launch` reads the
parameters from the text, so that a host function names a kernel and its arguments and no C type.

Index letters: `n c y x` for the input, `ky kx` for the window, `out_y out_x` for the output.
Sizes: `height width`, `kernel_h kernel_w`, `out_h out_w`. Memory order is C-contiguous NCHW
throughout. Arrays are float32 or float64, indices int32. Shapes and dtypes are checked by
`minicnn.functional`, once; a kernel trusts what it is given. Backward passes gather: one iteration,
or one thread, owns the elements it writes, so results depend on no order and no number of threads.
"""
