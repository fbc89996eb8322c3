"""Differentiable functions on Tensors, by family; names and arguments are PyTorch's.

Each family's file holds the Functions (a forward and, right under it, its backward) and then the
public functions, which check their arguments once and apply them. The kernels behind them are in
`minicnn.kernels`.
"""

from minicnn.functional.activation import (
    dropout,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    softmax,
    tanh,
)
from minicnn.functional.arithmetic import abs_ as abs
from minicnn.functional.arithmetic import (
    add,
    cast,
    clamp,
    clone,
    div,
    exp,
    log,
    maximum,
    minimum,
    mul,
    neg,
    pow,
    sqrt,
    sub,
    to_device,
    where,
)
from minicnn.functional.conv import conv2d, conv_transpose2d
from minicnn.functional.detection import batched_nms, nms
from minicnn.functional.linear import linear, matmul
from minicnn.functional.loss import cross_entropy, mse_loss, nll_loss, smooth_l1_loss
from minicnn.functional.norm import batch_norm, local_response_norm
from minicnn.functional.pool import (
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    max_pool2d,
)
from minicnn.functional.reduce import (
    amax,
    amin,
    argmax,
    argmin,
    logsumexp,
    max,
    mean,
    min,
    std,
    sum,
    sum_to,
    var,
)
from minicnn.functional.resize import interpolate
from minicnn.functional.roi import roi_align, roi_pool
from minicnn.functional.shape import (
    cat,
    chunk,
    concatenate,
    expand,
    flatten,
    flip,
    gather,
    getitem,
    one_hot,
    pad,
    permute,
    plain_index,
    reshape,
    split,
    squeeze,
    stack,
    transpose,
    unsqueeze,
)

__all__ = [
    "abs", "adaptive_avg_pool2d", "adaptive_max_pool2d", "add", "amax", "amin", "argmax", "argmin",
    "avg_pool2d", "batch_norm", "batched_nms", "cast", "cat", "chunk", "clamp", "clone",
    "concatenate", "conv2d", "conv_transpose2d", "cross_entropy", "div", "dropout", "exp",
    "expand", "flatten", "flip", "gather", "getitem", "interpolate", "leaky_relu", "linear",
    "local_response_norm", "log", "log_softmax", "logsumexp", "matmul", "max", "max_pool2d",
    "maximum", "mean", "min", "minimum", "mse_loss", "mul", "neg", "nll_loss", "nms", "one_hot",
    "pad", "permute", "plain_index", "pow", "relu", "reshape", "roi_align", "roi_pool", "sigmoid",
    "smooth_l1_loss", "softmax", "split", "sqrt", "squeeze", "stack", "std", "sub", "sum",
    "sum_to", "tanh", "to_device", "transpose", "unsqueeze", "var", "where",
]  # fmt: skip
