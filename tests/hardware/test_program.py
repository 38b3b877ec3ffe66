"""Programs are read from their text, the compiler's as well as one that this machine just compiled."""

import jax
import jax.numpy as jnp
import pytest

from simswap_jax.hardware import program
from tests.hardware.program_text import TEXT


@pytest.fixture(scope="module")
def parsed():
    return program.read(TEXT)


def test_computations_and_their_operations(parsed):
    assert parsed.entry == "main"
    assert set(parsed.computations) == {"fused_slice", "fused_dot", "body", "main"}
    conv = parsed.computations["main"]["conv"]
    assert (conv.kind, conv.target, conv.operands) == ("custom-call", "__cudnn$convForward", ("x", "k"))
    assert conv.result == "(bf16[2,4,4,5]{3,2,1,0}, u8[4096]{0})"
    assert conv.asked_by == "jit(step)/G/up1/conv"
    assert conv.notes == {"x": {"y": 1}}
    assert parsed.computations["main"]["triton"].calls == ("fused_dot",)


def test_what_runs_and_how_often(parsed):
    ran = [(operation.name, times) for _, operation, times in parsed.run(loops=5)]
    assert ran == [
        *[(name, 1) for name in ("conv", "dx", "dk", "gemm", "triton", "cut")],
        ("copy.1", 3),  # as the compiler says
        ("copy.1", 5),  # as the caller says
        ("sent", 1),
    ]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("conv", "models/simswap.py:65"),
        ("cut", "models/simswap.py:65 > models/ops/resize.py:110"),
        ("triton", "models/layers.py:60"),  # older compilers name a file, without who called it
        ("gemm", ""),
    ],
)
def test_the_line_that_made_an_operation(parsed, name, line):
    assert parsed.made_by(parsed.computations["main"][name]) == line


def test_parents_that_are_not_shifted_are_read_too():
    text = TEXT.replace("parent_frame_id=1}", "parent_frame_id=0}").replace("parent_frame_id=2}", "parent_frame_id=1}")
    text = text.replace("parent_frame_id=3}", "parent_frame_id=2}")
    assert program.frames_of(text) == program.frames_of(TEXT)
    assert program.frames_of(TEXT)[3] == ("/somewhere/simswap_jax/models/ops/resize.py:110", 2)


def test_bytes_of_types():
    assert program.array_bytes("(f32[4,2]{1,0}, bf16[8]{0}, pred[3], s32[], u8[5])") == 32 + 16 + 3 + 4 + 5
    assert program.array_bytes("(f8e4m3fn[16]{0}, s4[8]{0})") == 16 + 4
    assert program.array_bytes("f32[64]{0:T(512)S(1)}") == 256
    assert program.array_bytes("(c64[10]{0}, c128[2]{0})") == 80 + 32


def test_what_a_started_operation_will_have_made():
    gathered = "((bf16[3,8]{1,0:T(8,128)(2,1)}, bf16[4]{0}), (bf16[3,64]{1,0}, /*index=1*/bf16[32]{0}))"
    assert program.array_bytes(program.awaited(gathered)) == 2 * (3 * 64 + 32)
    assert program.array_bytes(program.awaited("(f32[64]{0}, f32[256]{0}, u32[])")) == 1024
    assert program.array_bytes(program.awaited("f32[16]{0}")) == 64


def test_a_program_of_this_machine_is_read():
    def step(x):
        return jax.lax.fori_loop(0, 3, lambda _, x: jnp.sin(x @ x), x).sum()

    text = jax.jit(step).lower(jax.ShapeDtypeStruct((8, 8), jnp.float32)).compile().as_text()
    parsed = program.read(text)
    ran = [(operation.kind, times) for _, operation, times in parsed.run()]
    assert any(times == 3 for _, times in ran)
    assert not {"parameter", "tuple"} & {kind for kind, _ in ran}
