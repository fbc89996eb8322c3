"""The second route: what NVIDIA's compiler made of a kernel, PTX, translated to C++ and simulated.

The first route gives the kernel's own text to a C++ compiler, so it rests on headers that say what
CUDA C means. Here NVIDIA's front end has read the kernel and its optimiser has worked on it; what
is simulated is that program, with the compiler's own `exp` and `pow`. Where both routes agree,
neither is likely to have misread the kernel.

What the optimiser removed is not seen: a load whose value nobody uses, what follows from undefined
behaviour. Nor is overflow of signed integers, which wrap in PTX, nor an index past one row of a
shared array that stays inside the array. For these the first route is there.
"""

from minicnn.cudasim.ptx.parser import PtxError, parse
from minicnn.cudasim.ptx.translator import Translation, translate

__all__ = ["PtxError", "Translation", "parse", "translate"]
