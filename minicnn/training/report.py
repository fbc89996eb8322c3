"""What a run leaves for people to look at: pictures and figures beside its weights."""

from __future__ import annotations

from pathlib import Path

from minicnn.nn import Module
from minicnn.serialization import save_state_dict, write_atomically
from minicnn.training.evaluate import Evaluation
from minicnn.training.plots import confusion_png, curves_png, filters_png
from minicnn.training.run_folder import RunFolder
from minicnn.training.trainer import Trainer


def write_results(trainer: Trainer, folder: RunFolder) -> Evaluation:
    """Write the results of a run whose epochs are all done, and mark it finished.

    Everything comes from the trainer's state, so it can be done again at any time.

    Returns:
        The evaluation on the test images.

    Raises:
        OSError: a file could not be written.
    """
    config, history = trainer.config, trainer.state.history
    result = trainer.evaluate()
    save_state_dict(folder.weights, trainer.model.state_dict())
    name = f"{config.model} on {config.data}"
    write_atomically(folder.curves, curves_png(history, name))
    write_confusion(folder.confusion, result, config.classes)
    write_filters(folder, trainer.model)
    folder.write_metrics(config, history, finished=True)
    return result


def write_confusion(path: Path, result: Evaluation, classes: list[str]) -> None:
    """Draw the confusion matrix into a file."""
    title = f"{result.correct:,} of {result.total:,} test images right ({result.accuracy:.2%})"
    write_atomically(path, confusion_png(result.confusion, classes, title))


def write_filters(folder: RunFolder, model: Module) -> None:
    """Draw the filters of the first convolution, if the network has one."""
    for name, weight in model.named_parameters():
        if weight.ndim == 4:
            count, *shape = weight.shape
            size = "x".join(map(str, shape))
            title = f"{name.removesuffix('.weight')}: {count} filters of {size}"
            write_atomically(folder.filters, filters_png(weight.detach().cpu().numpy(), title))
            return
