"""A nursery of trainings to kill, started by test_kill.py: it imports everything once and then forks one process a run.

Reads lines of JSON {"workdir": …, "config": {field: value}}; says "started PID", and whatever the run says; then
"ended STATUS".
"""

import json
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import jax
import numpy as np

from simswap_jax.training import identity, loop


def run(order):
    """Train; leave the last state as ``state.npz``."""
    config = identity.default_config()
    config.network.widths, config.network.layers = (2,), (1,)
    config.network.size, config.data.size = (16, 16), 16
    config.batch_size, config.log_every = 8, 1
    config.update_from_flattened_dict(order["config"])
    done = loop.train(config, order["workdir"])
    leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(done.state)}
    np.savez(Path(order["workdir"]) / "state.npz", **jax.device_get(leaves))
    return 0 if done.finished else 3


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout, force=True)  # flushes
    for name in ("absl", "jax", "orbax"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = 1
            try:
                status = run(json.loads(line))
            except BaseException as error:
                print(f"failed {type(error).__name__}: {error}", flush=True)
            finally:
                os._exit(status)
        print(f"started {child}", flush=True)
        _, status = os.waitpid(child, 0)
        print(f"ended {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    main()
