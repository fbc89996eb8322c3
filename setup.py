"""Packaging. `kernels/` lives at the top of the checkout and is installed as `minicnn.kernels`."""

from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = {}
for line in (here / "minicnn" / "__init__.py").read_text(encoding="utf-8").splitlines():
    if line.startswith("__version__"):
        exec(line, version)

test = ["pytest>=8", "scipy", "scikit-learn"]

setup(
    name="minicnn",
    version=version["__version__"],
    description="A from-scratch convolutional deep-learning engine with hand-written kernels",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["minicnn/LICENSE"],
    python_requires=">=3.10,<3.14",
    install_requires=[
        "numpy>=2.0",
        "numba>=0.61",
        "click>=8.1",
        "rich>=13",
        "matplotlib>=3.8",
        "pillow>=10",
        "safetensors>=0.4.3",
    ],
    extras_require={
        # From 14 on CuPy promotes dtypes as NumPy 2 does, from 14.2 on it keeps what it made of
        # any template on disk; before, each process compiled most kernels anew.
        # CuPy compiles the kernels with NVRTC; of the rest of a CUDA toolkit nothing is used.
        "cuda12": ["cupy-cuda12x>=14.2", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-runtime-cu12"],
        "cuda13": [
            "cupy-cuda13x>=14.2",
            "nvidia-cuda-nvrtc>=13,<14",
            "nvidia-cuda-runtime>=13,<14",
        ],
        "nvrtc": ["nvidia-cuda-nvrtc", "nvidia-cuda-nvdisasm"],
        "test": test,
        "dev": [*test, "build", "mypy>=1.11", "ruff>=0.6"],
    },
    packages=[
        *find_packages(include=["minicnn", "minicnn.*"], exclude=["minicnn.kernels*"]),
        "minicnn.kernels",
    ],
    package_dir={"minicnn.kernels": "kernels"},
    package_data={
        "minicnn": ["py.typed", "LICENSE"],
        "minicnn.cudasim": ["runtime/*.cpp", "runtime/*.h"],
        "minicnn.data": ["*.csv.gz"],
        "minicnn.kernels": ["*.cu", "*.h", "*.csv"],
    },
    entry_points={"console_scripts": ["minicnn = minicnn.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
