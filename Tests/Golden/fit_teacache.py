"""Fits TeaCache's polynomial to a model, as its authors did for the released ones: from the relative L1 change of the
time embedding between two steps to that of the network's output, over whole uncached runs.

    python fit_teacache.py MODEL [STEPS ...]    needs torch, diffusers, transformers; prints teacache_coefficients

The numbers go into the model folder's zoetrope.json. Prompts and seeds are fixed, so a fit can be repeated.
"""

import json
import sys

import numpy
import torch
from diffusers import CogVideoXPipeline

from step_cache_prompts import PROMPTS

DEGREE = 4


def change(after, before) -> float:
    return ((after - before).abs().mean() / before.abs().mean()).item()


@torch.no_grad()
def main(folder: str, counts: list) -> None:
    pipeline = CogVideoXPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    transformer, points, outputs, embeddings = pipeline.transformer, [], [], []
    transformer.register_forward_hook(lambda module, given, output: outputs.append(output[0]))
    transformer.time_embedding.register_forward_hook(lambda module, given, output: embeddings.append(output))
    for count in counts:
        for seed, prompt in enumerate(PROMPTS):
            outputs.clear()
            embeddings.clear()
            pipeline(
                prompt, num_inference_steps=count, guidance_scale=4.0, generator=torch.Generator().manual_seed(seed),
                max_sequence_length=transformer.config.max_text_seq_length, output_type="latent",
                height=transformer.config.sample_height * 8, width=transformer.config.sample_width * 8,
                num_frames=transformer.config.sample_frames)
            pairs = zip(embeddings, embeddings[1:], outputs, outputs[1:])
            points += [(change(b, a), change(d, c)) for a, b, c, d in pairs]
    x, y = numpy.array(points).T
    coefficients = numpy.polyfit(x, y, DEGREE)
    error = numpy.sqrt(numpy.mean((numpy.polyval(coefficients, x) - y) ** 2))
    print(f"embedding changes {x.min():.3f} to {x.max():.3f}, output changes {y.min():.3f} to {y.max():.3f}")
    print(f"correlation {numpy.corrcoef(x, y)[0, 1]:.2f}, root mean square error of the fit {error:.3f}")
    print(json.dumps({"teacache_coefficients": [float(f"{value:.6g}") for value in coefficients]}))


if __name__ == "__main__":
    main(sys.argv[1], [int(count) for count in sys.argv[2:]] or [10, 20, 25, 50])
