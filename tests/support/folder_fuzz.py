"""Mutates descriptions of model and identity folders, and state dicts, and has them read: a child process of the tests.

`python folder_fuzz.py KIND SEED COUNT FOLDER`; prints how many were read and how many refused, and the memory it took.
A mutant that takes more than `SECONDS` of the processor ends the process with a traceback.
"""

import copy
import faulthandler
import json
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flax import traverse_util

from simswap_jax.errors import UserError
from simswap_jax.models import GeneratorConfig, families
from simswap_jax.models.identity import IdentityConfig
from simswap_jax.weights import identity_folder, layouts, model_folder, torch_weights

SECONDS = 5  # of the processor for one mutant
ABSURD = [
    *(None, True, False, 0, -1, 2, 1.5, 1e308, float("nan"), float("inf"), 2**31, 2**40, 2**63, 10**300),
    *("", "x" * 5000, "\x1b[2J", "../..", "\ud800", "os:system", "pip.__main__:x", [], [[]], [2**40] * 3, [1] * 5000),
    *({}, {"a": {"b": {}}}, {"\x1b[2J": 1}),
]
GENERATOR = GeneratorConfig(widths=(4, 6, 8), blocks=2, identity_size=16)
IDENTITY = IdentityConfig(layers=(1, 1), widths=(4, 8), size=(16, 16), frame=(16, 16), embedding=16)


def variables(leaves):
    flat = {name: np.ones(shape, np.float32) for name, shape in layouts.flax_shapes(leaves).items()}
    return traverse_util.unflatten_dict(flat, sep="/")


def model():
    return model_folder.ModelFolder(
        generator=GENERATOR,
        variables=variables(layouts.generator(GENERATOR)),
        face_size=32,
        alignment="ffhq",
        identity=IDENTITY,
        identity_variables=variables(layouts.identity(IDENTITY)),
        identity_sha256="ab" * 32,
        identity_name="small.safetensors",
        card={"licence": "Apache-2.0", "steps": [1, 2]},
    )


def places(value, path=()):
    """Paths of all values of a JSON tree."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from places(each, (*path, key))


def changed(tree, rng):
    """A JSON tree of which some values are absurd, gone, or stand elsewhere."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.integers(1, 4)):
        paths = [path for path in places(tree) if path]
        if not paths:
            return tree
        *above, last = paths[int(rng.integers(0, len(paths)))]
        holder = tree
        for key in above:
            holder = holder[key]
        match int(rng.integers(0, 8)):
            case 0:
                del holder[last]
            case 1 if isinstance(holder, dict):
                holder[str(ABSURD[int(rng.integers(0, len(ABSURD)))])[:100]] = holder.pop(last)
            case 2 if isinstance(holder[last], int):
                holder[last] = int(holder[last]) * int(rng.choice([-1, 0, 2, 1000, 2**20]))
            case _:
                holder[last] = copy.deepcopy(ABSURD[int(rng.integers(0, len(ABSURD)))])
    return tree


def bytes_changed(content, rng):
    """Some bytes of a file changed, gone, or there twice."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        at, length = int(rng.integers(0, max(len(data), 1))), int(rng.integers(1, 12))
        match int(rng.integers(0, 5)):
            case 0:
                data[at : at + 1] = rng.bytes(1)
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = rng.bytes(length)
            case 3:
                data[at:at] = bytes(rng.choice(list(b'0123456789"{}[],:-.eN'), length).astype(np.uint8))
            case _:
                data[at : at + length] = data[at : at + length] * int(rng.integers(2, 50))
    return bytes(data)


def of_folder(folder, read: Callable[[], object]):
    """Reads mutants of a folder's config.json."""
    content = (folder / "config.json").read_bytes()

    def mutant(rng):
        if rng.random() < 0.5:
            made = bytes_changed(content, rng)
        else:
            made = json.dumps(changed(json.loads(content), rng)).encode()
        (folder / "config.json").write_bytes(made)
        return read

    return mutant


def model_mutants(place):
    folder = model_folder.write(place / "model", model(), include_identity=True)
    return of_folder(folder, lambda: model_folder.read(folder))


def identity_mutants(place):
    folder = place / "identity"
    identity_folder.write(folder, IDENTITY, variables(layouts.identity(IDENTITY)), {"copy_of": {"sha256": "ab" * 32}})
    return of_folder(folder, lambda: identity_folder.read(folder, "tests"))


def state_dict_mutants(place):
    del place
    loads = {
        torch_weights.load_generator: torch_weights.generator_state_dict(
            families.build(GENERATOR), variables(layouts.generator(GENERATOR))
        ),
        torch_weights.load_identity_network: {
            leaf.key: np.ones(leaf.shape, np.float32) for leaf in layouts.identity(IDENTITY)
        },
    }

    def mutant(rng):
        load, whole = list(loads.items())[int(rng.integers(0, 2))]
        made = dict(whole)
        for _ in range(rng.integers(1, 4)):
            name = list(made)[int(rng.integers(0, len(made)))]
            array = made.pop(name)
            match int(rng.integers(0, 7)):
                case 0:
                    continue
                case 1:
                    name = name.replace(
                        rng.choice(list("0123456789")), str(rng.choice(["99", "9" * 5000, "-1", "\x1b"]))
                    )
                case 2:
                    array = np.zeros([int(rng.choice([0, 1, 3, 99])) for _ in range(rng.integers(0, 5))], np.float32)
                case 3:
                    with np.errstate(all="ignore"):
                        array = array.astype(
                            str(rng.choice(["float64", "int64", "bool", "complex64", "U3", "float16"]))
                        )
                case 4:
                    array = np.full(array.shape, rng.choice([np.nan, np.inf, 1e300, -1]))
                case 5:
                    name = str(rng.choice(["module.", "net.", "\x1b[2J", "x" * 600])) + name
                case _:
                    array = array[..., None]
            made[name] = array
        return lambda: load(made)

    return mutant


KINDS = {"model": model_mutants, "identity": identity_mutants, "state_dict": state_dict_mutants}


def peak():
    """Bytes of memory that this process had at most, of Linux."""
    status = Path("/proc/self/status").read_text() if Path("/proc/self/status").exists() else ""
    return next((int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def main():
    kind, seed, count, place = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    warnings.simplefilter("error")
    faulthandler.register(signal.SIGVTALRM, chain=True)  # says where, then the system ends the process
    rng = np.random.default_rng(seed)
    mutant = KINDS[kind](place)
    before = peak()
    outcomes = {"read": 0, "refused": 0}
    for number in range(count):
        read = mutant(rng)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            read()
            outcomes["read"] += 1
        except UserError as error:
            sentence = str(error)
            assert sentence.isprintable(), f"mutant {number}: {sentence!r}"
            assert sentence.endswith("."), f"mutant {number}: {sentence!r}"
            assert len(sentence) < 2000, f"mutant {number}: {len(sentence)} letters"
            outcomes["refused"] += 1
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(json.dumps({**outcomes, "bytes": peak() - before}))


if __name__ == "__main__":
    main()
