"""Freeze a run in one file: arrays as tensors, everything else as JSON in the file's header.

The state is a tree of dicts and lists. Its arrays become tensors named by their path in the tree
(`model/conv1.weight`, `optimizer/state/0/momentum_buffer`); in the JSON a reference stands in their
place. Floats survive exactly: Python writes the shortest text that reads back as the same bits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minicnn.serialization import load_tensors, save_tensors

HEADER = "minicnn.checkpoint"
VERSION = 1
_ARRAY, _INTEGER_KEY = "$array", "#"


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state to a file, atomically.

    Args:
        path: the file, replaced if it exists; on any error the old one stays whole.
        state: dicts with text or integers as keys, lists, arrays, text, numbers, booleans, None.

    Raises:
        TypeError: the state holds something else.
        OSError: the file could not be written.
    """
    arrays: dict[str, np.ndarray] = {}
    tree = {"version": VERSION, "state": _pack(state, "", arrays)}
    save_tensors(path, arrays, {HEADER: json.dumps(tree)})


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read the state that `save_checkpoint` wrote; tuples have become lists.

    Raises:
        ValueError: the file is cut off, damaged, or not a checkpoint of this version of minicnn.
        OSError: it cannot be read.
    """
    arrays, header = load_tensors(path)
    if HEADER not in header:
        raise ValueError(f"{path} is not a checkpoint of minicnn")
    try:
        tree = json.loads(header[HEADER])
        version = tree["version"]
        if version == VERSION:
            return _unpack(tree["state"], arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is a damaged checkpoint: {error!r}") from error
    raise ValueError(f"{path}: got a checkpoint of version {version!r}, expected {VERSION}")


def _pack(node: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return the JSON form of a node, its arrays moved to `arrays`."""
    if isinstance(node, Mapping):
        return {
            _key_text(key): _pack(value, _join(path, key), arrays) for key, value in node.items()
        }
    if isinstance(node, (list, tuple)):
        return [_pack(value, _join(path, index), arrays) for index, value in enumerate(node)]
    if isinstance(node, np.ndarray):
        arrays[path] = node
        return {_ARRAY: path}
    if node is None or isinstance(node, (str, bool, int, float)):
        return node
    raise TypeError(f"checkpoint: {path} is of type {type(node).__name__}, which cannot be stored")


def _unpack(node: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Undo `_pack`."""
    if isinstance(node, dict):
        if set(node) == {_ARRAY}:
            return arrays[node[_ARRAY]]
        return {_text_key(key): _unpack(value, arrays) for key, value in node.items()}
    if isinstance(node, list):
        return [_unpack(value, arrays) for value in node]
    return node


def _join(path: str, key: object) -> str:
    return f"{path}/{key}" if path else str(key)


def _key_text(key: object) -> str:
    """JSON's keys are text; an integer key is marked so that it comes back as one."""
    if isinstance(key, int) and not isinstance(key, bool):
        return f"{_INTEGER_KEY}{key}"
    if isinstance(key, str) and not key.startswith((_ARRAY, _INTEGER_KEY)):
        return key
    raise TypeError(f"checkpoint: the key {key!r} cannot be stored")


def _text_key(text: str) -> str | int:
    return int(text[1:]) if text.startswith(_INTEGER_KEY) else text
