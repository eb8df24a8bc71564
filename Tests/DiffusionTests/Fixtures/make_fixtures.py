"""Writes the golden files of DiffusionTests from diffusers' schedulers and torch's CPU generator.

Usage: python make_fixtures.py   (torch 2.15, diffusers 0.42.1, safetensors, numpy)

Model outputs are not stored: step i of every run uses torch.randn from a generator seeded with 1000 + i, which the
Swift generator reproduces bit for bit.
"""

import json
import math
import pathlib

import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent
RELEASED = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
    prediction_type="v_prediction", rescale_betas_zero_snr=True, set_alpha_to_one=True,
    timestep_spacing="trailing", snr_shift_scale=1.0,
)
CLASSES = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}


def generator(seed):
    return torch.Generator().manual_seed(seed)


def run(kind, count, shape, dtype, **overrides):
    """Every step's latents [count, *shape], as the CogVideoX pipeline runs the loop."""
    scheduler = CLASSES[kind](**{**RELEASED, **overrides})
    scheduler.set_timesteps(count)
    noise = generator(42)
    latents = torch.randn(shape, generator=noise, dtype=dtype)
    old = None
    steps = []
    for i, t in enumerate(scheduler.timesteps):
        v = torch.randn(shape, generator=generator(1000 + i))
        if kind == "ddim":
            latents = scheduler.step(v, t, latents, return_dict=False)[0]
        else:
            latents, old = scheduler.step(
                v, old, t, scheduler.timesteps[i - 1] if i > 0 else None, latents, generator=noise, return_dict=False)
        latents = latents.to(dtype)
        steps.append(latents)
    return torch.stack(steps)


def samplers():
    tensors, cases = {}, []

    def add(kind, count, shape, dtype=torch.float32, **overrides):
        name = f"case{len(cases):03d}"
        tensors[name] = run(kind, count, shape, dtype, **overrides)
        cases.append(dict(
            name=name, kind=kind, count=count, shape=list(shape), dtype=str(dtype).removeprefix("torch."),
            config=CLASSES[kind](**{**RELEASED, **overrides}).config | {"_class_name": CLASSES[kind].__name__}))

    for kind in CLASSES:
        for shift in (1.0, 3.0):
            for dtype in (torch.float32, torch.bfloat16):
                for count in (1, 2, 3, 10, 30, 50):
                    add(kind, count, (1, 2, 4, 4, 4), dtype, snr_shift_scale=shift)
        for shape in ((1, 1, 3, 2, 3), (1, 1, 1, 2, 3)):
            for dtype in (torch.float32, torch.bfloat16):
                add(kind, 10, shape, dtype)
        add(kind, 61, (1, 1, 1, 4, 4))
        add(kind, 10, (1, 1, 1, 4, 4), torch.float16)
        for prediction in ("epsilon", "sample"):
            for dtype in (torch.float32, torch.bfloat16):
                add(kind, 10, (1, 1, 1, 4, 4), dtype, prediction_type=prediction, rescale_betas_zero_snr=False)
        for schedule in ("linear", "squaredcos_cap_v2"):
            add(kind, 10, (1, 1, 1, 4, 4), beta_schedule=schedule)
        add(kind, 10, (1, 1, 1, 4, 4), timestep_spacing="leading", steps_offset=1, rescale_betas_zero_snr=False)
        add(kind, 10, (1, 1, 1, 4, 4), timestep_spacing="linspace")
        add(kind, 7, (1, 1, 1, 4, 4), set_alpha_to_one=False)
    save_file(tensors, FOLDER / "samplers.safetensors")
    for case in cases:
        case["config"] = {k: v for k, v in case["config"].items() if not k.startswith("_") or k == "_class_name"}
    return cases


def normals():
    """torch.randn for several seeds, shapes and dtypes; the second draw shows how the first advanced the generator."""
    tensors = {}
    for seed in (0, 1, 42, 4294967295, 4294967338):
        for count in (1, 5, 15, 16, 17, 31, 40, 128, 1000):
            for dtype in (torch.float32, torch.bfloat16, torch.float16):
                g = generator(seed)
                draws = [torch.randn(count, generator=g, dtype=dtype) for _ in range(2)] + [torch.randn(3, generator=g)]
                tensors[f"{seed}.{count}.{str(dtype)[6:]}"] = torch.cat([d.float() for d in draws])
    save_file(tensors, FOLDER / "normals.safetensors")
    g = generator(42)
    big = torch.randn((1, 13, 16, 60, 90), generator=g)
    bits = big.numpy().view(np.uint32).reshape(-1)
    digest = np.uint64(14695981039346656037)
    value = int(digest)
    for word in bits.tolist():
        value = ((value ^ word) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
    return {"seed": 42, "shape": [1, 13, 16, 60, 90], "fnv1aOfWords": str(value)}


def timesteps():
    """One hash a step count, for all counts from 1 to 1000 and all spacings."""
    result = {}
    for spacing in ("trailing", "leading", "linspace"):
        scheduler = CogVideoXDDIMScheduler(**{**RELEASED, "timestep_spacing": spacing})
        hashes = []
        for count in range(1, 1001):
            scheduler.set_timesteps(count)
            value = 14695981039346656037
            for t in scheduler.timesteps.tolist():
                value = ((value ^ (t & 0xFFFFFFFF)) * 1099511628211) & 0xFFFFFFFFFFFFFFFF
            hashes.append(f"{value:x}")
        result[spacing] = hashes
    return result


def schedules():
    result = []
    for overrides in (
        dict(), dict(snr_shift_scale=3.0), dict(rescale_betas_zero_snr=False), dict(beta_schedule="linear"),
        dict(beta_schedule="squaredcos_cap_v2", snr_shift_scale=3.0), dict(beta_start=0.0001, beta_end=0.02),
    ):
        scheduler = CogVideoXDDIMScheduler(**{**RELEASED, **overrides})
        config = {k: v for k, v in scheduler.config.items() if not k.startswith("_")}
        table = scheduler.alphas_cumprod.double().tolist()
        config["_class_name"] = "CogVideoXDDIMScheduler"
        result.append(dict(config=config, alphasCumprod=table[::37] + [table[-1]]))
    return result


def forward_process():
    scheduler = CogVideoXDDIMScheduler(**RELEASED)
    clean = torch.randn((1, 1, 1, 4, 4), generator=generator(7))
    noise = torch.randn((1, 1, 1, 4, 4), generator=generator(8))
    rows = []
    for t in (0, 19, 499, 998, 999):
        step = torch.tensor([t])
        rows.append(dict(
            timestep=t, noisy=scheduler.add_noise(clean, noise, step).flatten().tolist(),
            velocity=scheduler.get_velocity(clean, noise, step).flatten().tolist()))
    return rows


def dynamic_guidance():
    rows = []
    for count, scale in ((50, 6.0), (10, 6.0), (30, 7.5), (1, 6.0)):
        scheduler = CogVideoXDDIMScheduler(**RELEASED)
        scheduler.set_timesteps(count)
        values = [
            1 + scale * ((1 - math.cos(math.pi * ((count - t) / count) ** 5.0)) / 2)
            for t in scheduler.timesteps.tolist()]
        rows.append(dict(count=count, scale=scale, values=values))
    return rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    golden = dict(
        samplers=samplers(), normals=normals(), timesteps=timesteps(), schedules=schedules(),
        forwardProcess=forward_process(), dynamicGuidance=dynamic_guidance())
    (FOLDER / "golden.json").write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
