"""The peer side of `zoetrope-bench`: reads one case a line, answers with the seconds of one run and the peak megabytes.

Cases: `gemm DTYPE M K N`, `attention DTYPE HEADS TOKENS SIZE`, `conv DTYPE T H W CI CO`,
`blocks DTYPE KIND FRAMES HEIGHT WIDTH` (a guided forward pass of two layers), `vae DTYPE KIND FRAMES HEIGHT WIDTH`,
`t5 DTYPE KIND PROMPTS LENGTH`, `denoise DTYPE demo` (one guided forward pass at the native size),
`decode DTYPE demo` (the native clip). KIND names a folder of random weights that `zoetrope-bench` made.
"""
import os
import resource
import sys
import tempfile
import time

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ROOT = os.environ.get("ZOETROPE_BENCH_MODELS") or os.path.join(tempfile.gettempdir(), "zoetrope-bench-models")
DEMO = os.path.join(os.path.dirname(__file__), "../../../Shared/DemoModel/cogvideox-demo")
cases = {}


def folder(kind):
    return os.path.join(ROOT, f"{kind}-2")


def forward(transformer, frames, height, width, dtype):
    config = transformer.config
    latents = torch.randn(2, frames, config.in_channels, height, width, dtype=dtype)
    text = torch.randn(2, config.max_text_seq_length, config.text_embed_dim, dtype=dtype)
    rotary = None
    if config.use_rotary_positional_embeddings:
        tokens = frames * height * width // 4
        rotary = (torch.randn(tokens, config.attention_head_dim), torch.randn(tokens, config.attention_head_dim))
    return lambda: transformer(
        hidden_states=latents, encoder_hidden_states=text, timestep=torch.tensor([500, 500]),
        image_rotary_emb=rotary, return_dict=False)


def decode(vae, frames, height, width, dtype):
    # Measured: channels last is the faster layout for oneDNN's three-dimensional convolutions.
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv3d):
            module.to(memory_format=torch.channels_last_3d)
    latents = torch.randn(1, vae.config.latent_channels, frames, height, width, dtype=dtype)
    return lambda: vae.decode(latents)


def make(words):
    kind, dtype = words[0], DTYPES[words[1]]
    numbers = [int(word) for word in words[2:] if word.isdigit()]
    if kind == "gemm":
        m, k, n = numbers
        x, w, b = torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype), torch.randn(n, dtype=dtype)
        return lambda: F.linear(x, w, b)
    if kind == "attention":
        heads, tokens, size = numbers
        q, k, v = (torch.randn(1, heads, tokens, size, dtype=dtype) for _ in range(3))
        return lambda: F.scaled_dot_product_attention(q, k, v)
    if kind == "conv":
        t, h, w, ci, co = numbers
        conv = torch.nn.Conv3d(ci, co, 3, padding=(0, 1, 1)).to(dtype).to(memory_format=torch.channels_last_3d)
        x = torch.randn(1, ci, t + 2, h, w, dtype=dtype).to(memory_format=torch.channels_last_3d)
        return lambda: conv(x)
    if kind == "blocks":
        transformer = CogVideoXTransformer3DModel.from_pretrained(
            folder(words[2]), subfolder="transformer", torch_dtype=dtype)
        # Measured: 3–5 % faster compiled. A case that runs once would be timed compiling.
        if numbers[0] * numbers[1] * numbers[2] < 40_000:
            transformer = torch.compile(transformer, dynamic=False)
        return forward(transformer, *numbers, dtype)
    if kind == "vae":
        vae = AutoencoderKLCogVideoX.from_pretrained(folder(words[2]), subfolder="vae", torch_dtype=dtype)
        return decode(vae, *numbers, dtype)
    if kind == "t5":
        from transformers import T5EncoderModel

        encoder = T5EncoderModel.from_pretrained(folder(words[2]), subfolder="text_encoder", torch_dtype=dtype)
        ids = (torch.arange(numbers[1]) * 7 % 1000 + 3).repeat(numbers[0], 1)
        return lambda: encoder(ids)
    pipe = CogVideoXPipeline.from_pretrained(DEMO, torch_dtype=dtype)
    config = pipe.transformer.config
    frames = (config.sample_frames - 1) // 4 + 1
    size = (frames, config.sample_height, config.sample_width)
    if kind == "denoise":
        return forward(torch.compile(pipe.transformer, dynamic=False), *size, dtype)
    return decode(pipe.vae, *size, dtype)


with torch.inference_mode():
    for line in sys.stdin:
        case = line.strip()
        if case not in cases:
            cases[case] = make(case.split())
        start = time.perf_counter()
        cases[case]()
        seconds = time.perf_counter() - start
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
