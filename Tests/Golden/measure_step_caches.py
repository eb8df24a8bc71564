"""Measures what step caches gain and cost: the time of the denoiser stage and the difference from the run without one.

    python measure_step_caches.py BIN [MODEL] [--prompts N] [--kind frames|latent] [generate's options ...]

BIN is the folder of the built executables; MODEL a model folder (the demo model when left out). Prompts and seeds are
fixed. For every prompt all settings run one after the other, so that a busy machine hurts all alike. Prints one
Markdown table; PSNR is of the 8-bit frames (of the
latents with `--kind latent`), the mean and the worst of the prompts. Needs numpy.
"""

import argparse
import json
import math
import pathlib
import re
import struct
import subprocess
import tempfile

import numpy

from step_cache_prompts import PROMPTS

SETTINGS = [[]] + [
    ["--step-cache", method] + ([] if value is None else ["--step-cache-threshold", str(value)])
    for method, values in (("teacache", (0.1, 0.2, 0.3)), ("first_block", (0.05, 0.1, 0.2)), ("pab", (None,)))
    for value in values
]


def tensor(path) -> numpy.ndarray:
    """The one tensor of a safetensors file."""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    entry = next(value for key, value in header.items() if key != "__metadata__")
    kind = {"U8": numpy.uint8, "F32": numpy.float32}[entry["dtype"]]
    begin, end = entry["data_offsets"]
    return numpy.frombuffer(data[8 + size + begin:8 + size + end], kind).astype(numpy.float64)


def milliseconds(text: str) -> float:
    units = {"min": 60_000, "s": 1000, "h": 3_600_000}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+) (h|min|s)\b", text))


def generate(binaries, options, prompt, seed, file) -> tuple:
    """Milliseconds of the denoiser, steps computed (None without a cache), the tensor."""
    command = [f"{binaries}/zoetrope", "generate", prompt, "--seed", str(seed), "--output", str(file)]
    output = subprocess.run(command + options, capture_output=True, text=True, check=True).stdout
    took = milliseconds(re.search(r"\bdenoiser ([^,\n]*)(?:,|\n)", output[output.rindex("wrote"):])[1])
    computed = re.search(r"steps_computed: (\d+) of (\d+)", output)
    return took, computed and computed[1] + "/" + computed[2], tensor(file)


def decibels(a, b, kind) -> float:
    peak = 255.0 if kind == "frames" else numpy.abs(b).max()
    error = numpy.mean((a - b) ** 2)
    return math.inf if error == 0 else 10 * math.log10(peak ** 2 / error)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("binaries")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--prompts", type=int, default=len(PROMPTS))
    parser.add_argument("--kind", choices=["frames", "latent"], default="frames")
    arguments, rest = parser.parse_known_args()
    rest += ["--output-type", arguments.kind] + (["--model", arguments.model] if arguments.model else [])
    rows = {" ".join(setting): [] for setting in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "out.safetensors"
        for seed, prompt in enumerate(PROMPTS[:arguments.prompts]):
            for setting in SETTINGS:
                rows[" ".join(setting)].append(generate(arguments.binaries, setting + rest, prompt, seed, file))
    plain = rows.pop("")
    print("| cache | steps in full | denoiser, ms | speed-up | PSNR mean, dB | worst |\n|---|---|---|---|---|---|")
    print(f"| none | all | {numpy.median([run[0] for run in plain]):.0f} | 1 | – | – |")
    for name, runs in rows.items():
        quality = [decibels(run[2], base[2], arguments.kind) for run, base in zip(runs, plain)]
        steps = sorted({run[1] for run in runs}, key=lambda text: int(text.split("/")[0]))
        shown = steps[0] if len(steps) == 1 else f"{steps[0].split('/')[0]}…{steps[-1]}"
        speed = numpy.median([base[0] / run[0] for run, base in zip(runs, plain)])
        name = name.replace("--step-cache-threshold ", "").replace("--step-cache ", "")
        print(
            f"| {name} | {shown} | {numpy.median([run[0] for run in runs]):.0f} | {speed:.2f} "
            f"| {numpy.mean(quality):.1f} | {min(quality):.1f} |")


if __name__ == "__main__":
    main()
