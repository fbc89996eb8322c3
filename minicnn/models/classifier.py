"""What every classification network here has in common: images of a stated size in, scores out.

A network says once, in `map_path`, through which of its children a map passes before it becomes a
vector (see `minicnn.models.sizes`). From that follow the sizes of its dense layers, and the layer
that an error names when images are too small.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from minicnn import functional as F
from minicnn import nn
from minicnn.functional._check import integer, pair
from minicnn.models.sizes import Size, smallest_size, track_size
from minicnn.tensor import Tensor


class Classifier(nn.Module):
    """Base of the classification networks.

    Args:
        in_channels: channels of the images.
        num_classes: how many scores to give.
        input_size: height and width of the images, an integer or a pair.

    Attributes:
        input_shape: (in_channels, height, width) of the images that the network is built for.
        num_classes: as given.
        any_size: whether images of other sizes are taken too, as a network that ends in global
            pooling can.
        map_path: names of the children that a map passes through, in their order.

    Raises:
        ValueError: for arguments that are not positive integers.
    """

    any_size = False
    map_path: tuple[str, ...] = ("features",)

    def __init__(self, in_channels: int, num_classes: int, input_size: int | Size):
        super().__init__()
        name = type(self).__name__
        size = pair(name, input_size, "input_size", 1)
        self.input_shape = (integer(name, in_channels, "in_channels", 1), *size)
        self.num_classes = integer(name, num_classes, "num_classes", 1)

    def map_size(self, size: Size | None = None) -> Size:
        """Return the size of the last map, before it becomes a vector.

        Args:
            size: of the images; the network's own if None.

        Raises:
            ValueError: the images are too small for some layer; names it, and what would fit.
        """
        size = self.input_shape[1:] if size is None else size
        try:
            return track_size(self, size)
        except ValueError as error:
            height, width = smallest_size(self)
            raise ValueError(
                f"{type(self).__name__}: images of {size[0]} x {size[1]} are too small: {error}; "
                f"the smallest that fit are {height} x {width}"
            ) from None

    def check_images(self, images: Tensor) -> None:
        """Refuse images that the network does not take.

        Raises:
            ValueError: naming the shape that came, the one expected and the layer that needs it.
        """
        channels, *size = self.input_shape
        height, width = ("height", "width") if self.any_size else size
        expected = f"(N, {channels}, {height}, {width})"
        if images.ndim != 4 or images.shape[1] != channels:
            raise ValueError(
                f"{type(self).__name__}: images have shape {images.shape}, expected {expected}"
            )
        if images.shape[1:] == self.input_shape:
            return
        try:
            height, width = self.map_size((images.shape[2], images.shape[3]))
        except ValueError as error:
            raise ValueError(
                f"{error} (images have shape {images.shape}, expected {expected})"
            ) from None
        if not self.any_size:
            wanted = self.map_size()
            raise ValueError(
                f"{type(self).__name__}: images have shape {images.shape}, expected {expected}; "
                f"they end as maps of {height} x {width}, and the first dense layer is built for "
                f"{wanted[0]} x {wanted[1]}: give images of that size, or build the network with "
                f"input_size=({images.shape[2]}, {images.shape[3]})"
            )

    def notes(self) -> list[str]:
        """Return what a summary of the network should add: sentences, their figures computed."""
        return []

    def loss(self, output: Any, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Return what training makes small: the mean cross-entropy of the scores.

        Args:
            output: what `forward` returned.
            target: (N,) int64 classes.
            label_smoothing: share of the target that is spread over all classes.
        """
        return F.cross_entropy(scores_of(output), target, label_smoothing=label_smoothing)


def scores_of(output: Any) -> Tensor:
    """Return the scores among what a network gave: it, or the first of several."""
    return output if isinstance(output, Tensor) else output[0]


def scaled(channels: int, width: float, divisor: int = 1) -> int:
    """Return a layer's channels in a network `width` times as wide.

    Args:
        channels: in the network as published.
        width: the multiplier, positive.
        divisor: the result is a multiple of it, such as the number of groups.

    Raises:
        ValueError: a width that is not a positive number.
    """
    if isinstance(width, bool) or not isinstance(width, (int, float)) or not 0 < width < 1e4:
        raise ValueError(f"width: got {width!r}, expected a positive number such as 0.5")
    return max(1, round(channels * width / divisor)) * divisor


def variant(text: str, build: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Return a builder with some of its arguments given, described by `text`."""
    builder = partial(build, *args, **options)
    builder.__doc__ = text
    return builder
