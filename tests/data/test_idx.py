"""The IDX reader against files built by struct, whole and damaged."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from minicnn.data import DataError
from minicnn.data.idx import encode_idx, parse_idx, read_idx

IMAGES = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 1, 2, 3, 250, 251, 252])
LABELS = bytes([0, 0, 8, 1, 0, 0, 0, 4, 7, 2, 1, 0])
PACKED = gzip.compress(IMAGES, mtime=0)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_raw_and_gzipped_files(tmp_path, pack):
    (tmp_path / "images").write_bytes(pack(IMAGES))
    (tmp_path / "labels").write_bytes(pack(LABELS))
    assert read_idx(tmp_path / "images", 3).tolist() == [[[1, 2, 3]], [[250, 251, 252]]]
    assert read_idx(tmp_path / "labels", 1).tolist() == [7, 2, 1, 0]


def test_encode_writes_what_was_read():
    assert encode_idx(parse_idx(IMAGES, "images", 3)) == IMAGES
    assert encode_idx(np.array([7, 2, 1, 0], np.uint8)) == LABELS


@pytest.mark.parametrize(
    ("content", "ndim", "message"),
    [
        (IMAGES[:-1], 3, "cut short: expected 22 bytes, got 21"),
        (IMAGES + b"x", 3, "trailing bytes: expected 22 bytes"),
        (IMAGES[:10], 3, "header of 16 bytes, got 10"),
        (b"", 1, "header of 8 bytes, got 0"),
        (IMAGES, 1, r"expected labels \(magic 2049\), got images \(magic 2051\).*swapped"),
        (LABELS, 3, r"expected images \(magic 2051\), got labels \(magic 2049\).*swapped"),
        (b"<!DOCTYPE html>" * 9, 3, "magic 2051, got 1008813135"),
        (PACKED[:-3], 3, "damaged or cut gzip"),
        (PACKED[:20], 3, "damaged or cut gzip"),
        (PACKED + b"more", 3, "damaged or cut gzip"),
        (PACKED[:3] + b"xxx" + PACKED[6:-8] + bytes(8), 3, "gzip"),
    ],
)
def test_damaged_files_are_named_with_what_is_wrong(tmp_path, content, ndim, message):
    path = tmp_path / "the-file"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, ndim)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unreadable_path(tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot be read"):
        read_idx(tmp_path / "nowhere", 1)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path, 1)


def test_expected_shape():
    with pytest.raises(DataError, match=r"labels: expected shape \(5,\), got \(4,\)"):
        parse_idx(LABELS, "labels", 1, (5,))


def test_a_header_cannot_ask_for_memory(tmp_path):
    huge = bytes([0, 0, 8, 3]) + b"\xff" * 12
    with pytest.raises(DataError, match="cut short"):
        parse_idx(huge, "huge", 3)
