"""`minicnn gradcheck`: the table of errors, and a planted one."""

from __future__ import annotations

import numpy as np

from minicnn import opcheck
from minicnn.autograd import Function
from minicnn.tensor import Tensor


class WrongDouble(Function):
    """Twice the input, with a gradient of three."""

    def forward(self, input):
        return 2 * input

    def backward(self, grad_output):
        return 3 * grad_output


def test_chosen_ops_pass(cli):
    code, out, err = cli("gradcheck", "relu", "softmax")
    assert (code, err) == (0, "")
    for name in ("relu", "softmax"):
        line = next(line for line in out.splitlines() if line.split()[:1] == [name])
        assert float(line.split()[1]) < 1e-6
        assert line.split()[-1] == "ok"
    assert out.splitlines()[-1] == "2 of 2 ops passed on cpu"


def test_a_wrong_gradient_is_found_named_and_counted(cli, monkeypatch):
    def case(rng):
        return WrongDouble.apply, [Tensor(rng.normal(size=(2, 3)), requires_grad=True)]

    monkeypatch.setitem(opcheck.OPS, "wrong double", case)
    code, out, err = cli("gradcheck", "relu", "wrong double")
    assert code == 1
    line = next(line for line in out.splitlines() if "wrong double" in line)
    assert line.split()[-1] == "FAILED"
    assert out.splitlines()[-1] == "1 of 2 ops passed on cpu"
    assert err.startswith("wrong double: ")


def test_the_seed_matters(cli):
    first, again, other = (cli("gradcheck", "softmax", "--seed", seed).out for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert np.all([text.count("ok") == 1 for text in (first, other)])
