"""A generator exported in each precision: bytes, milliseconds a face, and what its swaps lose.

python benchmarks/onnx_precision.py --data PEOPLE --recognition mobileface_v2.onnx [--model faces] [--pairs 200]
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from one_face import times_by_turns

from simswap_jax import FaceSwapper
from simswap_jax.evaluation.evaluate import find_recogniser
from simswap_jax.evaluation.judges.networks import open_recogniser
from simswap_jax.io.images import read_picture, resized
from simswap_jax.weights.onnx_export import export_generator
from simswap_jax.weights.onnx_precision import PRECISIONS


def main() -> None:
    parse = argparse.ArgumentParser()
    parse.add_argument("--data", type=Path, required=True, help="a folder of people's face crops")
    parse.add_argument("--recognition", required=True, help="an ONNX network that the model was not trained with")
    parse.add_argument("--model", default="faces")
    parse.add_argument("--pairs", type=int, default=200)
    parse.add_argument("--rounds", type=int, default=20)
    options = parse.parse_args()
    swapper = FaceSwapper.from_pretrained(options.model)
    model = swapper.model
    people = [person for person in sorted(options.data.iterdir()) if person.is_dir()]
    chosen = np.random.default_rng(0).integers(0, len(people), (options.pairs, 2))
    chosen = chosen[chosen[:, 0] != chosen[:, 1]]
    sources, targets = ([read_picture(min(people[i].iterdir())) for i in column] for column in chosen.T)
    vectors = swapper.identity_vectors(sources)
    small = np.stack([resized(target, model.face_size) for target in targets])
    values = np.ascontiguousarray(small.transpose(0, 3, 1, 2), np.float32) / 255
    sessions, sizes = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for precision in PRECISIONS:
            file = Path(folder) / f"{precision}.onnx"
            export_generator(model.generator, model.variables, file, precision=precision)
            sizes[precision] = file.stat().st_size / 2**20
            sessions[precision] = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    inputs = {"target": values[:1], "source": vectors[:1]}
    times = times_by_turns({name: partial(one.run, None, inputs) for name, one in sessions.items()}, options.rounds)
    recogniser = open_recogniser(find_recogniser(options.recognition), model.alignment)
    known = recogniser.embed(sources)
    drawn = {}
    print(f"{options.model}, {model.face_size} pixels, {len(targets)} pairs of {len(people)} people")
    for precision, session in sessions.items():
        faces = [session.run(None, {"target": v[None], "source": w[None]})[0][0] for v, w in zip(values, vectors)]
        drawn[precision] = np.rint(np.stack(faces).transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        to_source = (recogniser.embed(list(drawn[precision])) * known).sum(axis=1)
        off = np.abs(drawn[precision].astype(int) - drawn["float32"])
        print(
            f"{precision:<8}{sizes[precision]:7.1f} MiB {1e3 * np.median(times[precision]):7.1f} ms, cosine to source "
            f"{to_source.mean():.4f}, grey levels off {off.mean():.2f} (99.9 %: {np.percentile(off, 99.9):.0f})"
        )


if __name__ == "__main__":
    main()
