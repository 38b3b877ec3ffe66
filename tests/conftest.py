"""What every test stands on: CPU, no silent rank promotion, one compilation cache, shapes checked, outside files."""

import os
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
# Small programs too: a process that starts with what others compiled needs a third of the time for a network.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Tests compile far longer than they compute. LLVM at level 0 halves that; the programs and XLA's passes are the same.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("SIMSWAP_JAX_OFFLINE", "1")
os.environ.setdefault("XDG_CACHE_HOME", str(Path(__file__).parents[1] / ".cache"))  # where ONNX files' trials are kept
os.environ.setdefault("SIMSWAP_JAX_CONFIG", str(Path(__file__).parents[1] / ".cache" / "config"))

import jax
import pytest
from absl import flags

jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()

# Modules whose annotations name the shapes of arrays; each call of theirs is checked.
SHAPED = ["simswap_jax.models", "simswap_jax.losses", "simswap_jax.faces", "simswap_jax.training.step"]
if find_spec("jaxtyping") and find_spec("beartype"):  # neither is in the base install
    from jaxtyping import install_import_hook

    import tests.support.shapes  # noqa: F401  the hook finds it only where it is imported

    install_import_hook(SHAPED, "tests.support.shapes.checked")

# As the runners trace: with the forms of all platforms in it, the trace of a gradient takes twice as long. Imported
# after the hook, for it is one of the modules whose shapes are checked.
from simswap_jax.models.ops.platform import lowering_for  # noqa: E402

PLATFORM = os.environ["JAX_PLATFORMS"].partition(",")[0]  # another one where launch/one_gpu.sh runs the device tests
_TRACED = lowering_for({"cuda": "gpu"}.get(PLATFORM, PLATFORM))  # kept: it ends with the last reference to it
_TRACED.__enter__()

# What trains, compiles large networks, renders many faces or starts processes: files or tests. All else is `fast`.
HEAVY = (
    "tests/app/test_attack.py",
    "tests/app/test_page.py",
    "tests/app/test_server.py",
    "tests/app/test_studio.py",
    "tests/cli/",
    "tests/contrib/",
    "tests/data/test_embeddings.py::test_a_real_network",
    "tests/evaluation/test_evaluate.py",
    "tests/evaluation/test_external.py",
    "tests/evaluation/protocols/test_faceforensics.py",
    "tests/evaluation/test_sweep.py",
    "tests/evaluation/test_validation.py",
    "tests/faces/test_direction.py",
    "tests/hardware/test_preflight.py",
    "tests/inference/test_parsing.py",
    "tests/inference/test_photo.py",
    "tests/models/test_faceshifter.py",
    "tests/models/test_fsgan.py",
    "tests/models/test_faceshifter_hear.py",
    "tests/models/test_golden_networks.py",
    "tests/models/test_ipgan.py",
    "tests/models/test_layers.py",
    "tests/models/test_platforms.py",
    "tests/preparation/test_prepare.py",
    "tests/provenance/test_xmp_fuzz.py",
    "tests/snapshots/test_step.py",
    "tests/test_base_install.py",
    "tests/test_extension.py",
    "tests/test_losses.py",
    "tests/training/test_distributed.py",
    "tests/training/test_faceshifter.py",
    "tests/training/test_faceshifter_hear.py",
    "tests/training/test_fsgan.py",
    "tests/training/test_golden_train_step.py",
    "tests/training/test_ipgan.py",
    "tests/training/test_kill.py",
    "tests/training/test_parallel.py",
    "tests/training/test_update.py",
    "tests/training/test_training.py",
    "tests/training/test_validation.py",
    "tests/training/test_warm_start.py",
    "tests/video/test_formats.py",
    "tests/video/test_pipeline.py",
    "tests/video/test_tilted.py",
    "tests/weights/test_folder_fuzz.py",
    "tests/weights/test_onnx_export.py",
    "tests/weights/test_onnx_fuzz.py",
    "tests/weights/test_onnx_session.py",
    "tests/weights/test_pickle_reader_fuzz.py",
    "tests/weights/test_pretrained.py",
    "tests/weights/test_range_check.py",
    "tests/weights/test_torch_modules.py",
    "tests/weights/test_torch_weights.py",
)
NOT_FAST = ("slow", "device", "torch", "browser")


def is_fast(item: pytest.Item) -> bool:
    """Whether `make test-fast` runs a test."""
    return not item.nodeid.startswith(HEAVY) and not any(map(item.get_closest_marker, NOT_FAST))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the marker ``fast`` before ``-m`` is asked."""
    for item in items:
        if is_fast(item):
            item.add_marker("fast")


TEST_DATA = Path(os.environ.get("SIMSWAP_JAX_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="module")
def optimized():
    """Programs compiled as users run them: for parity, which the order of roundings decides."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def outside():
    """A file or folder of the outside test data, or a skip that names it."""

    def find(name: str) -> Path:
        path = TEST_DATA / name
        if not path.exists():
            pytest.skip(f"{name} is not in the test data (set SIMSWAP_JAX_TEST_DATA)")
        return path

    return find
