"""Random numbers: one seeded generator behind every choice, with a state that can be saved."""

from __future__ import annotations

from typing import Any

import numpy as np


class Generator:
    """NumPy's PCG64 behind a seed and a state of plain integers, so that a checkpoint can hold it.

    Attributes:
        numpy: the `numpy.random.Generator` to draw arrays from.
    """

    def __init__(self, seed: int = 0):
        self.manual_seed(seed)

    def manual_seed(self, seed: int) -> Generator:
        """Start again from `seed`, a non-negative integer."""
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seed: got {seed!r}, expected an integer of at least 0")
        self.numpy = np.random.Generator(np.random.PCG64(int(seed)))
        return self

    def draw_seed(self) -> int:
        """Draw 64 bits, the seed of one call of a counter-based kernel such as dropout."""
        return int(self.numpy.integers(0, 2**64, dtype=np.uint64))

    def get_state(self) -> dict[str, Any]:
        """Return the state as a dict of strings and integers that JSON can hold."""
        return dict(self.numpy.bit_generator.state)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly where `get_state` was called.

        Raises:
            ValueError: when `state` is not the state of a PCG64 generator.
        """
        try:
            self.numpy.bit_generator.state = state
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"state: not the state of a PCG64 generator ({error})") from error


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Seed the generator that is used wherever none is passed, and return it."""
    return default_generator.manual_seed(seed)
