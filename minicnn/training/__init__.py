"""Training: the loop, its settings, checkpoints, run folders, figures and pictures.

train, test = minicnn.data.load_dataset("mnist")
config = default_config("lenet", "mnist", train)
trainer = Trainer(config, train, test)
trainer.run(RunFolder.begin(config), Observer())
"""

from minicnn.training.checkpoint import load_checkpoint, save_checkpoint
from minicnn.training.config import TrainingConfig
from minicnn.training.evaluate import Evaluation, evaluate
from minicnn.training.history import EpochMetrics
from minicnn.training.progress import BarObserver, LineObserver, Observer
from minicnn.training.recipes import default_config
from minicnn.training.run_folder import RunFolder
from minicnn.training.trainer import Diverged, Interrupted, Trainer, TrainingState

__all__ = [
    "BarObserver",
    "Diverged",
    "EpochMetrics",
    "Evaluation",
    "Interrupted",
    "LineObserver",
    "Observer",
    "RunFolder",
    "Trainer",
    "TrainingConfig",
    "TrainingState",
    "default_config",
    "evaluate",
    "load_checkpoint",
    "save_checkpoint",
]
