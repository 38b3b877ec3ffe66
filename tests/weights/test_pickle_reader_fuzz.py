"""Mutated files: read, or refused with one sentence; never anything else, and never much memory."""

import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest

from simswap_jax.errors import UserError
from simswap_jax.weights import files as weight_files
from tests.support.torch_containers import CONTAINERS, Global, Module, Tensor, saved

SAMPLE, ALL = 400, 6000  # mutations in `make test`, in `make test-all`
LIMIT = 4 << 20  # bytes; the files have 2 to 6 thousand


def seeds(folder):
    """Small files of every kind that the reader knows."""
    rng = np.random.default_rng(0)
    arrays = {f"layer{i}.weight": rng.standard_normal((3, 2), np.float32) for i in range(4)}
    state_dict = OrderedDict((name, Tensor(array)) for name, array in arrays.items())
    module = Module(Global("nets", "Net"), state_dict, modules={"inner": Module(Global("nets", "Inner"), state_dict)})
    checkpoint = {"epoch": 3, "net": module, "optimizer": {"state": {0: state_dict}, "param_groups": [{"lr": 0.1}]}}
    files = []
    for container in CONTAINERS:
        for protocol in (2, 4):
            files += [saved(content, container, protocol) for content in (state_dict, checkpoint)]
    weight_files.save(arrays, folder / "seed.safetensors")
    return [*files, (folder / "seed.safetensors").read_bytes()]


def mutated(content, rng):
    """The file with a few bytes changed, removed, repeated, moved, or cut off."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        # pickles and tables stand at either end: go there more often than into the numbers
        reach = int(rng.choice([64, 512, len(data)]))
        at = int(rng.integers(0, max(min(reach, len(data)), 1)))
        if rng.random() < 0.3:
            at = max(len(data) - 1 - at, 0)
        length = int(rng.integers(1, 12))
        match int(rng.integers(0, 7)):
            case 0:
                data[at : at + 1] = bytes([int(rng.integers(0, 256))])
            case 1:
                data[at : at + length] = b""
            case 2:
                data[at:at] = rng.bytes(length)
            case 3:
                data[at : at + length] = data[at : at + length] * int(rng.integers(2, 50))
            case 4:
                other = int(rng.integers(0, len(data) or 1))
                data[at : at + length] = data[other : other + length]
            case 5:
                data[at : at + 4] = int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000])).to_bytes(4, "little")
            case _ if rng.random() < 0.3:
                del data[at:]
            case _:
                data[at : at + 1] = bytes([data[at] ^ (1 << int(rng.integers(0, 8)))]) if data else b""
    return bytes(data)


def fuzz(folder, count, seed):
    """Reads `count` mutated files; gives how many were read and how many refused."""
    rng = np.random.default_rng(seed)
    files = seeds(folder)
    outcomes = {"read": 0, "refused": 0}
    for i in range(count):
        content = mutated(files[i % len(files)], rng)
        path = folder / ("net.safetensors" if i % len(files) == len(files) - 1 else "net.pth")
        path.write_bytes(content)
        tracemalloc.start()
        try:
            found = weight_files.read(path)
            assert sum(array.nbytes for array in found.tensors.values()) <= 4 * len(content) + (1 << 20)
            outcomes["read"] += 1
        except UserError as error:
            sentence = str(error)
            assert sentence.endswith(".")
            assert sentence.isprintable()
            outcomes["refused"] += 1
        except Exception as error:
            (folder / "culprit.bin").write_bytes(content)
            pytest.fail(f"mutation {i} of seed {seed}: {type(error).__name__}: {error} ({folder / 'culprit.bin'})")
        finally:
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert most < LIMIT, f"mutation {i} of seed {seed} took {most:,} bytes"
    return outcomes


def test_a_sample_of_mutated_files(tmp_path):
    outcomes = fuzz(tmp_path, SAMPLE, seed=0)
    assert outcomes["refused"] > SAMPLE / 4
    assert outcomes["read"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_many_mutated_files(tmp_path, seed):
    outcomes = fuzz(tmp_path, ALL // 2, seed)
    assert outcomes["refused"] > ALL / 8
    assert outcomes["read"] > 0
