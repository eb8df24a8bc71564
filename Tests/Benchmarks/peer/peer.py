"""The peer side of `zoetrope-bench`: reads one case a line, answers with the seconds of one run.

Cases: `gemm DTYPE M K N`, `attention DTYPE HEADS TOKENS SIZE`, `conv DTYPE T H W CI CO`,
`denoise DTYPE MODEL` (one guided forward at the native size), `decode DTYPE MODEL` (the native clip).
"""
import os
import sys
import time

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import torch
import torch.nn.functional as F

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
pipelines = {}
cases = {}


def pipeline(model, dtype):
    if (model, dtype) not in pipelines:
        from diffusers import CogVideoXPipeline

        pipe = CogVideoXPipeline.from_pretrained(model, torch_dtype=DTYPES[dtype])
        pipe.set_progress_bar_config(disable=True)
        pipelines[(model, dtype)] = pipe
    return pipelines[(model, dtype)]


def make(words):
    kind, dtype = words[0], DTYPES[words[1]]
    if kind == "gemm":
        m, k, n = map(int, words[2:])
        x, w, b = torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype), torch.randn(n, dtype=dtype)
        return lambda: F.linear(x, w, b)
    if kind == "attention":
        heads, tokens, size = map(int, words[2:])
        q, k, v = (torch.randn(1, heads, tokens, size, dtype=dtype) for _ in range(3))
        return lambda: F.scaled_dot_product_attention(q, k, v)
    if kind == "conv":
        t, h, w, ci, co = map(int, words[2:])
        conv = torch.nn.Conv3d(ci, co, 3, padding=(0, 1, 1)).to(dtype).to(memory_format=torch.channels_last_3d)
        x = torch.randn(1, ci, t + 2, h, w, dtype=dtype).to(memory_format=torch.channels_last_3d)
        return lambda: conv(x)
    pipe = pipeline(words[2], words[1])
    config = pipe.transformer.config
    frames = (config.sample_frames - 1) // 4 + 1
    shape = (frames, config.in_channels, config.sample_height, config.sample_width)
    if kind == "denoise":
        latents = torch.randn(2, *shape, dtype=dtype)
        text = torch.randn(2, config.max_text_seq_length, config.text_embed_dim, dtype=dtype)
        rotary = None
        if config.use_rotary_positional_embeddings:
            rotary = pipe._prepare_rotary_positional_embeddings(
                config.sample_height * 8, config.sample_width * 8, frames, torch.device("cpu"))
        return lambda: pipe.transformer(
            hidden_states=latents, encoder_hidden_states=text, timestep=torch.tensor([500, 500]),
            image_rotary_emb=rotary, return_dict=False)
    latents = torch.randn(1, frames, config.in_channels, config.sample_height, config.sample_width, dtype=dtype)
    return lambda: pipe.decode_latents(latents)


with torch.inference_mode():
    for line in sys.stdin:
        case = line.strip()
        if case not in cases:
            cases[case] = make(case.split())
            cases[case]()
        start = time.perf_counter()
        cases[case]()
        print(time.perf_counter() - start, flush=True)
