"""The command `minicnn`: one file a command, loaded when it is asked for.

Every error a user can make ends as one line on standard error and exit code 2; `--debug` shows
where it came from. Ctrl-C ends with 130.
"""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from collections.abc import Sequence

import click

COMMANDS = (
    "train", "eval", "predict", "summary", "compare", "visualize", "recipes", "convert", "data",
    "gradcheck", "kernels", "cudasim",
)  # fmt: skip


class LazyGroup(click.Group):
    """A group whose commands are modules of this package, each holding a `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of a command."""
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"minicnn.cli.{cmd_name}").command


def _show_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        import minicnn

        click.echo(f"minicnn {minicnn.__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
    help="Show the version and exit.",
)  # fmt: skip
@click.option("--debug", is_flag=True, expose_value=False, help="Show where an error came from.")
def commands() -> None:
    """Train, test and study convolutional networks whose every kernel can be read.

    Start with:  minicnn train lenet
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments; None takes the process's own.

    Returns:
        0 when all went well, 1 when a check failed, 2 for an error, 130 after Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(format="minicnn: %(message)s")
    logging.getLogger("minicnn").setLevel(logging.INFO)
    try:
        result = commands.main(arguments, prog_name="minicnn", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "minicnn"
        return _fail(f"{error.format_message()} (see {path} --help)", arguments)
    except click.ClickException as error:
        return _fail(error.format_message(), arguments)
    except (click.Abort, KeyboardInterrupt):
        click.echo("minicnn: interrupted", err=True)
        return 130
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        return _fail(f"{error.filename}: {error.strerror}" if named else str(error), arguments)
    except ValueError as error:
        return _fail(str(error), arguments)
    return result if isinstance(result, int) else 0


def _fail(message: str, arguments: Sequence[str]) -> int:
    """Report the error being handled."""
    if "--debug" in arguments:
        traceback.print_exc()
    click.echo(f"minicnn: error: {message}", err=True)
    return 2
