"""The matrices of Winograd's convolutions, and the same as arithmetic on registers.

A polynomial of degree n - 1 is known from its values at n points. So is a product of polynomials,
whose value at a point is the product of the values there: one multiplication a point. That is the
method of Cook and Toom; the value "at infinity" is the highest coefficient. To convolve is to
multiply polynomials. To slide a filter of r taps along n = m + r - 1 numbers is the transpose of
convolving m numbers with r, and takes the same n multiplications:

    y = A^T [(G g) * (B^T d)]     d: n inputs, g: r taps; y: m outputs, y[i] = sum of d[i + k] g[k]

    G     values at the points, of the polynomial whose coefficients are the taps
    A     values at the points, of a polynomial of m coefficients
    B^T   row i has the coefficients of the polynomial that is zero at every point but the i-th

A factor may move from a row of B^T to the same row of G; here it is such that B^T has few digits.
In two dimensions each matrix is applied to columns and then to rows.

The points are 0, 1, -1, 2, -1/2 and infinity. Thus n = 6: 4 outputs of a filter of 3 taps, or 2
outputs of one of 5, with the same B^T. Bits are lost where numbers of unequal size are added, and
-1/2 instead of the usual -2 keeps the powers small: the largest error is 3 times smaller.

Source: Winograd, "Arithmetic Complexity of Computations", 1980, chapter IV; Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", 2016, section 4.
"""

from __future__ import annotations

import numpy as np

from minicnn.kernels._jit import inline_jit

TILE = 6  # points, and inputs along one axis of a tile

INPUT_MATRIX = np.array(  # B^T
    [
        [1, 1.5, -2, -1.5, 1, 0],
        [0, 1, 2.5, 0.5, -1, 0],
        [0, 1, 0.5, -2.5, 1, 0],
        [0, -1, -2, 1, 2, 0],
        [0, -2, 1, 2, -1, 0],
        [0, 1, 1.5, -2, -1.5, 1],
    ]
)

# G for each number of taps; row i is to be divided by FILTER_DIVISORS[i].
FILTER_DIVISORS = np.array([1.0, 3, 3, 30, 15, 1])
FILTER_MATRICES = {
    3: np.array([[1.0, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [16, -8, 4], [0, 0, 1]]),
    5: np.array(
        [
            [1.0, 0, 0, 0, 0],
            [1, 1, 1, 1, 1],
            [1, -1, 1, -1, 1],
            [1, 2, 4, 8, 16],
            [16, -8, 4, -2, 1],
            [0, 0, 0, 0, 1],
        ]
    ),
}

OUTPUT_MATRICES = {  # A^T for each number of taps
    3: np.array(
        [
            [1, 1, 1, 1, 1, 0],
            [0, 1, -1, 2, -0.5, 0],
            [0, 1, 1, 4, 0.25, 0],
            [0, 1, -1, 8, -0.125, 1],
        ]
    ),
    5: np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -0.5, 1]]),
}

# What follows applies a matrix to one column of registers, by as few operations as it takes.

THIRD, THIRTIETH, FIFTEENTH = 1 / 3, 1 / 30, 1 / 15


@inline_jit
def input_transform(d0, d1, d2, d3, d4, d5):
    """Return B^T d."""
    p = d3 - d1
    q = d4 - d2
    return (
        d0 + d4 - 1.5 * p - 2.0 * d2,
        d1 - d4 + 2.5 * d2 + 0.5 * d3,
        d1 + d4 + 0.5 * d2 - 2.5 * d3,
        p + 2.0 * q,
        2.0 * p - q,
        d1 + d5 - 1.5 * q - 2.0 * d3,
    )


@inline_jit
def filter_transform_3(g0, g1, g2):
    """Return G g of 3 taps."""
    even = THIRD * (g0 + g2)
    odd = THIRD * g1
    return (
        g0,
        even + odd,
        even - odd,
        THIRTIETH * (g0 + 2.0 * g1 + 4.0 * g2),
        FIFTEENTH * (16.0 * g0 - 8.0 * g1 + 4.0 * g2),
        g2,
    )


@inline_jit
def filter_transform_5(g0, g1, g2, g3, g4):
    """Return G g of 5 taps."""
    even = THIRD * (g0 + g2 + g4)
    odd = THIRD * (g1 + g3)
    return (
        g0,
        even + odd,
        even - odd,
        THIRTIETH * (g0 + 2.0 * g1 + 4.0 * g2 + 8.0 * g3 + 16.0 * g4),
        FIFTEENTH * (16.0 * g0 - 8.0 * g1 + 4.0 * g2 - 2.0 * g3 + g4),
        g4,
    )


@inline_jit
def output_transform_4(m0, m1, m2, m3, m4, m5):
    """Return A^T m, 4 outputs."""
    even = m1 + m2
    odd = m1 - m2
    return (
        m0 + even + (m3 + m4),
        odd + 2.0 * m3 - 0.5 * m4,
        even + 4.0 * m3 + 0.25 * m4,
        odd + 8.0 * m3 - 0.125 * m4 + m5,
    )


@inline_jit
def output_transform_2(m0, m1, m2, m3, m4, m5):
    """Return A^T m, 2 outputs."""
    return m0 + (m1 + m2) + (m3 + m4), (m1 - m2) + 2.0 * m3 - 0.5 * m4 + m5


# The transposes, for the gradient of the weight.


@inline_jit
def output_adjoint_4(y0, y1, y2, y3):
    """Return A y of 4 outputs' gradients."""
    even = y0 + y2
    odd = y1 + y3
    return (
        y0,
        even + odd,
        even - odd,
        y0 + 4.0 * y2 + (2.0 * y1 + 8.0 * y3),
        y0 + 0.25 * y2 - (0.5 * y1 + 0.125 * y3),
        y3,
    )


@inline_jit
def output_adjoint_2(y0, y1):
    """Return A y of 2 outputs' gradients."""
    return y0, y0 + y1, y0 - y1, y0 + 2.0 * y1, y0 - 0.5 * y1, y1


@inline_jit
def filter_adjoint_3(u0, u1, u2, u3, u4, u5):
    """Return G^T u, the gradients of 3 taps."""
    even = THIRD * (u1 + u2)
    odd = THIRD * (u1 - u2)
    a = THIRTIETH * u3
    b = FIFTEENTH * u4
    return (
        u0 + even + a + 16.0 * b,
        odd + 2.0 * a - 8.0 * b,
        u5 + even + 4.0 * a + 4.0 * b,
    )


@inline_jit
def filter_adjoint_5(u0, u1, u2, u3, u4, u5):
    """Return G^T u, the gradients of 5 taps."""
    even = THIRD * (u1 + u2)
    odd = THIRD * (u1 - u2)
    a = THIRTIETH * u3
    b = FIFTEENTH * u4
    return (
        u0 + even + a + 16.0 * b,
        odd + 2.0 * a - 8.0 * b,
        even + 4.0 * a + 4.0 * b,
        odd + 8.0 * a - 2.0 * b,
        u5 + even + 16.0 * a + b,
    )
