"""Train the evaluators of rendered people that ship: ``python -m simswap_jax.contrib.rendered.cli NETWORK …``."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from simswap_jax.contrib.rendered import identity_judge, pose_judge


def main(arguments: Sequence[str]) -> int:
    """Train one; returns 0."""
    options = parser().parse_args(arguments)
    if options.network == "pose-judge":
        pose_judge.train_judge(options.output, options.people, options.steps)
    else:
        identity_judge.train_judge(options.workdir)
    return 0


def parser() -> argparse.ArgumentParser:
    """The program's arguments."""
    parse = argparse.ArgumentParser("python -m simswap_jax.contrib.rendered.cli", description=__doc__)
    networks = parse.add_subparsers(dest="network", required=True)
    identity = networks.add_parser("identity-judge", help="the recogniser")
    identity.add_argument("--workdir", type=Path, required=True, help="gets people and training/model")
    pose = networks.add_parser("pose-judge", help="the head-pose network")
    pose.add_argument("--output", type=Path, required=True, help="where the weights go (.safetensors)")
    pose.add_argument("--people", type=int, default=3000, help="how many people it learns from, eight pictures each")
    pose.add_argument("--steps", type=int, default=2500, help="how many batches of 128")
    return parse


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    raise SystemExit(main(sys.argv[1:]))
