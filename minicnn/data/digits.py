"""The 8 x 8 digits that scikit-learn knows: a set that ships with the package and needs nothing.

1,797 digits by 13 writers, scanned at 32 x 32. Each pixel counts the ink in a block of 4 x 4, 0 to
16, and is scaled here to 0 to 255 (rounded). The split is fixed and keeps the order of the file:
the first 1,437 rows are the training images, the last 360 the test images.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0; the file is the test part of
that set (optdigits.tes), as scikit-learn distributes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minicnn.data.dataset import Dataset

TRAIN_SIZE = 1437


def load_digits() -> tuple[Dataset, Dataset]:
    """Return (train, test): (1437, 1, 8, 8) and (360, 1, 8, 8) images, classes "0" to "9"."""
    path = Path(__file__).with_name("digits.csv.gz")
    table = np.loadtxt(path, dtype=np.uint8, delimiter=",")
    ink, labels = table[:, :64], table[:, 64]
    images = np.rint(ink * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    digits = Dataset(images, labels, tuple("0123456789"), "digits")
    return digits.subset(slice(TRAIN_SIZE)), digits.subset(slice(TRAIN_SIZE, None))
