"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_first_example_trains_a_step():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope: dict = {}
    exec(blocks[0], scope)
    assert 2 < scope["loss"].item() < 3
    assert all(p.grad is not None for p in scope["net"].parameters())


def test_there_are_two_commands():
    section = README.split("<!-- commands -->")[1].split("<!-- end of commands -->")[0]
    commands = [line for line in section.splitlines() if line.startswith("    ")]
    assert len(commands) == 2
    assert commands[0].endswith("minicnn train lenet") and commands[1].endswith("pytest")


def test_every_room_on_the_map_is_there():
    root = Path(__file__).parents[1]
    house = README.split("## The house")[1].split("## ")[0]
    for name in re.findall(r"`((?:minicnn|kernels|tests|benchmarks)/[\w./]*)`", house):
        assert (root / name).exists(), name
