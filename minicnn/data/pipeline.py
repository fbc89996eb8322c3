"""Pipelines of transforms, and how one list of them serves pictures of any size.

A picture of its own size cannot share an array with others. So a pipeline has two stages, told
apart by its transforms themselves: up to the first that fixes the size (a crop, a `Resize`), each
picture goes alone, as a batch of one; what follows sees the whole batch.

    build_transform([
        {"name": "ResizeShortSide", "size": 256}, {"name": "CenterCrop", "size": 256},  # alone
        {"name": "RandomCrop", "size": 227}, "RandomHorizontalFlip",                    # together
    ])

Images that have one size already run as a batch all the way, unless a transform gives each another
size. In the first stage each picture has a generator of its own, seeded by the batch's: what
happens to it depends neither on the others nor on the order of threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn.data import picture_transforms, transforms
from minicnn.data.transforms import Array, Transform


class Compose(Transform):
    """Apply transforms one after the other; `rng` passes from one to the next.

    Args:
        transforms: in the order of their use; none gives the identity.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        self.transforms = list(transforms)
        for transform in self.transforms:
            if not isinstance(transform, Transform):
                raise TypeError(f"transforms: expected Transforms, got {transform!r}")

    def apply(self, images: Array, rng: np.random.Generator) -> Array:
        if len(images) > 1 and any(part.one_by_one for part in self.flat()):
            alone, together = self.stages(len(images), rng)
            pictures = [alone(index, images[index]) for index in range(len(images))]
            return together(join(pictures), rng)
        for transform in self.transforms:
            images = transform(images, rng)
        return images

    def stages(
        self, count: int, rng: np.random.Generator
    ) -> tuple[Callable[[int, Array], Array], Compose]:
        """Split the pipeline for a batch of `count` pictures, which draws their seeds from `rng`.

        Returns:
            A function of (index in the batch, picture (C, H, W)) that gives (1, C, H, W), or
            several views of one picture; and the transforms of the batch.
        """
        parts = self.flat()
        cut = next((i + 1 for i, part in enumerate(parts) if part.fixes_size), len(parts))
        first, rest = Compose(parts[:cut]), Compose(parts[cut:])
        if any(part.one_by_one for part in rest.transforms):
            raise ValueError(
                f"transforms: {rest.transforms!r} would undo the one size that "
                f"{parts[cut - 1]!r} gives"
            )
        seeds = rng.integers(0, 2**63, count)

        def alone(index: int, picture: Array) -> Array:
            return first(picture[np.newaxis], np.random.default_rng(seeds[index]))

        return alone, rest

    def flat(self) -> list[Transform]:
        """Return the transforms, those of inner pipelines among them."""
        parts: list[Transform] = []
        for part in self.transforms:
            parts += part.flat() if isinstance(part, Compose) else [part]
        return parts

    def describe(self) -> dict[str, Any]:
        parts = [transform.describe() for transform in self.transforms]
        return {"name": "Compose", "transforms": parts}


def join(pictures: list[Array]) -> Array:
    """Put batches of one picture together; ValueError when their sizes differ."""
    sizes = sorted({picture.shape[2:] for picture in pictures})
    if len(sizes) > 1:
        raise ValueError(
            f"transforms: pictures of {sizes[0][0]}x{sizes[0][1]} and {sizes[-1][0]}x"
            f"{sizes[-1][1]} cannot share a batch; expected a transform that fixes the size, "
            "such as CenterCrop or RandomResizedCrop"
        )
    return np.concatenate(pictures)


TRANSFORMS: dict[str, type[Transform]] = {
    kind.__name__: kind
    for kind in (
        transforms.CenterCrop,
        picture_transforms.ColorJitter,
        picture_transforms.FiveCrop,
        transforms.Normalize,
        transforms.Pad,
        transforms.PCALighting,
        transforms.RandomCrop,
        transforms.RandomHorizontalFlip,
        picture_transforms.RandomResizedCrop,
        transforms.RandomRotation,
        transforms.RandomShift,
        picture_transforms.RandomShortSide,
        transforms.Resize,
        picture_transforms.ResizeShortSide,
        picture_transforms.SubtractMean,
        picture_transforms.TenCrop,
    )
}


def build_transform(specs: Iterable[str | Mapping[str, Any]]) -> Compose:
    """Make a pipeline from JSON-able descriptions.

        build_transform([{"name": "RandomShift", "max_shift": 2}, "RandomHorizontalFlip"])

    Args:
        specs: names of transforms, or what `describe()` returns: "name" and the arguments.

    Raises:
        ValueError: unknown name, unknown or missing argument, an argument out of its range.
    """
    parts = []
    for spec in specs:
        arguments = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
        name = arguments.pop("name", None)
        if name not in TRANSFORMS:
            raise ValueError(f"transform: expected one of {', '.join(TRANSFORMS)}, got {name!r}")
        kind = TRANSFORMS[name]
        try:
            parts.append(kind(**arguments))
        except TypeError as error:
            signature = f"{name}{inspect.signature(kind)}"
            raise ValueError(f"transform: {error}; expected {signature}") from error
    return Compose(parts)


# Transforms that can be fitted to the training pixels, and the argument that says they are.
FITTED = {"Normalize": "mean", "PCALighting": "eigenvalues", "SubtractMean": "mean"}


def fill_in(
    specs: Iterable[str | Mapping[str, Any]], pixels: Callable[[], NDArray[np.uint8]]
) -> list[dict[str, Any]]:
    """Return descriptions in which whatever depends on the training pixels is a number.

    Args:
        specs: as `build_transform` takes them; "PCALighting" alone, say, has no eigenvalues yet.
        pixels: gives the training pixels, such as `Dataset.sample`; called when needed, once.

    Raises:
        ValueError: an argument that the transform's `fit` does not have.
    """
    known: NDArray[np.uint8] | None = None
    filled = []
    for spec in specs:
        part = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
        name = part.get("name")
        if name in FITTED and FITTED[name] not in part:
            known = pixels() if known is None else known
            options = {key: value for key, value in part.items() if key != "name"}
            fit: Any = TRANSFORMS[name]
            try:
                part = fit.fit(known, **options).describe()
            except TypeError as error:
                raise ValueError(f"transform: {name}: {error}") from error
        filled.append(part)
    return filled


def with_crops(specs: Iterable[str | Mapping[str, Any]], crops: str) -> list[dict[str, Any]]:
    """Return a test pipeline whose last CenterCrop is replaced by several crops of that size.

    Args:
        specs: as `build_transform` takes them.
        crops: "five" (corners and centre) or "ten" (and their mirror images).

    Raises:
        ValueError: another word, or a pipeline without a CenterCrop.
    """
    kinds = {"five": "FiveCrop", "ten": "TenCrop"}
    if crops not in kinds:
        raise ValueError(f"crops: expected one of {', '.join(kinds)}, got {crops!r}")
    parts = [dict(spec) if isinstance(spec, Mapping) else {"name": spec} for spec in specs]
    places = [i for i, part in enumerate(parts) if part.get("name") == "CenterCrop"]
    if not places:
        raise ValueError(
            f"crops: expected test transforms with a CenterCrop for {crops} crops to replace, "
            f"got {', '.join(str(part.get('name')) for part in parts) or 'none'}"
        )
    parts[places[-1]] = {**parts[places[-1]], "name": kinds[crops]}
    return parts
