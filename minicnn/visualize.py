"""What a network sees in a picture: the maps of its layers, and where it looks for a class.

A class activation map adds the last maps f_k up, each times what the class takes from it:

    CAM(y, x) = sum_k w_k f_k(y, x)                                        (Zhou et al., section 2)

which needs a network that ends in global average pooling and one dense layer w, or in the pooling
alone, whose maps are the classes' own. Grad-CAM takes the mean gradient of the class's score s in
the place of w, so that it is there for every network, and keeps what speaks for the class:

    alpha_k = mean over (y, x) of ds/df_k(y, x)
    GradCAM(y, x) = max(0, sum_k alpha_k f_k(y, x))                   (Selvaraju et al., section 3)

Where CAM exists, alpha_k = w_k / (H W), so that GradCAM = max(0, CAM) / (H W).

Source: Zhou, Khosla, Lapedriza, Oliva and Torralba, "Learning deep features for discriminative
localization", 2016; Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM: visual
explanations from deep networks via gradient-based localization", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minicnn import functional as F
from minicnn import nn
from minicnn.autograd import grad
from minicnn.functional._check import integer
from minicnn.grad_mode import enable_grad, no_grad
from minicnn.models.classifier import scores_of
from minicnn.tensor import Tensor

METHODS = ("auto", "cam", "grad-cam")
MOST_LAYERS = 4
MOST_LISTED = 60


@dataclass(frozen=True)
class HeatMap:
    """Where a network looks for a class.

    Attributes:
        values: (H, W) of the layer's map; large where something speaks for the class. Those of CAM
            are negative where something speaks against it.
        method: "cam" or "grad-cam".
        layer: whose maps were added up.
        target: the class.
        probabilities: (K,) of all classes.
    """

    values: NDArray[np.float64]
    method: str
    layer: str
    target: int
    probabilities: NDArray[np.float64]


@dataclass
class Passage:
    """What happened while an image went through a network.

    Attributes:
        scores: (1, K).
        maps: (1, C, H, W) that modules gave, by path, in the order in which they did.
        convs: paths of the convolutions among them.
        calls: modules that may end a network, with what they got and gave.
    """

    scores: Tensor = field(default_factory=lambda: Tensor([[0.0]]))
    maps: dict[str, Tensor] = field(default_factory=dict)
    convs: list[str] = field(default_factory=list)
    calls: list[tuple[nn.Module, Tensor, Tensor]] = field(default_factory=list)


def feature_maps(
    model: nn.Module, image: Tensor, layers: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Return the maps that layers make of an image.

    Args:
        model: a network; it runs in evaluation mode and is as before afterwards.
        image: (1, C, H, W), on the network's device.
        layers: paths such as "features.conv1", of any modules whose output is maps; if empty, up to
            four convolutions spread from the first to the last.

    Returns:
        (C, H, W) by path.

    Raises:
        ValueError: there is no such layer, or it gives no maps; lists those that do.
    """
    with no_grad():
        passage = run(model, image)
    for layer in layers:
        check_layer(passage, layer)
    return {
        name: passage.maps[name].cpu().numpy()[0].astype(np.float64)
        for name in layers or spread(passage.convs)
    }


def heat_map(
    model: nn.Module,
    image: Tensor,
    target: int | None = None,
    *,
    method: str = "auto",
    layer: str | None = None,
) -> HeatMap:
    """Return where a network looks for a class.

    Args:
        model: a network; it runs in evaluation mode and is as before afterwards.
        image: (1, C, H, W), on the network's device.
        target: the class; the likeliest if None.
        method: "cam", "grad-cam", or "auto" for CAM where it exists.
        layer: for Grad-CAM, whose maps to take; if None, those of the last convolution, after what
            follows at the same size (batch norm, ReLU, a concatenation).

    Raises:
        ValueError: a class out of range, a method that does not exist or not for this network, a
            layer that gives no maps or that the scores do not depend on.
    """
    if method not in METHODS:
        raise ValueError(f"method: got {method!r}, expected one of {', '.join(METHODS)}")
    if method == "cam" and layer is not None:
        raise ValueError("layer: CAM takes the maps in front of the global pooling; use grad-cam")
    with enable_grad():
        # Gradients are wanted even where every parameter is frozen.
        passage = run(model, image.detach().requires_grad_())
    scores = passage.scores
    classes = scores.shape[1]
    if target is None:
        target = int(scores.detach().cpu().numpy()[0].argmax())
    elif not 0 <= integer("heat_map", target, "target", 0) < classes:
        raise ValueError(f"target: got class {target}, expected one of 0 to {classes - 1}")
    ending = None if method == "grad-cam" or layer is not None else global_pooling(passage)
    if method == "cam" and ending is None:
        raise ValueError(
            f"method: {type(model).__name__} does not end in global average pooling and one dense "
            "layer, which cam needs; use grad-cam"
        )
    with no_grad():
        probabilities = F.softmax(scores.detach().double(), 1).cpu().numpy()[0]
    if ending is not None:
        maps, weight = ending
        values = np.tensordot(weight[target], _values(maps), axes=1)
        return HeatMap(values, "cam", _name_of(passage, maps), target, probabilities)
    name = last_map(passage) if layer is None else check_layer(passage, layer)
    values = _grad_cam(passage, name, target)
    return HeatMap(values, "grad-cam", name, target, probabilities)


def run(model: nn.Module, image: Tensor) -> Passage:
    """Send one image through a network in evaluation mode and keep what its modules gave.

    Raises:
        ValueError: not one image, or one that the network does not take.
    """
    if image.ndim != 4 or image.shape[0] != 1:
        raise ValueError(f"image: got shape {image.shape}, expected one image, (1, C, H, W)")
    passage = Passage()

    def hook(path: str) -> Any:
        def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if not isinstance(output, Tensor):
                return
            if output.ndim == 4:
                passage.maps.pop(path, None)  # so that a module called again stands last
                passage.maps[path] = output
                if isinstance(module, nn.Conv2d):
                    passage.convs.append(path)
            if isinstance(module, (nn.Linear, nn.AdaptiveAvgPool2d, nn.AvgPool2d)):
                passage.calls.append((module, args[0], output))

        return note

    modes = [(module, module.training) for module in model.modules()]
    with ExitStack() as stack:
        for path, module in model.named_modules():
            handle = module.register_forward_hook(hook(path or type(module).__name__))
            stack.callback(handle.remove)
        for module, training in modes:
            stack.callback(setattr, module, "training", training)
        model.eval()
        passage.scores = scores_of(model(image))
    return passage


def spread(names: Sequence[str]) -> list[str]:
    """Return up to four of the names, the first and the last among them."""
    unique = list(dict.fromkeys(names))
    places = np.linspace(0, len(unique) - 1, min(MOST_LAYERS, len(unique)))
    return [unique[round(place)] for place in places]


def check_layer(passage: Passage, name: str) -> str:
    """Return the name of a layer that gave maps.

    Raises:
        ValueError: it did not; lists those that did.
    """
    if name not in passage.maps:
        known = list(passage.maps)
        more = f", ... ({len(known):,} in all)" if len(known) > MOST_LISTED else ""
        raise ValueError(
            f"layer: got {name!r}, expected one that gives maps: "
            f"{', '.join(known[:MOST_LISTED])}{more}"
        )
    return name


def last_map(passage: Passage) -> str:
    """Return the last module that gives maps of the size of the last convolution's.

    Raises:
        ValueError: the network has no convolution.
    """
    if not passage.convs:
        raise ValueError("the network has no convolution, so there is no map of where it looks")
    size = passage.maps[passage.convs[-1]].shape[2:]
    return [name for name, maps in passage.maps.items() if maps.shape[2:] == size][-1]


def global_pooling(passage: Passage) -> tuple[Tensor, NDArray[np.float64]] | None:
    """Return the maps before the global average pooling and the (K, C) that make scores of them.

    None if the scores are not a dense layer of the maps' means, or the means themselves. That is
    looked at in the values, whatever stands between the two in the code.
    """
    scores = _values(passage.scores)
    for pool, maps, pooled in reversed(passage.calls):
        if isinstance(pool, nn.Linear) or maps.ndim != 4 or pooled.shape[2:] != (1, 1):
            continue
        means = _values(pooled)[:, 0, 0]
        if not _same(means, _values(maps).mean((1, 2))):
            continue
        for dense, given, result in reversed(passage.calls):
            if (
                isinstance(dense, nn.Linear)
                and _same(_values(given), means)
                and _same(_values(result), scores)
            ):
                return maps, dense.weight.detach().cpu().numpy().astype(np.float64)
        if _same(means, scores):
            return maps, np.eye(len(means))
    return None


def _grad_cam(passage: Passage, name: str, target: int) -> NDArray[np.float64]:
    """Return Grad-CAM of a layer's maps."""
    maps = passage.maps[name]
    with enable_grad():
        score = passage.scores[0, target]
    (gradient,) = grad(score, maps, allow_unused=True)
    if gradient is None:
        raise ValueError(f"layer: the scores do not depend on the maps of {name!r}")
    alpha = _values(gradient).mean((1, 2))
    return np.maximum(np.tensordot(alpha, _values(maps), axes=1), 0)


def _name_of(passage: Passage, maps: Tensor) -> str:
    """Return the path of the module that gave these maps, the outermost of several."""
    names = [name for name, given in passage.maps.items() if given is maps]
    return names[-1] if names else "the last maps"


def _values(tensor: Tensor) -> NDArray[np.float64]:
    """Return the values for the only image, in double precision on the host."""
    return tensor.detach().cpu().numpy()[0].astype(np.float64)


def _same(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Say whether values are the same but for rounding in single precision."""
    return a.shape == b.shape and bool(
        np.allclose(a, b, rtol=1e-4, atol=1e-5 * max(float(np.abs(b).max(initial=0)), 1e-30))
    )
