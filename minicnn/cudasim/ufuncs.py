"""Functions applied element by element: NumPy's under CuPy's rules, each an instance of `ufunc`."""

from __future__ import annotations

from typing import Any

import numpy as np

from minicnn.cudasim.array import call, ndarray
from minicnn.cudasim.creation import asarray

# What atomics can do on a GPU, and so which dtypes `ufunc.at` takes.
_AT_DTYPES = {
    "add": "int32, float16, float32, float64, uint32, uint64",
    "subtract": "int32, uint32",
    "maximum": "int32, float32, float64, uint32, uint64",
    "minimum": "int32, float32, float64, uint32, uint64",
    "bitwise_and": "int32, int64, uint32, uint64",
    "bitwise_or": "int32, int64, uint32, uint64",
    "bitwise_xor": "int32, int64, uint32, uint64",
}


class ufunc:
    """A function of each element of one or two arrays, broadcast together.

    Args:
        name: of NumPy's and CuPy's function.

    Attributes:
        nin, nout, nargs: the numbers of inputs, of outputs, and of both.
    """

    __slots__ = ("__name__", "_numpy", "nargs", "nin", "nout")

    def __init__(self, name: str):
        self.__name__ = name
        self._numpy: np.ufunc = getattr(np, name)
        self.nin, self.nout = self._numpy.nin, self._numpy.nout
        self.nargs = self.nin + self.nout

    def __repr__(self) -> str:
        return f"<ufunc {self.__name__!r}>"

    def __call__(
        self, *args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind"
    ) -> Any:
        """Return the function of device arrays and numbers.

        Args:
            args: the inputs, and after them perhaps the output.
            out: the array to write to, if not among `args`.
            dtype: of the computation and the result.
            casting: what NumPy may convert on the way.

        Raises:
            TypeError: for NumPy arrays or a wrong number of arguments.
        """
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(
                f"Wrong number of arguments for {self.__name__!r}. It must be either {self.nin} "
                f"or {self.nargs} (with outputs), but given {len(args)}."
            )
        if len(args) > self.nin:
            if out is not None:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            out = args[self.nin]
        inputs = args[: self.nin]
        return call(self._numpy, *inputs, out=out, dtype=dtype, casting=casting)

    def at(self, a: ndarray, indices: Any, b: Any = None) -> None:
        """Apply the function in place to a[indices] and b, also where indices come repeatedly.

        Raises:
            NotImplementedError: when CuPy has no such method.
            TypeError: for a dtype that GPUs have no atomic operation for.
        """
        name = self.__name__
        if name not in _AT_DTYPES:
            raise NotImplementedError(f"`cupy_{name}.at` is not supported yet")
        if not isinstance(a, ndarray):
            raise TypeError(f"Unsupported type {type(a)}")
        if a.dtype.name not in _AT_DTYPES[name].split(", "):
            raise TypeError(f"cupy.{name}.at only supports {_AT_DTYPES[name]}, as data type")
        a._scatter(self._numpy, indices, b)

    def reduce(
        self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None,
        keepdims: bool = False,
    ) -> ndarray:  # fmt: skip
        """Sum or multiply along an axis; the other functions have no such method."""
        method = {"add": "sum", "multiply": "prod"}.get(self.__name__)
        if method is None:
            raise NotImplementedError(f"`cupy_{self.__name__}.reduce` is not supported yet")
        return getattr(array, method)(axis, dtype, out, keepdims)

    def accumulate(
        self, array: ndarray, axis: Any = 0, dtype: Any = None, out: Any = None
    ) -> ndarray:
        """Return running sums or products; the other functions have no such method."""
        method = {"add": "cumsum", "multiply": "cumprod"}.get(self.__name__)
        if method is None:
            raise NotImplementedError(f"`cupy_{self.__name__}.accumulate` is not supported yet")
        return getattr(array, method)(axis, dtype, out)

    def outer(self, A: Any, B: Any, **kwargs: Any) -> ndarray:
        """Apply the function to all pairs of an element of A and one of B."""
        a, b = asarray(A), asarray(B)
        return self(a.reshape(a.shape + (1,) * b.ndim), b, **kwargs)


absolute = ufunc("absolute")
abs = absolute
add = ufunc("add")
arccos = ufunc("arccos")
arcsin = ufunc("arcsin")
arctan = ufunc("arctan")
arctan2 = ufunc("arctan2")
bitwise_and = ufunc("bitwise_and")
bitwise_or = ufunc("bitwise_or")
bitwise_xor = ufunc("bitwise_xor")
cbrt = ufunc("cbrt")
ceil = ufunc("ceil")
copysign = ufunc("copysign")
cos = ufunc("cos")
cosh = ufunc("cosh")
equal = ufunc("equal")
exp = ufunc("exp")
exp2 = ufunc("exp2")
expm1 = ufunc("expm1")
floor = ufunc("floor")
floor_divide = ufunc("floor_divide")
fmax = ufunc("fmax")
fmin = ufunc("fmin")
greater = ufunc("greater")
greater_equal = ufunc("greater_equal")
hypot = ufunc("hypot")
invert = ufunc("invert")
bitwise_not = invert
isfinite = ufunc("isfinite")
isinf = ufunc("isinf")
isnan = ufunc("isnan")
left_shift = ufunc("left_shift")
less = ufunc("less")
less_equal = ufunc("less_equal")
log = ufunc("log")
log10 = ufunc("log10")
log1p = ufunc("log1p")
log2 = ufunc("log2")
logaddexp = ufunc("logaddexp")
logical_and = ufunc("logical_and")
logical_not = ufunc("logical_not")
logical_or = ufunc("logical_or")
logical_xor = ufunc("logical_xor")
maximum = ufunc("maximum")
minimum = ufunc("minimum")
multiply = ufunc("multiply")
negative = ufunc("negative")
not_equal = ufunc("not_equal")
positive = ufunc("positive")
power = ufunc("power")
reciprocal = ufunc("reciprocal")
remainder = ufunc("remainder")
mod = remainder
right_shift = ufunc("right_shift")
rint = ufunc("rint")
sign = ufunc("sign")
signbit = ufunc("signbit")
sin = ufunc("sin")
sinh = ufunc("sinh")
sqrt = ufunc("sqrt")
square = ufunc("square")
subtract = ufunc("subtract")
tan = ufunc("tan")
tanh = ufunc("tanh")
true_divide = ufunc("true_divide")
divide = true_divide
trunc = ufunc("trunc")
