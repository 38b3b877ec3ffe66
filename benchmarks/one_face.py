"""One face through `FaceSwapper` on a CPU, beside onnxruntime itself with the exported generator; taken in turns.

python benchmarks/one_face.py [--model faces] [--rounds 20]      (or --model 224: random weights)
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import onnxruntime
from swap_batch import random_model

from simswap_jax import FaceSwapper
from simswap_jax.weights.onnx_export import export_generator

CALLS = 5  # in a row, of each round


def main() -> None:
    parse = argparse.ArgumentParser()
    parse.add_argument("--model", default="faces")
    parse.add_argument("--rounds", type=int, default=5)
    options = parse.parse_args()
    model = random_model("224") if options.model == "224" else FaceSwapper.from_pretrained(options.model).model
    rng = np.random.default_rng(0)
    crop = rng.integers(0, 256, (model.face_size, model.face_size, 3)).astype(np.uint8)
    vectors = rng.normal(size=(1, model.network.identity_size)).astype(np.float32)
    vectors /= np.linalg.norm(vectors)
    with tempfile.TemporaryDirectory() as folder:
        file = export_generator(model.generator, model.variables, Path(folder) / "generator.onnx")
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    values = np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / 255
    ways: dict[str, Callable[[], object]] = {
        "onnxruntime itself": lambda: session.run(None, {"target": values, "source": vectors})
    }
    for runtime in ("onnx", "jax"):
        swapper = FaceSwapper(model, runtime=runtime)
        ways[f"FaceSwapper, {runtime}"] = lambda swapper=swapper: swapper.swap_faces([crop], vectors)
    times = times_by_turns(ways, options.rounds)
    own = float(np.median(times["onnxruntime itself"]))
    print(f"{options.model}, {model.face_size} pixels, {jax.local_device_count()} device(s), {options.rounds} rounds")
    for name, each in times.items():
        middle = float(np.median(each))
        print(f"{name:<20}{1e3 * middle:8.1f} ms (best {1e3 * min(each):.1f}), {middle / own:.2f} × onnxruntime's")


def times_by_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each call of each way, some in a row in every round."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            time.sleep(0.1)  # onnxruntime's threads wait for more work by spinning, on the cores of whoever is next
            for number in range(CALLS + 2):
                began = time.perf_counter()
                way()
                if number >= 2:  # compiled, and memory is there
                    times[name].append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    main()
