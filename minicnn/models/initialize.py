"""First values by rule: which parameters of a network are drawn from which distribution.

Rules are data, so that a paper's initialisation stands in one glance beside its layers, and a run's
settings can hold another:

    {"classifier.fc[67].bias": 1.0, "*.bias": 0.0, "*.weight": {"name": "normal", "std": 0.01}}

Patterns are the shell's (`*`, `?`, `[...]`), matched against a parameter's path; the first that
fits counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from minicnn import nn
from minicnn.nn import init
from minicnn.tensor import Tensor

Rule = float | Mapping[str, Any]
Rules = Mapping[str, Rule]

DISTRIBUTIONS: dict[str, Callable[..., Tensor]] = {
    "caffe_xavier": init.caffe_xavier_,
    "kaiming_normal": init.kaiming_normal_,
    "kaiming_uniform": init.kaiming_uniform_,
    "normal": init.normal_,
    "trunc_normal": init.trunc_normal_,
    "uniform": init.uniform_,
    "xavier_normal": init.xavier_normal_,
    "xavier_uniform": init.xavier_uniform_,
}

# He et al. 2015: what keeps the scale through layers of ReLU.
HE: Rules = {"*.bias": 0.0, "*.weight": {"name": "kaiming_normal", "nonlinearity": "relu"}}


def initialize(model: nn.Module, rules: Rules) -> None:
    """Fill the weights and biases of a network's dense and convolution layers by rule.

    Parameters of other layers, such as a batch norm's, and those that no pattern fits keep their
    values. Within `nn.init.skip_init()` nothing happens.

    Args:
        model: the network.
        rules: by pattern a constant, or the name of one of `DISTRIBUTIONS` and its arguments.

    Raises:
        ValueError: an unknown distribution or argument, or a pattern that fits no parameter of
            these layers (one that begins with * may).
    """
    if init.is_skipping():
        return
    weighted = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    parameters = {
        f"{path}.{name}" if path else name: parameter
        for path, layer in model.named_modules()
        if isinstance(layer, weighted)
        for name, parameter in layer.named_parameters(recurse=False)
    }
    for pattern in rules:
        if not pattern.startswith("*") and not any(fnmatchcase(p, pattern) for p in parameters):
            raise ValueError(
                f"init: {pattern!r} fits no weight or bias of this {type(model).__name__}"
            )
    for path, parameter in parameters.items():
        rule = next((rule for pattern, rule in rules.items() if fnmatchcase(path, pattern)), None)
        if rule is not None:
            _fill(parameter, rule, path)


def _fill(parameter: Tensor, rule: Rule, path: str) -> None:
    if isinstance(rule, (int, float)):
        init.constant_(parameter, rule)
        return
    if not isinstance(rule, Mapping) or rule.get("name") not in DISTRIBUTIONS:
        name = rule.get("name") if isinstance(rule, Mapping) else rule
        raise ValueError(
            f"init: {path} has {name!r}, expected a number or one of {', '.join(DISTRIBUTIONS)}"
        )
    arguments = {key: value for key, value in rule.items() if key != "name"}
    try:
        DISTRIBUTIONS[rule["name"]](parameter, **arguments)
    except TypeError as error:
        raise ValueError(f"init: {path}: {error}") from error
