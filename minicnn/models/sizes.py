"""How large the maps are: the layers' output-size formulas, followed through a network.

Nothing is computed on: a network knows its sizes when it is built, and a layer whose window is
larger than its map is named before a single image came.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from minicnn import nn
from minicnn.functional._check import pair
from minicnn.kernels.im2col import output_size
from minicnn.kernels.pool import pool_output_size

Size = tuple[int, int]

_WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
_ADAPTIVE = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
LARGEST = 4096


def track_size(module: nn.Module, size: Size, path: str = "") -> Size:
    """Return the size of the map that `module` makes of one of `size`.

    A layer with a window follows its formula. A Sequential passes the map from child to child, a
    module with an attribute `map_path` through the children named there. Whatever else comes
    leaves the size as it is.

    Args:
        module: a module on maps (N, C, H, W).
        size: (height, width).
        path: what to call the module in messages.

    Raises:
        ValueError: a window that does not fit; names its layer and the map that it gets.
    """
    if isinstance(module, _ADAPTIVE):
        wanted = module.output_size
        sides = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        return sides[0] or size[0], sides[1] or size[1]
    if isinstance(module, _WINDOWED):
        height, width = (_windows(module, axis, size[axis]) for axis in (0, 1))
        if min(height, width) < 1:
            least = [next(n for n in count(1) if _windows(module, axis, n) > 0) for axis in (0, 1)]
            raise ValueError(
                f"{path or 'it'} ({type(module).__name__}) needs a map of at least "
                f"{least[0]} x {least[1]} and gets {size[0]} x {size[1]}"
            )
        return height, width
    for name, child in _passed(module):
        size = track_size(child, size, f"{path}.{name}" if path else name)
    return size


def smallest_size(module: nn.Module) -> Size:
    """Return the smallest square images whose maps fit all layers.

    Raises:
        ValueError: none of up to 4096 x 4096 does.
    """
    for side in range(1, LARGEST + 1):
        try:
            track_size(module, (side, side))
        except ValueError:
            continue
        return side, side
    raise ValueError(f"{type(module).__name__}: no image of up to {LARGEST} x {LARGEST} fits")


def _passed(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children that a map passes through, one after the other."""
    if isinstance(module, nn.Sequential):
        yield from module.named_children()
    else:
        for name in getattr(module, "map_path", ()):
            yield name, getattr(module, name)


def _windows(layer: nn.Module, axis: int, side: int) -> int:
    """Return how many windows of a layer lie along an axis (0 vertical) of `side` pixels."""
    kernel, stride, dilation = (
        pair("track_size", getattr(layer, key, 1), key, 1)[axis]
        for key in ("kernel_size", "stride", "dilation")
    )
    if layer.padding == "same":
        return side
    padding = pair("track_size", 0 if layer.padding == "valid" else layer.padding, "padding", 0)
    if isinstance(layer, nn.Conv2d):
        return output_size(side, kernel, stride, padding[axis], dilation)
    return pool_output_size(side, kernel, stride, padding[axis], dilation, layer.ceil_mode)
