"""Hold the demo's numbers to its bar: `python .ci/check_demo.py runs/demo/metrics.json`; status 1 where one fails."""

import json
import sys
from pathlib import Path

# name → (measure of the metrics, at least)
BAR = {
    "pairs": (lambda m: m["pairs"], 300),
    "held-out people": (lambda m: m["people"], 100),
    "retrieval": (lambda m: m["retrieval"], 0.45),
    "nearer to the source": (lambda m: m["nearer_source"], 0.90),
    "cosine to source minus to target": (lambda m: m["cosine_source"] - m["cosine_target"], 0.25),
    "PSNR above the untouched target's, dB": (lambda m: m["psnr_result"] - m["psnr_target"], 1.5),
    "PSNR above a colour shift's, dB": (lambda m: m["psnr_result"] - m["psnr_colour_shift"], 1.5),
    "pose R²": (lambda m: m["pose_r2"], 0.6),
}


def main(path: Path) -> int:
    """Print every measure beside its bar."""
    metrics = json.loads(path.read_text(encoding="utf-8"))
    failed = 0
    for name, (measure, least) in BAR.items():
        value = measure(metrics)
        holds = value >= least
        failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {name}: {value:.3f} (at least {least})")
    print(f"     seconds: {metrics['seconds']:.0f} (said, not judged: machines differ)")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
