"""`minicnn train`: train a network in a folder of its own, or go on with a run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minicnn.cli._common import SETTINGS, Device, data_folder_option, debug_option, load_data

if TYPE_CHECKING:
    from minicnn.training import RunFolder, Trainer

# Options that --resume may be given with: they are the machine's, not the run's.
WITH_RESUME = ("resume", "data_folder", "device", "threads")
AT_LEAST_0, AT_LEAST_1 = click.IntRange(0), click.IntRange(1)
FOLDER = click.Path(path_type=Path)
# Options that belong to the network or to the optimizer, rather than to the run.
GROUPS = {
    **dict.fromkeys(("lrn", "batch_norm", "skip", "aux", "dropout"), "model_options"),
    **dict.fromkeys(("lr", "weight_decay"), "optimizer_options"),
}


class Assignment(click.ParamType):
    """NAME=VALUE, the value as JSON; what is not JSON is a string."""

    name = "NAME=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return (name, value)."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not equals or not name:
            self.fail(f"got {value!r}, expected NAME=VALUE such as seed=3", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text


# fmt: off
@click.command("train", short_help="Train a network, or go on with a run.",
               context_settings=SETTINGS)
@click.argument("model", required=False)
@click.option("--data", default="mnist", show_default=True, metavar="NAME",
              help="Dataset; `minicnn data` lists them.")
@data_folder_option
@click.option("--out", type=FOLDER, metavar="DIR",
              help="Folder of the run, new or empty.  [default: runs/MODEL-DATA]")
@click.option("--resume", type=FOLDER, metavar="RUN",
              help="Go on with the run in this folder, exactly where it stopped.")
@click.option("--recipe", metavar="NAME",
              help="Start from a paper's settings; `minicnn recipes` lists them.")
@click.option("--epochs", type=AT_LEAST_1, metavar="N",
              help="How often the training images are gone through.")
@click.option("--batch-size", type=AT_LEAST_1, metavar="N", help="Images a step.")
@click.option("--optimizer", metavar="NAME", help="sgd, adam or adamw.")
@click.option("--lr", type=float, metavar="RATE", help="Learning rate.")
@click.option("--weight-decay", type=float, metavar="X", help="Pull of the weights towards zero.")
@click.option("--schedule", metavar="NAME",
              help="constant, step, multistep, cosine, polynomial, one-cycle or plateau.")
@click.option("--warmup", "warmup_epochs", type=float, metavar="EPOCHS",
              help="Let the learning rate rise from nearly zero over this long.")
@click.option("--label-smoothing", type=float, metavar="X",
              help="Share of the target spread over all classes.")
@click.option("--clip", "clip_norm", type=float, metavar="NORM", help="Largest gradient norm.")
@click.option("--lrn/--no-lrn", default=None, help="Local response normalisation.")
@click.option("--batch-norm/--no-batch-norm", default=None, help="Batch normalisation.")
@click.option("--skip/--no-skip", default=None, help="Skip connections.")
@click.option("--aux/--no-aux", default=None, help="Auxiliary heads.")
@click.option("--dropout", type=click.FloatRange(0, 1), metavar="P",
              help="Probability of dropout; 0 turns it off.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", type=Assignment(),
              help="Any setting of config.json, its value as JSON, such as "
              "optimizer_options.momentum=0.95 or model_options.width=0.5; may be repeated.")
@click.option("--seed", type=AT_LEAST_0, metavar="N",
              help="The same seed gives the same weights, bit for bit.  [default: 0]")
@click.option("--save-every", type=AT_LEAST_1, metavar="STEPS",
              help="Steps between checkpoints within an epoch.  [default: 200]")
@click.option("--device", type=Device(), metavar="NAME",
              help="Where to compute: cpu, cuda, or cuda:sim, a simulated GPU; cuda:1 is the "
              "second.  [default: cpu, or where the run was]")
@click.option("--threads", type=AT_LEAST_1, metavar="N",
              help="Threads of the kernels.  [default: all cores]")
@debug_option
@click.pass_context
def command(context: click.Context, model: str | None, data: str, data_folder: Path | None,
            out: Path | None, resume: Path | None, **settings: Any) -> int:
    """Train MODEL (such as lenet) and keep everything in one folder.

    The folder gets the settings, a checkpoint, the weights, the metrics (CSV, JSON) and pictures:
    learning curves, confusion matrix, first-layer filters. Defaults depend on MODEL, DATA and
    OPTIMIZER and are written to the folder's config.json. Ctrl-C stops after the current step;
    --resume goes on from there, and ends with the very weights that an unbroken run has. With
    another --device it goes on there, and its sums are rounded otherwise from then on.

    \b
    minicnn train lenet
    minicnn train lenet --data fashion-mnist --epochs 20 --out runs/fashion
    minicnn train alexnet_small --no-lrn --out runs/without-lrn
    minicnn train alexnet_small --data folder --data-folder pictures --set data_options.lazy=true
    minicnn train --resume runs/lenet-mnist
    """
    if resume is not None:
        _refuse_changes(context)
        machine = {name: settings[name] for name in ("device", "threads")}
        return _resume(resume, data_folder, machine)
    if model is None:
        raise click.UsageError("Missing argument 'MODEL', such as lenet.", context)
    chosen = _chosen(settings)
    return _begin(model, data, data_folder, out, chosen)
# fmt: on


def _refuse_changes(context: click.Context) -> None:
    """A run goes on as it was begun; say which argument asks for something else."""
    default = click.core.ParameterSource.DEFAULT
    for parameter in context.command.params:
        name = parameter.name or ""
        given = name in context.params and context.get_parameter_source(name) is not default
        if given and name not in WITH_RESUME:
            shown = parameter.opts[0] if isinstance(parameter, click.Option) else name.upper()
            raise click.UsageError(
                f"--resume goes on with a run as it was begun; {shown} cannot be given with it",
                context,
            )


def _chosen(options: dict[str, Any]) -> dict[str, Any]:
    """Turn the command's options into settings as config.json has them."""
    settings: dict[str, Any] = {}
    for name, value in options.items():
        if name == "assignments" or value is None:
            continue
        group = GROUPS.get(name)
        (settings if group is None else settings.setdefault(group, {}))[name] = value
    for path, value in options["assignments"]:
        group, dot, name = path.partition(".")
        if not dot:
            settings[group] = value
        elif isinstance(settings.setdefault(group, {}), dict):
            settings[group][name] = value
        else:
            raise ValueError(f"--set {path}: {group} is {settings[group]!r}, which has no {name!r}")
    return settings


def _begin(
    model: str, data: str, data_folder: Path | None, out: Path | None, chosen: dict[str, Any]
) -> int:
    """Check everything, then make the run's folder and train."""
    from minicnn.data import load_dataset
    from minicnn.models import MODELS
    from minicnn.training import RunFolder, Trainer, default_config

    if model not in MODELS:
        raise ValueError(f"model: got {model!r}, expected one of {', '.join(sorted(MODELS))}")
    if out is not None:
        RunFolder.check_free(out)
    options = chosen.get("data_options", {})
    if not isinstance(options, dict):
        raise ValueError(f"data_options: got {options!r}, expected an object")
    try:
        train, test = load_dataset(data, data_folder, **options)
    except TypeError as error:
        raise ValueError(f"data_options: {error}") from error
    folder = None if data_folder is None else str(data_folder.resolve())
    config = default_config(model, data, train, data_folder=folder, **chosen)
    trainer = Trainer(config, train, test)
    run = RunFolder.begin(config, out)
    return _train(trainer, run)


def _resume(path: Path, data_folder: Path | None, machine: dict[str, Any]) -> int:
    """Go on with a run, or say that it is finished; `machine` may say device and threads anew."""
    from minicnn.training import RunFolder, Trainer

    run = RunFolder.find(path)
    config = run.load_config()
    if run.is_finished:
        last = run.load_metrics()["last"]
        click.echo(
            f"{run} is finished: {config.epochs} epochs, test accuracy {last['test_accuracy']:.2%}"
        )
        return 0
    changes = {name: value for name, value in machine.items() if value is not None}
    moves = changes.get("device", config.device) != config.device
    config = config.changed(**changes)
    train, test = load_data(config, data_folder)
    trainer = Trainer(config, train, test)
    trainer.restore(run)
    if moves:
        config.save(run.config)
    return _train(trainer, run)


def _train(trainer: Trainer, run: RunFolder) -> int:
    """Train to the end, write the results and say how it went."""
    from minicnn.data import DataError
    from minicnn.training import Diverged, Interrupted
    from minicnn.training.progress import clock, make_observer
    from minicnn.training.report import write_results

    _introduce(trainer, run)
    go_on = f"minicnn train --resume {shlex.quote(str(run))}"
    try:
        trainer.run(run, make_observer())
        result = write_results(trainer, run)
    except Interrupted as place:
        click.echo(f"stopped before {place}; everything is saved, go on with: {go_on}", err=True)
        return 130
    except KeyboardInterrupt:
        click.echo(f"aborted; go on from the last checkpoint with: {go_on}", err=True)
        return 130
    except Diverged as error:
        kept = (
            "the last good checkpoint is kept" if run.checkpoint.exists() else "nothing was saved"
        )
        raise click.ClickException(f"{run}: {error}; {kept}; a smaller --lr may help") from error
    except BrokenPipeError:
        raise
    except DataError as error:
        raise click.ClickException(
            f"{error}; older files are whole, go on from the last checkpoint with: {go_on}"
        ) from error
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or run}: {error.strerror or error}; older files are whole, "
            f"go on with: {go_on}"
        ) from error
    seconds = sum(row.seconds for row in trainer.state.history)
    click.echo(
        f"test accuracy {result.accuracy:.2%} ({result.correct:,} of {result.total:,}) "
        f"after {trainer.config.epochs} epochs, {clock(seconds)} of training; all in {run}"
    )
    return 0


def _introduce(trainer: Trainer, run: RunFolder) -> None:
    """Say in two lines what is trained, on what, and where it goes."""
    config = trainer.config
    count = sum(parameter.numel() for parameter in trainer.model.parameters())
    click.echo(
        f"{config.model}: {count:,} parameters; {config.data}: {len(trainer.train):,} training "
        f"and {len(trainer.test):,} test images; {trainer.batches:,} steps of {config.batch_size} "
        f"an epoch, on {trainer.device}"
    )
    state = trainer.state
    start = f"goes on at epoch {state.epoch + 1}, step {state.step + 1}" if state.step else "begins"
    if trainer.is_done:
        start = "is trained; its results are still to be written"
    click.echo(f"{run} {start}")
