"""`minicnn gradcheck`: every op's derivatives against finite differences."""

from __future__ import annotations

import click

from minicnn.cli._common import SETTINGS, console, debug_option, device_option, make_table


@click.command(
    "gradcheck", short_help="Check every op's gradient numerically.", context_settings=SETTINGS
)
@click.argument("ops", metavar="[OP]...", nargs=-1)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Of the inputs and the upstream gradients.",
)
@device_option
@debug_option
def command(ops: tuple[str, ...], seed: int, device: str) -> int:
    """Check the gradient of every operation, or of each OP, numerically in float64.

    The upstream gradient is random; kinks are avoided by construction. The table shows the worst
    relative error of the first and of the second derivatives. Exit code 1 if an op fails.
    """
    from rich.text import Text

    from minicnn.opcheck import OPS, check_op

    unknown = [name for name in ops if name not in OPS]
    if unknown:
        raise ValueError(f"op: got {unknown[0]!r}, expected some of {', '.join(OPS)}")
    table = make_table("op", ">first derivative", ">second derivative", "")
    failed = []
    for name in ops or OPS:
        result = check_op(name, seed, device)
        if not result.ok:
            failed.append(result)
        first, second = (
            f"{error:.1e}" if result.ok else "-"
            for error in (result.max_error, result.second_error)
        )
        verdict = Text("ok", "green") if result.ok else Text("FAILED", "bold red")
        table.add_row(name, first, second, verdict)
    console().print(table)
    for result in failed:
        click.echo(f"{result.name}: {result.message}", err=True)
    count = len(ops or OPS)
    click.echo(f"{count - len(failed)} of {count} ops passed on {device}")
    return 1 if failed else 0
