"""Pickles that want to run something: real attempts, each of which works on Python's own machine.

Every attack makes a file. First it is tried on `pickle`, where the file must appear: an attack that
does not work proves nothing. Then our reader must refuse it, name it, and make no file.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import os
import pickle
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from minicnn.serialization import read_weights
from minicnn.torch_pickle import read_pickle
from tests.torch_files import (
    MACHINE,
    MAGIC,
    VERSION,
    call,
    group,
    mapping,
    name,
    numbers,
    storage,
    tensor,
    text,
    whole,
    write,
)

ROOT = Path(__file__).parents[1]
EXTENSION = 0xF1  # a code for private use
ONE = np.ones(1, np.float32).tobytes()


class Reducing:
    """An object whose pickle calls what it is told to."""

    def __init__(self, function: Callable, *arguments: object):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "executed"


@pytest.fixture(autouse=True)
def extension() -> Iterator[None]:
    """Register os.mkdir under a number, as a program may have."""
    copyreg.add_extension("os", "mkdir", EXTENSION)
    yield
    copyreg.remove_extension("os", "mkdir", EXTENSION)


def memo_trick(path: str) -> bytes:
    """STACK_GLOBAL whose two names are put aside early and come back when all looks sound."""
    return (
        b"\x80\x04" + text("os") + b"q\x07" + text("collections") + text("OrderedDict") + b"\x93"
        + text("mkdir") + b"q\x08" + b"h\x07h\x08\x93" + group(text(path)) + b"R."
    )  # fmt: skip


def attacks(path: str) -> dict[str, tuple[bytes, str]]:
    """Return pickles that make a file or folder at `path`, and what an error must name."""
    code = f"open({path!r}, 'w').close()"
    system = Reducing(os.system, f"echo > {path}")
    target = group(text(path))
    os_module = call("importlib", "import_module", text("os"))
    mkdir = call("builtins", "getattr", os_module, text("mkdir"))
    named = b"\x80\x04" + text("shutil") + text("os.mkdir") + b"\x93"
    hidden = {"state_dict": {}, "optimizer": {"state": [{0: system}]}}
    return {
        "os.system": (pickle.dumps(system, 2), f"{os.system.__module__}.system"),
        "eval": (pickle.dumps(Reducing(eval, code), 2), "__builtin__.eval"),
        "exec": (pickle.dumps(Reducing(exec, code), 4), "builtins.exec"),
        "open": (pickle.dumps(Reducing(open, path, "w"), 2), "io.open"),
        "subprocess": (pickle.dumps(Reducing(subprocess.call, ["mkdir", path]), 4), "subprocess"),
        "a value of a state dict": (pickle.dumps({"w": system}, 2), "system"),
        "where nobody looks": (pickle.dumps(hidden, 4), "system"),
        "protocol 5": (pickle.dumps(Reducing(os.mkdir, path), 5), "mkdir"),
        "getattr": (whole(mkdir + target + b"R"), "builtins.getattr"),
        "the path of an attribute": (named + target + b"R.", "shutil.os.mkdir"),
        "names from the memo": (memo_trick(path), "os.mkdir"),
        "text protocol": (f"cos\nmkdir\n(V{path}\ntR.".encode(), "os.mkdir"),
        "INST": (b"(" + text(path) + b"ios\nmkdir\n.", "INST os.mkdir"),
        "OBJ": (b"(" + name("os", "mkdir") + text(path) + b"o.", "os.mkdir"),
        "thrown away": (whole(call("os", "mkdir", text(path)), b"0", mapping({})), "os.mkdir"),
        "EXT1": (b"\x80\x02\x82" + bytes([EXTENSION]) + target + b"R.", "EXT1"),
        "EXT2": (b"\x80\x02\x83" + bytes([EXTENSION, 0]) + target + b"R.", "EXT2"),
        "EXT4": (b"\x80\x02\x84" + bytes([EXTENSION, 0, 0, 0]) + target + b"R.", "EXT4"),
    }


def forget(marker: Path) -> None:
    """Take away what an attack made."""
    marker.rmdir() if marker.is_dir() else marker.unlink()


@pytest.mark.parametrize("attack", attacks(""))
def test_an_attack_that_works_on_pickle_is_refused_by_name(tmp_path, marker, attack):
    pickled, named = attacks(str(marker))[attack]
    with contextlib.suppress(TypeError):  # a folder or a number is no class to build, but is made
        opened = pickle.loads(pickled)
        if hasattr(opened, "close"):
            opened.close()
    assert marker.exists(), "this attack proves nothing"
    forget(marker)

    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        read_pickle(io.BytesIO(pickled))
    assert "nothing of it was run" in str(caught.value)
    for format in ("zip", "stream"):
        path = write(tmp_path / "weights.pth", pickled, {}, format)
        with pytest.raises(ValueError, match=re.escape(named)) as caught:
            read_weights(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("place", range(5))
def test_every_pickle_of_a_stream_is_read_with_the_same_care(tmp_path, marker, place):
    pickles = [MAGIC, VERSION, MACHINE, whole(mapping({"w": tensor(storage("0", 1), [1], [1])}))]
    pickles.append(whole(b"](" + text("0") + b"e"))
    pickles[place] = whole(call("os", "mkdir", text(str(marker))))
    path = tmp_path / "weights.pth"
    path.write_bytes(b"".join(pickles) + struct.pack("<q", 1) + ONE)
    with pytest.raises(ValueError, match="os.mkdir"):
        read_weights(path)
    assert not marker.exists()


def test_an_attack_beside_sound_tensors_is_refused_too(tmp_path, marker):
    evil = call("os", "mkdir", text(str(marker)))
    items = {"w": tensor(storage("0", 1), [1], [1]), "hooks": evil}
    path = write(tmp_path / "weights.pth", whole(mapping(items)), {"0": ONE}, "zip")
    with pytest.raises(ValueError, match="os.mkdir"):
        read_weights(path)
    as_hooks = call(
        "torch._utils", "_rebuild_tensor_v2",
        storage("0", 1), b"K\x00", numbers([1]), numbers([1]), b"\x89", evil,
    )  # fmt: skip
    path = write(tmp_path / "weights.pth", whole(mapping({"w": as_hooks})), {"0": ONE}, "zip")
    with pytest.raises(ValueError, match="os.mkdir"):
        read_weights(path)
    assert not marker.exists()


def one(stored: bytes) -> bytes:
    """A state dict of one number in a storage."""
    return mapping({"w": tensor(stored, [1], [1])})


PERSISTENT = {
    "a path upwards": (one(storage("../../secret", 1)), "called ../../secret, expected a number"),
    "an absolute path": (one(storage("/etc/passwd", 1)), "called /etc/passwd"),
    "no name": (one(storage("", 1)), "expected a number"),
    "another script's digits": (one(storage("\u0661", 1)), "expected a number"),
    "lines": (one(storage("1\n2", 1)), r"called '1\n2'"),
    "another kind": (one(group(text("module"), *map(text, "abcd")) + b"Q"), "no storage (module)"),
    "no tuple": (one(text("0") + b"Q"), "no storage"),
    "too short": (one(group(text("storage")) + b"Q"), "no storage"),
    "no dtype": (one(group(*map(text, ("storage", "a", "0", "cpu", "1"))) + b"Q"), "no storage"),
    "text form": (one(b"P0\n"), "PERSID 0"),
    "a negative length": (one(storage("0", -1)), "claims -1 elements"),
    "an endless length": (one(storage("0", 2**80)), "claims"),
    "two lengths": (
        mapping({key: tensor(storage("0", n), [1], [1]) for key, n in (("a", 1), ("b", 2))}),
        "described twice",
    ),
    "a part": (one(storage("0", 1, "FloatStorage", group(text("1"), b"K\x00", b"K\x01"))), "part"),
}


@pytest.mark.parametrize("case", PERSISTENT)
def test_only_storages_of_the_file_can_be_referred_to(case):
    instructions, message = PERSISTENT[case]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_pickle(io.BytesIO(whole(instructions)))
    assert "\n" not in str(caught.value)


DICT = call("collections", "OrderedDict")
STORED = storage("0", 6)
BROKEN = {
    "an instruction never needed": (DICT + b")\x81", "NEWOBJ"),
    "the result of a call is called": (DICT + b")R", "calls something"),
    "a storage class is called": (name("torch", "FloatStorage") + b")R", "calls something"),
    "a call without a tuple": (name("collections", "OrderedDict") + b"K\x01R", "calls something"),
    "a function gets a state": (name("torch", "Size") + b"}b", "sets the state"),
    "a list gets an item": (b"]" + text("a") + b"K\x01s", "no dict"),
    "a dict is appended to": (b"}" + text("a") + b"a", "no list"),
    "half an item": (b"}(" + text("a") + b"u", "damaged"),
    "a list for a key": (b"}]K\x01s", "key of type list"),
    "a deep tuple for a key": (b"})" + b"\x85" * 200_000 + b"K\x01s", "key of type tuple"),
    "nothing in the memo": (b"h\x05", "damaged"),
    "nothing on the stack": (b"R", "damaged"),
    "no mark": (b"K\x01t", "damaged"),
    "an unknown instruction": (b"\xfe", "damaged"),
    "a number too few": (tensor(STORED, [2, 3], [1]), "no natural number"),
    "a negative offset": (tensor(STORED, [1], [1], -1), "no natural number"),
    "a negative size": (tensor(STORED, [-1], [1]), "no natural number"),
    "a negative stride": (tensor(STORED, [2], [-1], 5), "no natural number"),
    "text for a size": (
        call("torch._utils", "_rebuild_tensor", STORED, b"K\x00", text("a"), text("b")),
        "no natural number",
    ),
    "beyond the end": (tensor(STORED, [2, 3], [3, 1], 1), "beyond its storage of 24 bytes"),
    "beyond it by stride": (tensor(STORED, [2, 3], [4, 1]), "beyond its storage"),
    "huge": (tensor(STORED, [2**40, 2**40], [0, 0]), "too many elements"),
    "huge and empty": (tensor(STORED, [0, 2**62, 2**62], [1, 1, 1]), "too many elements"),
    "of 65 dimensions": (tensor(STORED, [1] * 65, [1] * 65), "65 dimensions"),
    "of no storage": (tensor(b"}", [1], [1]), "no storage"),
    "of no dtype": (
        call(
            "torch._utils", "_rebuild_tensor_v3",
            STORED, b"K\x00", numbers([1]), numbers([1]), b"\x89", DICT, text("uint16"),
        ),
        "no dtype",
    ),
    "conjugated": (
        tensor(STORED, [1], [1], 0, mapping({"conj": b"\x88"})), "conjugated or negated",
    ),
    "too few arguments": (call("torch._utils", "_rebuild_tensor_v2", STORED), "wrong arguments"),
    "a parameter of text": (call("torch.nn.parameter", "Parameter", text("a")), "no tensor"),
    "a whole network": (name("torch.nn.modules.conv", "Conv2d") + b")R", "whole pickled network"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_makes_no_sense_is_refused(case):
    instructions, message = BROKEN[case]
    with pytest.raises(ValueError, match=message):
        read_pickle(io.BytesIO(whole(instructions)))


def test_whatever_the_bytes_the_answer_is_a_value_or_a_value_error():
    items = {f"layer{i}.weight": tensor(storage(str(i), 6), [2, 3], [3, 1]) for i in range(3)}
    sound = whole(mapping(items))
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        spoilt = bytearray(sound)
        for position in rng.integers(0, len(sound), rng.integers(1, 4)):
            spoilt[position] = rng.integers(0, 256)
        try:
            read_pickle(io.BytesIO(bytes(spoilt)))
        except ValueError:
            refused += 1
    assert refused > 500
    for length in range(len(sound)):
        with pytest.raises(ValueError, match="cut off or damaged"):
            read_pickle(io.BytesIO(sound[:length]))


def test_nothing_that_is_named_is_imported():
    code = (
        "import io, sys\n"
        "from minicnn.torch_pickle import read_pickle\n"
        "for pickled in (b'cantigravity\\nfly\\n.', b'ctorch._utils\\n_rebuild_tensor_v2\\n.'):\n"
        "    try:\n        read_pickle(io.BytesIO(pickled))\n"
        "    except ValueError as error:\n        print(error)\n"
        "assert not {'antigravity', 'torch', 'pickle'} & set(sys.modules) - before\n"
    )
    code = "import io, sys, numpy, pickletools\nbefore = set(sys.modules)\n" + code
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "antigravity.fly" in done.stdout
