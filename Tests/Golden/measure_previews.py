"""Measures what it costs a denoiser that somebody looks at its previews.

    python measure_previews.py BIN [--first WORDS] [--pairs 6] [--steps 250]

BIN is the folder of the built executables. The demo model makes the same clip again and again, in turn without and with
`zoetrope watch --previews`; the denoiser has one thread, and `--first "chrt -r 10"` puts it ahead of everything else.
Prints milliseconds a step by the denoiser's own clock.
"""

import argparse
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

from measure_tiles import DEMO, PROMPT, Cluster


def milliseconds(cluster, steps, watched, folder):
    """Milliseconds a step of one job, and how many previews its watcher was shown."""
    job = cluster.call("POST", "/v1/videos", dict(
        prompt=PROMPT, seed=1, num_inference_steps=steps, output_type="latent"))
    pictures = folder / job["id"]
    watcher = watched and subprocess.Popen(
        [cluster.binaries / "zoetrope", "watch", job["id"], "--previews", pictures, "--server", cluster.server],
        stdout=subprocess.DEVNULL)
    while job["status"] not in ("completed", "failed"):
        time.sleep(0.2)
        job = cluster.call("GET", f"/v1/videos/{job['id']}")
    if job["status"] == "failed":
        raise SystemExit(job["error"])
    if watcher:
        watcher.wait(timeout=30)
    spent = next(stage["elapsed_ms"] for stage in job["x_stages"] if stage["stage"] == "denoiser")
    return spent / steps, len(list(pictures.glob("*.jpg"))) if watched else 0


def main(binaries, first, pairs, steps):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zoetrope-previews-"))
    cluster = Cluster(binaries, DEMO, folder, first, denoiser=["--threads", "1"])
    alone, watched, shown = [], [], []
    try:
        milliseconds(cluster, steps, False, folder)
        for _ in range(pairs):
            alone.append(milliseconds(cluster, steps, False, folder)[0])
            found, count = milliseconds(cluster, steps, True, folder)
            watched.append(found)
            shown.append(count)
            print(f"{alone[-1]:.2f} ms a step alone, {found:.2f} watched, {count} previews", flush=True)
    finally:
        cluster.stop()
    shutil.rmtree(folder)
    shares = [b / a - 1 for a, b in zip(alone, watched)]
    print(f"medians {statistics.median(alone):.2f} and {statistics.median(watched):.2f} ms; of a pair's difference "
          f"{statistics.median(shares):+.1%} ({min(shares):+.1%} … {max(shares):+.1%}); "
          f"{statistics.median(shown):g} previews in {steps} steps")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("binaries")
    parser.add_argument("--first", default="")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=250)
    arguments = parser.parse_args()
    main(arguments.binaries, arguments.first.split(), arguments.pairs, arguments.steps)
