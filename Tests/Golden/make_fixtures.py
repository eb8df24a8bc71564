"""Makes the golden fixtures of this folder from the reference implementation.

Every fixture is a tiny CogVideoX checkpoint with random weights, written by `save_pretrained`, together with what
diffusers and transformers computed from it (`expected.safetensors`, float32) and the requests that were made
(`request.json`, one object a run; the keys of a run's tensors begin with its name).

    python make_fixtures.py                needs torch, diffusers, transformers, sentencepiece; writes beside this file
    python make_fixtures.py step-caches    only what step caches do on the checkpoints that are there
    python make_fixtures.py encoder        only what the autoencoders' encoders do on them
    python make_fixtures.py conditioned    only whole runs that begin with an image or a video

What an autoencoder does in tiles is made by `make_tiled_fixtures.py` from the checkpoint that is there. The weights
depend on the torch version, so all fixtures must be made anew together.
"""

import json
import math
import pathlib
import shutil
import sys

import numpy
import PIL.Image
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXFunControlPipeline,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    CogVideoXVideoToVideoPipeline,
)
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from diffusers.hooks import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.hooks.first_block_cache import FBCHeadBlockHook
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, T5Config, T5EncoderModel

HERE = pathlib.Path(__file__).parent
TOKENIZER = HERE.parent.parent / "Shared/DemoModel/cogvideox-demo/tokenizer"
PROMPT = "the sun rising over green hills"
NEGATIVE = "snow"
SEED = 42

VAE = dict(
    block_out_channels=(8, 8, 16, 16), latent_channels=4, layers_per_block=1, norm_num_groups=4,
    sample_height=48, sample_width=64,
)
TEXT = dict(d_model=32, d_kv=16, num_heads=2, d_ff=48, num_layers=2, feed_forward_proj="gated-gelu", vocab_size=218)
TRANSFORMER = dict(
    num_attention_heads=2, attention_head_dim=16, num_layers=2, in_channels=4, out_channels=4, time_embed_dim=24,
    text_embed_dim=32, sample_width=8, sample_height=6, sample_frames=9, max_text_seq_length=16,
)
SCHEDULER = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
    prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
)

# name: changes to the transformer, the autoencoder, the scheduler; tokenizer files; frames of the native request
FIXTURES = {
    "2b": dict(
        transformer=dict(use_rotary_positional_embeddings=False), vae=dict(scaling_factor=1.15258426),
        scheduler=dict(snr_shift_scale=3.0), tokenizer=["spiece.model", "tokenizer_config.json"], pipeline=True,
        sizes=[(3, 6, 8), (2, 8, 4)],
    ),
    "5b": dict(
        transformer=dict(use_rotary_positional_embeddings=True, attention_head_dim=32, max_text_seq_length=24),
        vae=dict(scaling_factor=0.7), scheduler=dict(snr_shift_scale=1.0),
        tokenizer=["tokenizer.json", "tokenizer_config.json"], pipeline=True, sizes=[(3, 6, 8), (2, 10, 4), (5, 8, 14)],
    ),
    "1.5": dict(
        transformer=dict(
            use_rotary_positional_embeddings=True, patch_size_t=2, patch_bias=False, sample_width=8, sample_height=6),
        vae=dict(scaling_factor=0.7, invert_scale_latents=True, block_out_channels=(8, 8, 16, 24)),
        scheduler=dict(snr_shift_scale=1.0), tokenizer=["spiece.model", "tokenizer_config.json"],
        pipeline=True, sizes=[(4, 6, 8), (2, 12, 6)],
    ),
    "5b-i2v": dict(
        transformer=dict(
            use_rotary_positional_embeddings=True, use_learned_positional_embeddings=True, in_channels=8),
        vae=dict(scaling_factor=0.7), scheduler=dict(snr_shift_scale=1.0), tokenizer=[], pipeline=False,
        sizes=[(3, 6, 8)], text=dict(feed_forward_proj="relu"),
    ),
    "1.5-i2v": dict(
        transformer=dict(
            use_rotary_positional_embeddings=True, patch_size_t=2, patch_bias=False, in_channels=8, ofs_embed_dim=24),
        vae=dict(scaling_factor=0.7, invert_scale_latents=True), scheduler=dict(snr_shift_scale=1.0), tokenizer=[],
        pipeline=False, sizes=[(4, 6, 8)], text=dict(feed_forward_proj="gated-silu"),
    ),
}

RUNS = {
    "ddim": dict(scheduler="ddim", num_inference_steps=10, use_dynamic_cfg=False),
    "dpm": dict(scheduler="dpm", num_inference_steps=10, use_dynamic_cfg=False),
    "dynamic": dict(scheduler="dpm", num_inference_steps=10, use_dynamic_cfg=True),
    "ddim50": dict(scheduler="ddim", num_inference_steps=50, use_dynamic_cfg=False),
}


def randomize(module: torch.nn.Module, generator: torch.Generator, gain: float = 1.0) -> None:
    """Gives every parameter and saved buffer random values of the size that keeps activations near one."""
    for name, value in module.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("pos_embedding"):
            noise *= 0.3
        elif value.ndim >= 2:
            noise *= gain / math.sqrt(value[0].numel())
        elif name.endswith("bias"):
            noise *= 0.1
        else:
            noise = 1 + 0.2 * noise
        if ".conv_y.conv.bias" in name:
            noise += 1
        value.copy_(noise)


def rotary(config, frames: int, height: int, width: int):
    """The rotary tables of the pipeline, for grids that the pipeline itself refuses as well."""
    grid_height, grid_width = height // config.patch_size, width // config.patch_size
    base_height, base_width = config.sample_height // config.patch_size, config.sample_width // config.patch_size
    if config.patch_size_t is None:
        region = get_resize_crop_region_for_grid((grid_height, grid_width), base_width, base_height)
        return get_3d_rotary_pos_embed(
            embed_dim=config.attention_head_dim, crops_coords=region, grid_size=(grid_height, grid_width),
            temporal_size=frames)
    return get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim, crops_coords=None, grid_size=(grid_height, grid_width),
        temporal_size=(frames + config.patch_size_t - 1) // config.patch_size_t, grid_type="slice",
        max_size=(max(base_height, grid_height), max(base_width, grid_width)))


def forwards(transformer, sizes, generator, expected) -> None:
    """Transformer predictions for two prompts at every size."""
    config = transformer.config
    prompts = torch.randn(2, config.max_text_seq_length, config.text_embed_dim, generator=generator)
    expected["forward.prompts"] = prompts
    for index, (frames, height, width) in enumerate(sizes):
        latents = torch.randn(1, frames, config.in_channels, height, width, generator=generator)
        timestep = 499 + 100 * index
        tables = rotary(config, frames, height, width) if config.use_rotary_positional_embeddings else None
        prediction = transformer(
            latents.expand(2, -1, -1, -1, -1), prompts, torch.tensor([timestep, timestep]),
            ofs=None if config.ofs_embed_dim is None else torch.tensor([2.0]), image_rotary_emb=tables,
            return_dict=False)[0]
        expected[f"forward.{index}.latents"] = latents[0]
        expected[f"forward.{index}.timestep"] = torch.tensor([timestep], dtype=torch.int32)
        expected[f"forward.{index}.prediction"] = prediction


def run(pipeline, name, options, expected) -> dict:
    """One whole generation: latents after every step, then frames."""
    classes = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}
    pipeline.scheduler = classes[options["scheduler"]].from_config(pipeline.scheduler.config)
    config = pipeline.transformer.config
    request = dict(
        prompt=PROMPT, negative_prompt=NEGATIVE, width=config.sample_width * 8, height=config.sample_height * 8,
        num_frames=config.sample_frames, guidance_scale=6.0, seed=SEED, fps=8, **options)
    steps = []

    def keep(_, index, timestep, values):
        steps.append(values["latents"][0].clone())
        return {}

    frames = pipeline(
        prompt=PROMPT, negative_prompt=NEGATIVE, width=request["width"], height=request["height"],
        num_frames=request["num_frames"], num_inference_steps=options["num_inference_steps"], guidance_scale=6.0,
        use_dynamic_cfg=options["use_dynamic_cfg"], generator=torch.Generator().manual_seed(SEED),
        max_sequence_length=config.max_text_seq_length, output_type="pt", callback_on_step_end=keep,
    ).frames[0]
    frames = frames.permute(0, 2, 3, 1).contiguous()
    if name == "ddim50":
        expected[f"{name}.latents"] = steps[-1]
    else:
        expected[f"{name}.steps"] = torch.stack(steps)
    if name == "ddim":
        expected[f"{name}.frames_float"] = frames
    if name in ("ddim", "dpm"):
        expected[f"{name}.frames"] = (frames * 255).round().to(torch.uint8)
    spread = f"latents within ±{steps[-1].abs().max():.3f}, frames mean {frames.mean():.3f} sd {frames.std():.3f}"
    print(f"    {name}: {spread}")
    return request


def pipeline_outputs(pipeline, name, generator, expected) -> dict:
    """Everything that a text-to-video request passes through."""
    length = pipeline.transformer.config.max_text_seq_length
    for key, text in (("prompt", PROMPT), ("negative", NEGATIVE)):
        ids = pipeline.tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
        expected[f"text.{key}.ids"] = ids[0].to(torch.int32)
        expected[f"text.{key}.embeddings"] = pipeline.text_encoder(ids)[0][0]
    config = pipeline.transformer.config
    count = (config.sample_frames - 1) // 4 + 1
    if config.patch_size_t is not None and count % config.patch_size_t:
        count += config.patch_size_t - count % config.patch_size_t
    shape = (1, count, config.out_channels, config.sample_height, config.sample_width)
    expected["initial_latents"] = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))[0]
    requests = {key: run(pipeline, key, options, expected) for key, options in RUNS.items()}
    for frames in (1, 2, 4, 5) if name == "2b" else (3,):
        latents = torch.randn(1, config.out_channels, frames, 2, 4, generator=generator)
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
        expected[f"decode.{frames}.latents"] = latents[0].permute(1, 0, 2, 3).contiguous()
        expected[f"decode.{frames}.frames"] = (decoded[0] * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0).contiguous()
    return requests


@torch.no_grad()
def make(name: str, recipe: dict) -> None:
    print(name)
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(sum(name.encode()))
    transformer = CogVideoXTransformer3DModel(**(TRANSFORMER | recipe["transformer"])).eval()
    vae = AutoencoderKLCogVideoX(**(VAE | recipe["vae"])).eval()
    text_encoder = T5EncoderModel(T5Config(**(TEXT | recipe.get("text", {})))).eval()
    for module, gain in ((transformer, 1.0), (vae, 1.0), (text_encoder, 1.5)):
        randomize(module, generator, gain)
    # Latents stay near their usual range and most pixels off the clamps, where differences would not show.
    transformer.proj_out.weight.mul_(0.6)
    vae.decoder.conv_out.conv.weight.mul_(0.3)
    # A fresh position table is float64; released files hold it in the dtype of the weights.
    transformer.float()
    scheduler = CogVideoXDDIMScheduler(**(SCHEDULER | recipe["scheduler"]))
    expected: dict[str, torch.Tensor] = {}
    forwards(transformer, recipe["sizes"], generator, expected)
    if not recipe["pipeline"]:
        transformer.save_pretrained(folder / "transformer")
        vae.save_config(folder / "vae")
        text_encoder.save_pretrained(folder / "text_encoder")
        ids = torch.randint(0, TEXT["vocab_size"], (1, 40), generator=generator)
        expected["text.prompt.ids"] = ids[0].to(torch.int32)
        expected["text.prompt.embeddings"] = text_encoder(ids)[0][0]
        scheduler.save_pretrained(folder / "scheduler")
        (folder / "model_index.json").write_text(
            json.dumps({"_class_name": "CogVideoXImageToVideoPipeline"}, indent=2) + "\n")
    else:
        (folder / "tokenizer").mkdir(parents=True)
        for file in recipe["tokenizer"]:
            shutil.copy(TOKENIZER / file, folder / "tokenizer" / file)
        pipeline = CogVideoXPipeline(
            tokenizer=AutoTokenizer.from_pretrained(TOKENIZER), text_encoder=text_encoder, vae=vae,
            transformer=transformer, scheduler=scheduler)
        pipeline.set_progress_bar_config(disable=True)
        requests = pipeline_outputs(pipeline, name, generator, expected)
        pipeline.scheduler = scheduler
        saved = folder / "saved"
        pipeline.save_pretrained(saved)
        shutil.rmtree(saved / "tokenizer")
        for entry in saved.iterdir():
            entry.rename(folder / entry.name)
        saved.rmdir()
        (folder / "request.json").write_text(json.dumps(requests, indent=2) + "\n")
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")


# Frames of the clips that every encoder reads: whole chunks, the first longer, and counts that no pipeline makes.
ENCODED_FRAMES = {"2b": (1, 5, 9, 17, 25, 12), "5b": (9,), "1.5": (17,)}


@torch.no_grad()
def encoder() -> None:
    """Moments of random clips, and the sample that a seed draws of them."""
    for name, counts in ENCODED_FRAMES.items():
        vae = AutoencoderKLCogVideoX.from_pretrained(HERE / name, subfolder="vae").eval()
        generator = torch.Generator().manual_seed(sum(name.encode()) + 1)
        expected = {}
        for count in counts:
            frames = torch.rand(1, 3, count, 16, 32, generator=generator) * 2 - 1
            distribution = vae.encode(frames).latent_dist
            sample = distribution.sample(torch.Generator().manual_seed(SEED))
            key = f"encode.{count}"
            expected[f"{key}.frames"] = frames[0].permute(1, 2, 3, 0)
            expected[f"{key}.moments"] = distribution.parameters[0].permute(1, 0, 2, 3)
            expected[f"{key}.sample"] = sample[0].permute(1, 0, 2, 3)
            print(f"    {name} {key}: moments sd {distribution.parameters.std():.3f}")
        save_file({key: value.contiguous() for key, value in expected.items()}, HERE / name / "encoder.safetensors")


# Runs that begin with pixels: pipeline, checkpoint of the transformer, checkpoint of everything else, options.
CONDITIONED = {
    "image": ("image", "5b-i2v", "5b", dict(scheduler="ddim")),
    "image-dpm": ("image", "5b-i2v", "5b", dict(scheduler="dpm", use_dynamic_cfg=True)),
    "image-1.5": ("image", "1.5-i2v", "1.5", dict(scheduler="dpm")),
    "video": ("video", "2b", "2b", dict(scheduler="ddim", strength=0.6)),
    "video-dpm": ("video", "5b", "5b", dict(scheduler="dpm", strength=0.8)),
    "video-whole": ("video", "5b", "5b", dict(scheduler="ddim", strength=1.0)),
    "control": ("control", "5b-i2v", "5b", dict(scheduler="ddim")),
}
PIPELINES = {
    "image": CogVideoXImageToVideoPipeline, "video": CogVideoXVideoToVideoPipeline,
    "control": CogVideoXFunControlPipeline,
}


@torch.no_grad()
def conditioned() -> None:
    """Latents after every step of runs that begin with an image or a video, and the frames."""
    print("conditioned")
    folder = HERE / "conditioned"
    folder.mkdir(exist_ok=True)
    expected, requests = {}, {}
    for index, (key, (kind, name, base, options)) in enumerate(CONDITIONED.items()):
        transformer = CogVideoXTransformer3DModel.from_pretrained(HERE / name, subfolder="transformer").eval()
        scheduler = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}[options["scheduler"]]
        pipeline = PIPELINES[kind](
            tokenizer=AutoTokenizer.from_pretrained(TOKENIZER),
            text_encoder=T5EncoderModel.from_pretrained(HERE / base, subfolder="text_encoder").eval(),
            vae=AutoencoderKLCogVideoX.from_pretrained(HERE / base, subfolder="vae").eval(), transformer=transformer,
            scheduler=scheduler.from_pretrained(HERE / name, subfolder="scheduler"))
        pipeline.set_progress_bar_config(disable=True)
        config = transformer.config
        width, height, frames = config.sample_width * 8, config.sample_height * 8, config.sample_frames
        generator = torch.Generator().manual_seed(1000 + index)
        count = 1 if kind == "image" else frames
        pixels = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=generator)
        pictures = [PIL.Image.fromarray(frame.numpy()) for frame in pixels]
        request = dict(
            prompt=PROMPT, negative_prompt=NEGATIVE, width=width, height=height, num_inference_steps=10,
            guidance_scale=6.0, use_dynamic_cfg=options.get("use_dynamic_cfg", False))
        arguments = dict(request)
        if kind == "image":
            arguments |= dict(image=pictures[0], num_frames=frames)
        elif kind == "video":
            arguments |= dict(video=pictures, strength=options["strength"])
        else:
            arguments |= dict(control_video=pictures)
        steps = []

        def keep(_, index, timestep, values):
            steps.append(values["latents"][0].clone())
            return {}

        made = pipeline(
            **arguments, generator=torch.Generator().manual_seed(SEED), max_sequence_length=config.max_text_seq_length,
            output_type="pt", callback_on_step_end=keep).frames[0]
        expected[f"{key}.pixels"] = pixels
        expected[f"{key}.steps"] = torch.stack(steps)
        expected[f"{key}.frames"] = (made.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
        requests[key] = request | options | dict(
            kind=kind, transformer=name, base=base, num_frames=frames, seed=SEED)
        print(f"    {key}: {len(steps)} steps, latents within ±{steps[-1].abs().max():.3f}, {len(made)} frames")
    (folder / "requests.json").write_text(json.dumps(requests, indent=2) + "\n")
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)


# Step caches: checkpoint, method and setting of every run. Thresholds lie where tiny models skip some of the steps,
# and away from every change that occurs, so that rounding decides nothing.
STEP_CACHES = [
    ("2b", "first_block", 0.8), ("2b", "pab", 2), ("2b", "teacache", 0.5),
    ("5b", "first_block", 0.9), ("5b", "pab", 3), ("5b", "teacache", 0.5),
    ("demo", "first_block", 0.3), ("demo", "pab", 2), ("demo", "teacache", 0.5),
]
STEP_CACHE_STEPS = 25
# The relative change itself, scaled: the published polynomials do not fit these weights.
STEP_CACHE_COEFFICIENTS = [0.3, 0.0]


class TeaCacheStack(torch.nn.Module):
    """All blocks as one, which adds what the stack changed on an earlier step where `plan` says so."""

    def __init__(self, blocks, plan):
        super().__init__()
        self.blocks, self.plan, self.step, self.change = blocks, plan, 0, None

    def forward(self, hidden_states, encoder_hidden_states, **rest):
        reuse, self.step = self.plan[self.step], self.step + 1
        if reuse:
            return hidden_states + self.change[0], encoder_hidden_states + self.change[1]
        video, text = hidden_states, encoder_hidden_states
        for block in self.blocks:
            video, text = block(hidden_states=video, encoder_hidden_states=text, **rest)
        self.change = video - hidden_states, text - encoder_hidden_states
        return video, text


def teacache_plan(transformer, timesteps, threshold) -> list:
    """Which steps reuse, by the accumulated rescaled change of the time embedding."""
    embedding = transformer.time_embedding(transformer.time_proj(timesteps)).numpy().astype(numpy.float64)
    plan, accumulated = [False], 0.0
    for before, after in zip(embedding[:-2], embedding[1:-1]):
        accumulated += numpy.polyval(STEP_CACHE_COEFFICIENTS, abs(after - before).mean() / abs(before).mean())
        plan.append(bool(accumulated < threshold))
        accumulated = accumulated if plan[-1] else 0.0
    return plan + [False]


def step_cache(name, method, setting, tensors) -> dict:
    """One run of a checkpoint with a step cache: what every step computed, and the latents at the end."""
    folder = TOKENIZER.parent if name == "demo" else HERE / name
    transformer = CogVideoXTransformer3DModel.from_pretrained(folder / "transformer").eval()
    scheduler = CogVideoXDDIMScheduler.from_pretrained(folder / "scheduler")
    vae = AutoencoderKLCogVideoX(**VAE)
    pipeline = CogVideoXPipeline(None, None, vae, transformer, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    config, layers = transformer.config, len(transformer.transformer_blocks)
    if name == "demo":
        generator = torch.Generator().manual_seed(SEED)
        shape = (2, config.max_text_seq_length, config.text_embed_dim)
        prompts = tensors.setdefault("demo.prompts", torch.randn(shape, generator=generator).mul(0.2))
    else:
        prompts = load_file(folder / "expected.safetensors")["forward.prompts"]
    changes, calls = [], []
    attention, decide = torch.nn.functional.scaled_dot_product_attention, FBCHeadBlockHook._should_compute_remaining_blocks

    def counted(*arguments, **options):
        calls[-1] += 1
        return attention(*arguments, **options)

    def recorded(hook, residual):
        known = hook.state_manager.get_state().head_block_residual
        changes.append(None if known is None else ((residual - known).abs().mean() / known.abs().mean()).item())
        return decide(hook, residual)

    scheduler.set_timesteps(STEP_CACHE_STEPS)
    if method == "teacache":
        stack = TeaCacheStack(transformer.transformer_blocks, teacache_plan(transformer, scheduler.timesteps, setting))
        transformer.transformer_blocks = torch.nn.ModuleList([stack])
    elif method == "first_block":
        transformer.enable_cache(FirstBlockCacheConfig(threshold=setting))
    else:
        transformer.enable_cache(PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=setting, spatial_attention_timestep_skip_range=(100, 850),
            current_timestep_callback=lambda: pipeline.current_timestep))
    transformer.register_forward_pre_hook(lambda *_: calls.append(0))
    torch.nn.functional.scaled_dot_product_attention = counted
    FBCHeadBlockHook._should_compute_remaining_blocks = recorded
    try:
        frames = config.sample_frames // 4 + 1
        noise = torch.randn(
            (1, frames, config.in_channels, config.sample_height, config.sample_width),
            generator=torch.Generator().manual_seed(SEED))
        latents = pipeline(
            prompt_embeds=prompts[1:], negative_prompt_embeds=prompts[:1], latents=noise, guidance_scale=4.0,
            height=config.sample_height * 8, width=config.sample_width * 8, num_frames=config.sample_frames,
            num_inference_steps=STEP_CACHE_STEPS, output_type="latent").frames
    finally:
        torch.nn.functional.scaled_dot_product_attention = attention
        FBCHeadBlockHook._should_compute_remaining_blocks = decide
    full = [count == layers for count in calls]
    gap = min((abs(change - setting) for change in changes if change is not None), default=math.inf)
    print(f"    {name} {method}: {sum(full)} of {len(full)} steps in full, nearest change {gap:.4f} off")
    tensors[f"{name}.{method}.latents"] = latents[0]
    return dict(
        model=name, method=method, setting=setting, full=full,
        changes=changes if method == "first_block" else None,
        coefficients=STEP_CACHE_COEFFICIENTS if method == "teacache" else None)


@torch.no_grad()
def step_caches() -> None:
    print("step-caches")
    folder = HERE / "step-caches"
    folder.mkdir(exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    runs = [step_cache(*recipe, tensors) for recipe in STEP_CACHES]
    text = ",\n".join("  " + json.dumps(run) for run in runs)
    (folder / "runs.json").write_text(f"[\n{text}\n]\n")
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "expected.safetensors")
    for file in folder.iterdir():
        file.chmod(0o644)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parts = {"step-caches": step_caches, "encoder": encoder, "conditioned": conditioned}
    if sys.argv[1:]:
        sys.exit(parts[sys.argv[1]]())
    for name, recipe in FIXTURES.items():
        make(name, recipe)
    encoder()
    conditioned()
    step_caches()
    for name in FIXTURES:
        for file in (HERE / name).rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
    total = sum(file.stat().st_size for name in FIXTURES for file in (HERE / name).rglob("*") if file.is_file())
    print(f"{total / 1e6:.2f} MB")
