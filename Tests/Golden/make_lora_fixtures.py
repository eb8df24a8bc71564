"""Makes the LoRA adapters of loras/ for the golden checkpoints, and what diffusers computes with them.

    python make_lora_fixtures.py    needs what make_fixtures.py needs, and peft; the checkpoints must be there
"""

import json
import shutil

import peft
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from make_fixtures import HERE, SEED, VAE
from safetensors.torch import load_file, save_file

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
# By name: rank, alpha, the layers that it changes, and whether its file says rank and alpha. The second one's scale is
# taken as 1, whatever alpha it was trained with.
ADAPTERS = {
    "style": (4, 8, ATTENTION + [
        "ff.net.0.proj", "ff.net.2", "norm1.linear", "norm2.linear", "norm_out.linear", "proj_out", "patch_embed.proj",
        "patch_embed.text_proj", "time_embedding.linear_1", "time_embedding.linear_2"], True),
    "motion": (2, 2, ATTENTION, False),
}
# By name: checkpoint, sampler, adapters with their weights.
LORA_RUNS = {
    "2b.none": ("2b", "ddim", {}),
    "2b.one": ("2b", "ddim", {"style": 0.8}),
    "2b.two": ("2b", "dpm", {"style": 0.8, "motion": -0.5}),
    "5b.one": ("5b", "dpm", {"motion": 1.0}),
    "5b.two": ("5b", "ddim", {"motion": 1.5, "style": 0.4}),
    "1.5.one": ("1.5", "ddim", {"style": 0.7}),
    "1.5.two": ("1.5", "dpm", {"motion": 1.5, "style": 0.4}),
}


def adapter_files(name, folder) -> None:
    """The adapters of a checkpoint as diffusers saves them, and one of them with the names of others."""
    for index, (adapter, (rank, alpha, targets, says)) in enumerate(ADAPTERS.items()):
        transformer = CogVideoXTransformer3DModel.from_pretrained(HERE / name, subfolder="transformer")
        config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
        transformer.add_adapter(config)
        generator = torch.Generator().manual_seed(500 + index)
        for key, value in transformer.named_parameters():
            if "lora_" in key:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.15)
        weights = peft.utils.get_peft_model_state_dict(transformer)
        CogVideoXPipeline.save_lora_weights(
            folder, transformer_lora_layers=weights, weight_name=f"{adapter}.safetensors",
            transformer_lora_adapter_metadata=config.to_dict() if says else None)
        if name != "2b":
            continue
        # kohya: underscores for dots, and an alpha of its own for every layer.
        kohya, sat = {}, {}
        for key, value in weights.items():
            layer, kind = key.rsplit(".lora_", 1)
            stem = "lora_unet__" + layer.replace(".", "_")
            kohya[f"{stem}.lora_{'down' if kind == 'A.weight' else 'up'}.weight"] = value.contiguous()
            kohya[f"{stem}.alpha"] = torch.tensor(float(alpha))
            if says:
                continue
            _, block, _, projection = layer.split(".")[:4]
            module = "dense" if projection == "to_out" else "query_key_value"
            matrix = f"matrix_{kind[0]}.{dict(to_q=0, to_k=1, to_v=2, to_out=0)[projection]}"
            sat[f"model.diffusion_model.transformer.layers.{block}.attention.{module}.{matrix}"] = value.contiguous()
        save_file(kohya, folder / f"{adapter}-kohya.safetensors")
        if sat:
            save_file(sat, folder / f"{adapter}-sat.safetensors")


@torch.no_grad()
def loras() -> None:
    """Latents after every step of runs with adapters, as `load_lora_weights` and `set_adapters` make them."""
    print("loras")
    root = HERE / "loras"
    expected = {}
    for name in sorted({run[0] for run in LORA_RUNS.values()}):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
        adapter_files(name, root / name)
    for key, (name, sampler, adapters) in LORA_RUNS.items():
        scheduler = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}[sampler]
        pipeline = CogVideoXPipeline(
            tokenizer=None, text_encoder=None, vae=AutoencoderKLCogVideoX(**VAE),
            transformer=CogVideoXTransformer3DModel.from_pretrained(HERE / name, subfolder="transformer").eval(),
            scheduler=scheduler.from_pretrained(HERE / name, subfolder="scheduler"))
        pipeline.set_progress_bar_config(disable=True)
        for adapter in adapters:
            pipeline.load_lora_weights(root / name, weight_name=f"{adapter}.safetensors", adapter_name=adapter)
        if adapters:
            pipeline.set_adapters(list(adapters), list(adapters.values()))
        texts = load_file(HERE / name / "expected.safetensors")
        prompts = [texts[f"text.{kind}.embeddings"][None] for kind in ("negative", "prompt")]
        config, steps = pipeline.transformer.config, []

        def keep(_, index, timestep, values):
            steps.append(values["latents"][0].clone())
            return {}

        pipeline(
            prompt_embeds=prompts[1], negative_prompt_embeds=prompts[0], width=config.sample_width * 8,
            height=config.sample_height * 8, num_frames=config.sample_frames, num_inference_steps=10,
            guidance_scale=6.0, generator=torch.Generator().manual_seed(SEED), output_type="latent",
            callback_on_step_end=keep)
        expected[f"{key}.steps"] = torch.stack(steps)
        print(f"    {key}: latents within ±{steps[-1].abs().max():.3f}, mean {steps[-1].mean():.4f}")
    runs = {key: dict(model=name, scheduler=sampler, loras=adapters)
            for key, (name, sampler, adapters) in LORA_RUNS.items()}
    (root / "runs.json").write_text(json.dumps(runs, indent=2) + "\n")
    save_file({key: value.contiguous() for key, value in expected.items()}, root / "expected.safetensors")
    for file in root.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)


if __name__ == "__main__":
    torch.set_num_threads(1)
    loras()
