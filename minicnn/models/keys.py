"""Names of weights that have changed since a file was written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

# torchvision's files of DenseNet are from before its layers lost a dot: norm.1 became norm1.
_OLD_DENSENET = re.compile(r"(.*\bdenselayer\d+\.(?:norm|conv))\.([12]\.\w+)")


def modern_keys(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Return a state dict under the names that networks use today.

    Only names of old DenseNet files change, `...denselayer1.norm.1.weight` for one: no network has
    such names today, so nothing else can be meant.

    Raises:
        ValueError: two keys would have one name.
    """
    renamed = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state_dict.items()}
    if len(renamed) != len(state_dict):
        raise ValueError("state_dict: some weights are there twice, under an old and a new name")
    return renamed
