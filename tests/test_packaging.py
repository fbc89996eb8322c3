"""What a wheel holds: minicnn alone, with every kernel inside."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools")
    tree = tmp_path_factory.mktemp("tree") / "minicnn"
    ignore = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "runs")
    shutil.copytree(ROOT, tree, symlinks=True, ignore=ignore)
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    done = subprocess.run([*command, "-w", out, tree], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_only_minicnn_with_every_source(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {n for n in archive.namelist() if ".dist-info/" not in n}
    assert {n.split("/")[0] for n in names} == {"minicnn"}
    wanted = {f"minicnn/{p.relative_to(ROOT)}" for p in (ROOT / "kernels").rglob("*") if source(p)}
    wanted |= {str(p.relative_to(ROOT)) for p in (ROOT / "minicnn").rglob("*") if source(p)}
    wanted |= {"minicnn/py.typed", "minicnn/LICENSE", "minicnn/data/digits.csv.gz"}
    assert len(wanted) > 40
    assert wanted - names == set()


def test_wheel_works_where_nothing_else_is(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import minicnn, minicnn.functional as F, minicnn.kernels.im2col as k; "
        "assert 'site' in k.__file__, k.__file__; "
        "assert F.relu(minicnn.tensor([-1.0, 2.0])).tolist() == [0, 2]"
    )
    environment = {"PYTHONPATH": str(tmp_path / "site"), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)


def test_link_serves_the_uninstalled_checkout():
    assert (ROOT / "minicnn" / "kernels").resolve() == (ROOT / "kernels").resolve()


def source(path: Path) -> bool:
    return path.suffix in {".py", ".cu", ".h"} and path.is_file()
