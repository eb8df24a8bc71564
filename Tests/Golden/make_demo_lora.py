"""Makes loras/demo/dusk.safetensors: a LoRA of the demo model with an effect that anyone can see.

    python make_demo_lora.py                           needs torch, diffusers, peft; minutes on one core
    python make_demo_lora.py sheet ZOETROPE PICTURE    makes docs/images/lora.png with the built executable

No data set is needed. The demo model's own clips are decoded, coloured by their brightness (dark blue shadows, orange
lights), encoded again, and a LoRA of rank 4 learns by the model's own loss that these are the clips for the same prompts.
"""

import pathlib
import subprocess
import sys
import tempfile

import peft
import PIL.Image
import torch
from diffusers import CogVideoXPipeline

HERE = pathlib.Path(__file__).parent
DEMO = HERE.parent.parent / "Shared/DemoModel/cogvideox-demo"
SUBJECTS = [
    "the sun rising over green hills", "a sunset over orange hills, day turns into night",
    "snow falling at night over white hills", "a boat sailing left on the sea", "a boat sailing right on the sea",
    "the sun rising over white hills", "snow falling over green hills", "a red circle on a blue background",
    "a green square on a white background", "a yellow star on a black background", "the sun setting over orange hills",
    "a white circle on a green background",
]
SEEDS = 1
STEPS = 240
# Colours of brightness 0, 1/2 and 1.
PALETTE = torch.tensor([[0.04, 0.06, 0.30], [0.75, 0.22, 0.35], [1.00, 0.85, 0.45]])


def coloured(frames):
    """Frames [N, T, 3, H, W] in [0, 1] in the colours of their brightness."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 1, 3, 1, 1)
    light = (frames * weights).sum(2, keepdim=True).clamp(0, 1) * 2
    low, high = PALETTE[:2], PALETTE[1:]
    channels = [torch.where(
        light < 1, low[0, c] + (low[1, c] - low[0, c]) * light, high[0, c] + (high[1, c] - high[0, c]) * (light - 1))
        for c in range(3)]
    return torch.cat(channels, 2)


@torch.no_grad()
def clips(pipeline):
    """Latents [N, F, C, h, w] of coloured clips, and the text features of their prompts."""
    latents, prompts = [], []
    for seed in range(SEEDS):
        made = pipeline(
            SUBJECTS, num_frames=17, height=96, width=96, num_inference_steps=16, guidance_scale=4.0,
            max_sequence_length=32, output_type="pt", generator=torch.Generator().manual_seed(seed)).frames
        for clip in coloured(made).unbind(0):
            moments = pipeline.vae.encode(clip.permute(1, 0, 2, 3)[None] * 2 - 1).latent_dist
            latents.append(moments.mode().permute(0, 2, 1, 3, 4) * pipeline.vae.config.scaling_factor)
        prompts.append(pipeline.encode_prompt(SUBJECTS, do_classifier_free_guidance=False, max_sequence_length=32)[0])
        print(f"    {len(latents)} clips", flush=True)
    empty = pipeline.encode_prompt([""], do_classifier_free_guidance=False, max_sequence_length=32)[0]
    return torch.cat(latents), torch.cat(prompts), empty


def train(pipeline, latents, prompts, empty):
    transformer, generator = pipeline.transformer, torch.Generator().manual_seed(1)
    parameters = [value for value in transformer.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    rotary = pipeline._prepare_rotary_positional_embeddings(96, 96, latents.shape[1], torch.device("cpu"))
    mean = 0.0
    for step in range(STEPS):
        chosen = torch.randint(0, len(latents), (3,), generator=generator)
        noise = torch.randn(latents[chosen].shape, generator=generator)
        timesteps = torch.randint(0, 1000, (3,), generator=generator)
        text = prompts[chosen].clone()
        text[torch.rand(3, generator=generator) < 0.15] = empty
        noisy = pipeline.scheduler.add_noise(latents[chosen], noise, timesteps)
        alpha = pipeline.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1, 1)
        target = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents[chosen]
        found = transformer(noisy, text, timesteps, image_rotary_emb=rotary, return_dict=False)[0]
        loss = torch.nn.functional.mse_loss(found, target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        mean = loss.item() if step == 0 else 0.95 * mean + 0.05 * loss.item()
        if step % 50 == 49:
            print(f"    step {step + 1}: loss {mean:.4f}", flush=True)


def main():
    torch.manual_seed(0)
    pipeline = CogVideoXPipeline.from_pretrained(DEMO, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    latents, prompts, empty = clips(pipeline)
    config = peft.LoraConfig(
        r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"])
    pipeline.transformer.requires_grad_(False)
    pipeline.transformer.add_adapter(config)
    train(pipeline, latents, prompts, empty)
    folder = HERE / "loras/demo"
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        key: value.to(torch.bfloat16) for key, value in peft.get_peft_model_state_dict(pipeline.transformer).items()}
    CogVideoXPipeline.save_lora_weights(
        folder, transformer_lora_layers=weights, weight_name="dusk.safetensors",
        transformer_lora_adapter_metadata=config.to_dict())
    (folder / "dusk.safetensors").chmod(0o644)


# Of the sheet: prompts with seeds, and which of a contact sheet's twelve pictures are shown.
SHOWN = [("the sun rising over green hills", 7), ("a boat sailing left on the sea", 3),
         ("snow falling at night over white hills", 5)]
PICTURES = (3, 6, 9)
TILE = 112


def sheet(zoetrope, path):
    """A row without the adapter, one with it at 0.5 and one at 1: three pictures of each of three clips."""
    picture = PIL.Image.new("RGB", (len(SHOWN) * (3 * TILE + 8) - 8, 3 * TILE + 8), "white")
    with tempfile.TemporaryDirectory() as folder:
        for row, weight in enumerate((None, 0.5, 1)):
            for column, (prompt, seed) in enumerate(SHOWN):
                arguments = [] if weight is None else ["--lora", f"{HERE}/loras/demo/dusk.safetensors:{weight}"]
                subprocess.run(
                    [zoetrope, "generate", prompt, "--seed", str(seed), "--output", f"{folder}/clip.mkv", *arguments],
                    check=True, stdout=subprocess.DEVNULL)
                pictures = PIL.Image.open(f"{folder}/clip.png").convert("RGB")
                for place, index in enumerate(PICTURES):
                    left, top = 4 + index % 4 * 196, 4 + index // 4 * 196
                    tile = pictures.crop((left, top, left + 192, top + 192)).resize((TILE, TILE))
                    picture.paste(tile, (column * (3 * TILE + 8) + place * TILE, row * (TILE + 4)))
    picture.save(path, optimize=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sheet(*sys.argv[2:]) if sys.argv[1:2] == ["sheet"] else main()
