"""Compiling the real step for hardware that is not here, and what is said of it."""

import contextlib
import importlib.util
import json
import os
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from jax.interpreters import partial_eval

from simswap_jax.cli import main as cli
from simswap_jax.cli import preflight as command
from simswap_jax.errors import UserError, install_command
from simswap_jax.hardware import gpu, preflight
from simswap_jax.hardware.collectives import Collective
from simswap_jax.hardware.costs import Cost
from simswap_jax.hardware.preflight import PreflightRequest
from simswap_jax.hardware.report import table
from simswap_jax.models.ops.platform import traced_for
from simswap_jax.training import chips, flops, loop, simswap
from simswap_jax.training.config import default_config, tiny_config
from simswap_jax.training.metrics import Progress
from tests.support.errors import raises_user_error
from tests.support.small_method import small_config, small_method

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (extra `preflight`)"
)
needs_gpu_compiler = pytest.mark.skipif(
    not gpu.installed(), reason="the GPU compiler is not installed (extra `preflight-gpu`)"
)


def small_experiment():
    config = tiny_config(default_config(), (4, 8), maps=2, blocks=1)
    config.generator.preset = ""
    config.losses.feature_matching_first = 1
    return config


def slice_of(name, batch):
    where = chips.read(name)
    return chips.Slice(where.chip, where.torus, batch)


@pytest.fixture
def report():
    """A report of a program that was never compiled, with round numbers."""
    where = slice_of("v5e:4x4", 32)
    exchanged = (Collective("all-reduce", 2**20, "a"), Collective("all-reduce", 1024, "b"))
    program = preflight.Program(
        arguments=2**30, temporary=2**32, code=0, flops=197e9, moved=819e7, cycles=30_000_000, collectives=exchanged,
        lowering=1.0, compiling=2.0,
        costs=(Cost("fusion.1", "fusion", "jit(step)/G/up1/add", "models/a.py:1", 9, 0, 7),),
    )  # fmt: skip
    return preflight.Report(
        where, "arcface18", {"generator": 55_000_000}, 2**29, 2**28, 2**20, 1e9, program,
    )  # fmt: skip


def test_a_report_adds_up(report):
    said = report.as_dict()
    assert said["memory_per_chip"]["total"] == 2**30 + 2**32
    assert said["fits"]
    exchanged = said["collectives"]["all-reduce"]
    assert (exchanged["count"], exchanged["bytes"]) == (2, 2**20 + 1024)
    assert exchanged["over_links"] == pytest.approx(2 * (2**20 + 1024) * 15 / 16)
    upper = said["upper_bound"]
    assert upper["by"] == "memory"
    assert upper["images_per_second"] == pytest.approx(32 * 16 / upper["seconds"])
    assert upper["mfu"] == pytest.approx(1e9 * 32 / (upper["seconds"] * 197e12))
    assert said["compiler_estimate"]["seconds"] == pytest.approx(0.02, rel=0.01)
    assert [row["chips"] for row in said["weak_scaling"]] == [4, 8, 16, 32, 64, 128, 256, 512]


def test_a_program_of_fewer_flops_than_the_model_promises_no_more_than_the_peak(report):
    """celeba_64 on H100s once had 28.8 of 31.3 GFLOP an image: 103.7 % MFU."""
    program = replace(report.program, flops=32 * 28.8e9, moved=1.0, collectives=report.program.collectives)
    made = replace(report, model_flops=31.3e9, program=program)
    upper = made.as_dict()["upper_bound"]
    assert upper["by"] == "arithmetic"
    assert upper["arithmetic"] == pytest.approx(32 * 31.3e9 / 197e12)
    assert 0.9 < upper["mfu"] <= 1.0
    assert "ms, of the model's FLOPs" in table(made)
    assert made.as_dict()["flops_per_image"] == pytest.approx({"model": 31.3e9, "program": 28.8e9})
    for row in made.as_dict()["weak_scaling"]:
        assert row["images_per_second"] * 31.3e9 <= row["chips"] * 197e12
    costs = (Cost("a", "fusion", "", "", 1, int(program.flops), 0),)
    alone = replace(made, where=slice_of("h100:1", 32), program=replace(program, cycles=0, collectives=(), costs=costs))
    assert alone.mfu(alone.bound.seconds) == pytest.approx(1.0)
    assert alone.mfu(alone.one_by_one_seconds) == pytest.approx(1.0)
    more = replace(made, program=replace(program, flops=32 * 40e9))
    assert more.bound.arithmetic == pytest.approx(32 * 40e9 / 197e12)
    assert "of the model's FLOPs" not in table(more)


def test_the_largest_batch_fills_the_memory(report):
    more = report.largest_batch
    each = (2**32 + 2**20) / 32
    assert report.memory + (more - 32) * each <= report.available_memory < report.memory + (more - 31) * each


def test_two_batches_tell_what_an_image_takes(report, monkeypatch):
    def compiled(request):
        batch = request.where.batch_per_chip
        program = replace(report.program, temporary=2**30 + batch * 2**26)
        return replace(report, where=request.where, program=program)

    monkeypatch.setattr(preflight, "report_of", compiled)
    made = preflight.preflight(PreflightRequest(small_experiment(), report.where, twice=True))
    assert made.growth == 2**26
    assert made.memory + (made.largest_batch - 32) * 2**26 <= made.available_memory
    assert made.largest_batch > report.largest_batch  # what does not grow counts no more
    assert "by compiling for two batches" in table(made)


def test_a_step_that_fits_is_reported_where_twice_its_batch_does_not(report, monkeypatch):
    def compiled(request):
        if request.where.batch_per_chip > 1:
            raise preflight.DoesNotFit("2 pictures a chip do not fit", "does-not-fit")
        return replace(report, where=request.where)

    monkeypatch.setattr(preflight, "report_of", compiled)
    made = preflight.preflight(PreflightRequest(small_experiment(), slice_of("v5e:4x4", 1), twice=True))
    assert (made.where.batch_per_chip, made.growth) == (1, 0.0)


def test_a_step_that_does_not_fit_names_a_smaller_batch(report):
    over = int(report.available_memory) + 2**20 - report.program.temporary  # by less than an image
    made = replace(report, program=replace(report.program, arguments=over))
    assert not made.fits
    assert made.largest_batch == 31


def test_the_table_says_when_collectives_bind(report):
    assert "hidden behind the longest of the three" in table(report)
    exchanged = (Collective("all-reduce", 2**36, "a"),)
    made = replace(report, program=replace(report.program, collectives=exchanged))
    assert made.bound.by == "interconnect"
    assert "hidden" not in table(made)


def test_the_table_calls_the_estimate_a_bound(report):
    lines = table(report)
    assert "UPPER BOUND" in lines
    assert "on paper, 512 chips" in lines
    assert "fusion.1" in lines
    assert "models/a.py:1" in lines
    rows = dict(line.split(maxsplit=1) for line in lines.splitlines() if line.startswith("fits "))
    assert rows == {"fits": "yes"}
    more = replace(report, program=replace(report.program, temporary=2**40))
    assert [line.split() for line in table(more).splitlines() if line.startswith("fits ")] == [["fits", "NO"]]


@pytest.mark.parametrize(
    ("where", "share", "fraction"),
    [("h100:8", 0.74, None), ("h100:8", 0.801, 0.81), ("h100:8", 0.99, None), ("v5e:4x4", 0.801, None)],
)
def test_a_step_that_needs_more_of_a_gpu_than_jax_takes_says_the_setting(report, where, share, fraction):
    there = slice_of(where, 16)
    temporary = int(share * there.chip.memory) - report.program.arguments
    made = replace(report, where=there, program=replace(report.program, temporary=temporary))
    assert made.as_dict()["memory_fraction"] == fraction
    assert (f"XLA_PYTHON_CLIENT_MEM_FRACTION={fraction} or more" in table(made)) == (fraction is not None)


def test_operations_of_a_gpu_follow_each_other(report):
    where = slice_of("h100:8", 16)
    costs = (Cost("a", "fusion", "", "", 3_350_000_000, 0, 0), Cost("b", "fusion", "", "", 0, 1_978_800_000_000, 0))
    made = replace(report, where=where, program=replace(report.program, cycles=0, costs=costs))
    assert made.one_by_one_seconds == pytest.approx(1e-3 + 2e-3 + made.bound.small_collectives)
    assert "operations one by one" in table(made)
    assert report.one_by_one_seconds == 0.0


def test_flops_of_layers_are_two_for_a_product():
    x = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 3, 5), jnp.float32)

    @jax.jit
    def strided(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    assert flops.forward(strided, x, kernel) == 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert flops.forward(lambda a, b: jnp.einsum("bhwi,io->bhwo", a, b[0, 0]), x, kernel) == 2 * (2 * 64 * 5) * 3


def test_flops_of_the_papers_generator():
    from simswap_jax.models import Generator

    generator = Generator()
    picture, vector = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32), jax.ShapeDtypeStruct((1, 512), jnp.float32)
    variables = jax.eval_shape(generator.init, jax.random.PRNGKey(0), picture, vector)
    # About 96 GFLOP a face forward, as the release's users report.
    assert flops.forward(generator.apply, variables, picture, vector) == pytest.approx(96.2e9, rel=1e-3)


@pytest.fixture(scope="module")
def paper():
    """The paper's experiment with a network that is only a shape."""
    config = ml_collections.ConfigDict(default_config().to_dict())
    config.batch_size = 1
    return simswap.from_networks(config, preflight.identity_network(config, "arcface101"))


def test_flops_of_the_papers_step(paper):
    assert flops.per_image(paper) == pytest.approx(397.1e9, rel=1e-3)


def products_with_pixels(convolution):
    """Multiply-adds of a traced convolution, those with the zeros of padding and dilation left out."""
    said = convolution.params
    (image, kernel), made = (each.aval.shape for each in convolution.invars), convolution.outvars[0].aval.shape
    where = said["dimension_numbers"]
    total = made[where.out_spec[0]] * kernel[where.rhs_spec[0]] * kernel[where.rhs_spec[1]]
    for axis in range(len(said["padding"])):
        length, spread = image[where.lhs_spec[2 + axis]], said["lhs_dilation"][axis]
        places = np.arange(made[where.out_spec[2 + axis]])[:, None] * said["window_strides"][axis]
        taps = np.arange(kernel[where.rhs_spec[2 + axis]]) * said["rhs_dilation"][axis]
        at = places + taps - said["padding"][axis][0]
        total *= np.count_nonzero((at >= 0) & (at <= (length - 1) * spread) & (at % spread == 0))
    return int(total)


@pytest.mark.slow
def test_the_passes_of_the_formula_are_those_of_the_step(paper, monkeypatch):
    """Traced with its gradients, the step holds what the formula counts, but for first layers: a picture that nothing
    made needs no gradient. The two ways forward that both players share are traced twice; the compiler merges them."""
    monkeypatch.setattr(flops, "products", products_with_pixels)
    state = jax.eval_shape(paper.init, jax.random.PRNGKey(0))
    plain = traced_for("gpu", paper.step)
    step = jax.make_jaxpr(plain)(state, preflight.batch_shapes(paper), paper.frozen).jaxpr
    # What nobody reads, such as a gradient to weights where only that to the picture is wanted, no compiler keeps.
    needed, _ = partial_eval.dce_jaxpr(step, [True] * len(step.outvars))
    traced = flops.of_jaxpr(needed)
    expected = flops.per_image(paper) + 2 * flops.by_network(paper)["discriminator"]
    assert 0.995 * expected < traced <= expected  # one pass of the discriminators is 0.012


@pytest.fixture(scope="module")
def method():
    return small_method(small_config())


def test_a_step_costs_what_its_passes_cost(method):
    def costs(**losses):
        config = ml_collections.ConfigDict(method.config.to_dict())
        config.losses.update(losses)
        return flops.per_image(replace(method, config=config))

    without = costs(gradient_penalty=0.0)
    once = flops.by_network(method)
    assert costs() - without == flops.PENALTY * once["discriminator"]
    assert without > 3 * once["generator"] > 0


def test_mfu_is_said_where_the_peak_is_published(method, monkeypatch, caplog):
    assert loop.image_share(method, 1) == 0.0  # nobody publishes this CPU's
    monkeypatch.setattr(loop.chips, "chip_of", lambda kind: chips.chips()["h200"])
    share = loop.image_share(method, 8)
    assert share == pytest.approx(flops.per_image(method) / (8 * 989.4e12))

    class Writers:
        def write(self, step, values):
            self.row = dict(values)

    writers = Writers()
    progress = Progress(writers, 10, 16, 0, share)
    progress.add({"loss": jnp.ones(())})
    caplog.set_level("INFO", "simswap_jax")
    progress.log(1)
    assert writers.row["mfu"] == pytest.approx(writers.row["images_per_second"] * share)
    assert "MFU" in caplog.text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"method": "identity"}, "preflight-method"),
        ({"fsdp": 3}, "fsdp-indivisible"),
        ({"accumulate": 3}, "accumulate-indivisible"),
    ],
)
def test_what_cannot_be_compiled_gets_a_sentence(changes, code):
    config = small_experiment()
    config.update(changes)
    with raises_user_error(code, 3 if 3 in changes.values() else next(iter(changes.values()))):
        preflight.preflight(PreflightRequest(config, slice_of("v5e:2x2", 4)))


class Device:
    """One of a host's, as much as the check asks of it."""

    platform = "gpu"

    def __init__(self, host):
        self.process_index = host


def test_pmap_serves_one_host():
    config = small_experiment()
    config.parallel = "pmap"
    config.batch_size = 2
    method, _ = preflight.abstract_method(config, "mobilefacenet")
    assert method.axis_name == "data"
    with raises_user_error("pmap-of-several-hosts", "2 hosts"):
        preflight.step_of(method, [Device(0), Device(1)])


def test_without_libtpu_a_sentence_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    with raises_user_error("extra-missing", install_command("preflight")):
        preflight.tpu_devices(chips.read("v5e:2x2"))


def test_an_identity_network_needs_no_weights():
    config = small_experiment()
    network = preflight.identity_network(config)
    assert network.name == "arcface101 in place of arcface_checkpoint.tar, which is not here"
    assert preflight.count_parameters(network.variables["params"]) > 50e6
    with raises_user_error("no-identity-shape", "arcface19"):
        preflight.identity_network(config, "arcface19")


# ml_collections loads experiment files in a way that Python 3.12 drops; the warning is about its code.
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
def test_the_status_says_whether_it_fits(report, monkeypatch, capsys):
    words = ["preflight", "--config", "simswap_224", "--hardware", "v5e:4x4", "--bfloat16"]
    seen = []

    def answered(request):
        seen.append((request.config, request.where))
        return report

    monkeypatch.setattr(command, "preflight", answered)
    assert cli.main([*words, "--json", "--batch-per-chip", "8", "--config.losses.gradient_penalty=0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"]
    config, where = seen[0]
    assert (where.batch_per_chip, where.topology) == (8, "v5e:4x4")
    assert {config[part].dtype for part in ("generator", "discriminator", "identity")} == {"bfloat16"}
    assert config.losses.gradient_penalty == 0.5

    def full(request):
        raise preflight.DoesNotFit("it needs more.", "does-not-fit")

    monkeypatch.setattr(command, "preflight", full)
    assert cli.main(words) == 1
    assert "NO" in capsys.readouterr().out
    assert cli.main([*words, "--batch-per-chip", "0"]) == 2


def test_jax_is_told_of_the_cpu_before_it_is_imported(monkeypatch):
    """With an accelerator's plug-in installed and no accelerator, JAX would refuse to start."""
    monkeypatch.delenv("JAX_PLATFORMS")

    def asked(options, fields):
        assert os.environ["JAX_PLATFORMS"] == "cpu"
        raise UserError("asked in time.", "asked-in-time")

    monkeypatch.setattr(command, "request_of", asked)
    with raises_user_error("asked-in-time"):
        command.main(["--config", "a.py", "--hardware", "h100:1"])


def test_triton_without_tiles_gets_a_sentence(report):
    class Step:
        def lower(self, *arguments):
            return self

        def compile(self, **options):
            raise jax.errors.JaxRuntimeError(
                'INTERNAL: no tiles for %dot.1 = dot(%x), metadata={op_name="jit(step)/F"}'
            )

    request = PreflightRequest(small_experiment(), slice_of("h100:1", 2), triton_products=True)
    with raises_user_error("triton-products", "(jit(step)/F)"):
        preflight.compiled(Step(), (), request)


def test_what_is_compiled_without_a_device_is_not_kept():
    """JAX could write such a program into its cache, and failed to read it again."""
    settings = jax.config
    assert settings.jax_compilation_cache_dir
    assert settings.jax_enable_compilation_cache
    with counting_cached() as cached:
        with preflight.uncached():
            jax.jit(lambda x: jnp.cos(x) * 3.25).lower(jnp.ones(7)).compile()
        assert not cached
        jax.jit(lambda x: jnp.cos(x) * 3.25).lower(jnp.ones(7)).compile()
        assert cached  # as before
    assert settings.jax_enable_compilation_cache


@contextlib.contextmanager
def counting_cached():
    """Requests that JAX makes of its compilation cache."""
    seen = []

    def listen(event, **_):
        if event == "/jax/compilation_cache/compile_requests_use_cache":
            seen.append(event)

    jax.monitoring.register_event_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_listener(listen)


@pytest.mark.slow
@needs_libtpu
def test_the_real_step_compiles_for_a_tpu_slice():
    made = preflight.preflight(PreflightRequest(small_experiment(), slice_of("v5e:2x2", 2), "mobilefacenet"))
    assert made.fits
    assert made.program.flops > 0
    assert made.program.cycles > 0
    assert any(one.kind == "all-reduce" for one in made.program.collectives)
    exchanged = sum(one.bytes for one in made.program.collectives)
    trained = made.parameters["generator"] + made.parameters["discriminator"]
    assert exchanged >= 4 * trained  # every gradient, at least


@pytest.mark.slow
@needs_gpu_compiler
def test_the_real_step_compiles_for_a_gpu():
    made = preflight.preflight(PreflightRequest(small_experiment(), slice_of("h100:1", 2), "mobilefacenet"))
    assert made.fits
    assert made.program.collectives == ()
    # Depthwise convolutions may be no products; padded channels may be.
    assert 0.5 < made.program.flops / 2 / made.model_flops < 2.0
    assert made.program.moved > 3 * 4 * made.parameters["generator"]  # parameters and both moments, at least
    said = made.as_dict()["breakdown"]
    assert any(kind.startswith("__cudnn$conv") for kind in said["kinds"])
    assert any(row["line"].startswith("models/") for row in said["largest"])


@pytest.mark.slow
@needs_gpu_compiler
@pytest.mark.parametrize("changes", [{"fsdp": 2}, {"parallel": "pmap"}], ids=["fsdp", "pmap"])
def test_the_real_step_compiles_for_two_gpus(changes):
    config = small_experiment()
    config.update(changes)
    made = preflight.preflight(PreflightRequest(config, slice_of("h100:2", 2), "mobilefacenet"))
    assert made.fits
    exchanged = sum(one.bytes for one in made.program.collectives)
    trained = made.parameters["generator"] + made.parameters["discriminator"]
    assert exchanged >= 4 * trained


def test_a_method_without_an_identity_network_is_compiled_as_it_says():
    config = default_config("fsgan")
    config.generator.preset, config.data.size = "small", 64
    request = PreflightRequest(config, slice_of("v5e:2x2", 4))
    made, network = preflight.abstract_method(preflight.checked_config(request), "")
    assert (network, made.frozen) == ("none", ())
    assert preflight.batch_shapes(made)["target_points"].shape == (16, 98, 2)
