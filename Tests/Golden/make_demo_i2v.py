"""Makes an image-to-video model from the demo model, which knows prompts only.

    python make_demo_i2v.py FOLDER                           needs torch, diffusers; some twelve minutes of one core
    python make_demo_i2v.py sheet FOLDER ZOETROPE PICTURE    makes docs/images/image-to-video.png with the executable
    python make_demo_i2v.py compare FOLDER ZOETROPE          runs of the executable beside diffusers' pipeline

No data set is needed. The clips are drawn here (shapes that move or grow, hills under the sun, snow, rain, boats), some
are the demo model's own. The patch embedding gets as many input channels again, for the latent of a clip's first
frame in front of zeros, with weights of zero; then the whole transformer learns on by its own loss.
"""

import json
import math
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import numpy
import PIL.Image
import PIL.ImageDraw
import torch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXPipeline
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
DEMO = HERE.parent.parent / "Shared/DemoModel/cogvideox-demo"
SIZE, FRAMES = 96, 17
COLOURS = dict(
    red=(225, 30, 35), green=(30, 175, 50), blue=(40, 80, 220), yellow=(255, 225, 50), white=(255, 255, 255),
    black=(10, 15, 10), orange=(255, 145, 25), purple=(145, 50, 185), pink=(245, 140, 205), cyan=(50, 220, 230))
NIGHT, DUSK, DAY = ((15, 15, 45), (25, 20, 60)), ((110, 70, 130), (255, 150, 60)), ((110, 180, 250), (190, 220, 250))
SUBJECTS = [
    "the sun rising over green hills", "a sunset over orange hills, day turns into night",
    "snow falling at night over white hills", "a boat sailing left on the sea", "a boat sailing right on the sea",
    "rain falling over green hills", "a red circle on a blue background", "a yellow star on a black background",
]
DRAWN, SAMPLED, HELD_OUT = 720, 48, 24
STEPS, BATCH, RATE = 1600, 8, 4e-4


def outline(shape):
    """The corners of a shape of radius one about the origin."""
    if shape == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if shape == "triangle":
        return [(0, -1), (0.95, 0.8), (-0.95, 0.8)]
    turns = [2 * math.pi * index / 40 for index in range(40)]
    if shape == "heart":
        return [(math.sin(a) ** 3, -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a)) / 16) for a in turns]
    if shape == "star":
        return [(math.sin(a) * r, -math.cos(a) * r)
                for a, r in ((math.pi * index / 5, (1, 0.42)[index % 2]) for index in range(10))]
    return [(math.cos(a), math.sin(a)) for a in turns]


def mixed(first, second, share):
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second))


class Canvas:
    """A picture in units of its size, drawn three times as large and reduced."""

    def __init__(self, top, bottom=None):
        self.image = PIL.Image.new("RGB", (3 * SIZE, 3 * SIZE), top)
        self.draw = PIL.ImageDraw.Draw(self.image)
        for line in range(3 * SIZE if bottom else 0):
            self.draw.line([(0, line), (3 * SIZE, line)], mixed(top, bottom, line / 3 / SIZE))

    def polygon(self, points, colour, at=(0, 0), radius=1):
        scale = 3 * SIZE
        self.draw.polygon([((at[0] + x * radius) * scale, (at[1] + y * radius) * scale) for x, y in points], colour)

    def pixels(self):
        return numpy.asarray(self.image.resize((SIZE, SIZE), PIL.Image.BOX))


def shape_clip(chance):
    colour, ground = chance.sample(sorted(COLOURS), 2)
    shape = chance.choice(["circle", "square", "triangle", "star", "heart"])
    motion = chance.choice(["moving left", "moving right", "moving up", "moving down", "growing", "shrinking"])
    direction = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(motion.split()[-1], (0, 0))
    x, y = chance.uniform(0.3, 0.7) - 0.2 * direction[0], chance.uniform(0.3, 0.7) - 0.2 * direction[1]
    radius, far = chance.uniform(0.13, 0.26), chance.uniform(0.3, 0.55)
    growth = {"growing": 0.9, "shrinking": -0.6}.get(motion, 0)
    clip = []
    for index in range(FRAMES):
        time = index / (FRAMES - 1)
        canvas = Canvas(COLOURS[ground])
        at = x + far * time * direction[0], y + far * time * direction[1]
        canvas.polygon(outline(shape), COLOURS[colour], at, radius * (1 + growth * time))
        clip.append(canvas.pixels())
    return f"a {colour} {shape} {motion} on a {ground} background", clip


def landscape_clip(chance):
    kind = chance.choice(["sunrise", "sunset", "sunset", "snow", "rain"])
    hills = chance.choice(["green", "orange", "white"]) if kind in ("sunrise", "sunset") else None
    hills = hills or ("white" if kind == "snow" else "green")
    base, height, phase = chance.uniform(0.62, 0.8), chance.uniform(0.02, 0.08), chance.uniform(0, 6)
    wave, sun = chance.uniform(5, 14), chance.uniform(0.25, 0.75)
    ridge = [(x / 24, base + height * math.sin(wave * x / 24 + phase)) for x in range(25)] + [(1, 1), (0, 1)]
    drops = [(chance.random(), chance.random()) for _ in range(14)]
    clip = []
    for index in range(FRAMES):
        time = index / (FRAMES - 1)
        day = {"sunrise": time, "sunset": 1 - time, "snow": 0, "rain": 0.5}[kind]
        early, late = (NIGHT, DUSK) if day < 0.5 else (DUSK, DAY)
        top, bottom = (mixed(a, b, 2 * day % 1 if day < 1 else 1) for a, b in zip(early, late))
        if kind == "rain":
            top, bottom = (95, 105, 120), (150, 155, 165)
        canvas = Canvas(top, bottom)
        if kind in ("sunrise", "sunset"):
            canvas.polygon(outline("circle"), (255, 225, 90), (sun, base + 0.15 - 0.6 * day), 0.09)
        canvas.polygon(ridge, mixed(COLOURS[hills], (10, 12, 25), 0.0 if kind in ("snow", "rain") else 0.6 - 0.6 * day))
        for x, y in drops if kind in ("snow", "rain") else []:
            fall = (y + time * (0.5 if kind == "snow" else 1.5)) % 1
            if kind == "snow":
                canvas.polygon(outline("circle"), (255, 255, 255), (x, fall), 0.018)
            else:
                canvas.polygon([(0, 0), (0.015, 0), (0.01, 0.1), (-0.005, 0.1)], (200, 215, 240), (x, fall))
        clip.append(canvas.pixels())
    return dict(
        sunrise=f"the sun rising over {hills} hills", sunset=f"a sunset over {hills} hills, day turns into night",
        snow="snow falling at night over white hills", rain="rain falling over green hills")[kind], clip


def boat_clip(chance):
    side = chance.choice(["left", "right"])
    sign = -1 if side == "left" else 1
    start, far = 0.5 - sign * chance.uniform(0.05, 0.3), chance.uniform(0.3, 0.6)
    level, size = chance.uniform(0.58, 0.72), chance.uniform(0.14, 0.22)
    sail = COLOURS[chance.choice(["white", "red", "yellow", "orange"])]
    clip = []
    for index in range(FRAMES):
        time = index / (FRAMES - 1)
        canvas = Canvas(*DAY)
        canvas.polygon([(0, level), (1, level), (1, 1), (0, 1)], (15, 75, 110))
        at = start + sign * far * time, level + 0.015 * math.sin(8 * time)
        canvas.polygon([(-1, -0.2), (1, -0.2), (0.65, 0.3), (-0.65, 0.3)], (130, 65, 25), at, size)
        canvas.polygon([(0, -1.5), (0.75 * sign, -0.3), (0, -0.3)], sail, at, size)
        clip.append(canvas.pixels())
    return f"a boat sailing {side} on the sea", clip


def drawn(chance):
    """A caption, and the frames [T, H, W, 3] that it says, uint8."""
    caption, clip = chance.choice([shape_clip, shape_clip, landscape_clip, boat_clip])(chance)
    return caption, numpy.stack(clip)


def latents(vae, frames):
    """The latents [F, C, h, w] of frames [T, H, W, 3] in 0…1, drawn from their distribution."""
    sample = vae.encode((frames.permute(3, 0, 1, 2)[None] * 2 - 1).to(vae.dtype)).latent_dist.sample()
    return sample[0].transpose(0, 1).float() * vae.config.scaling_factor


def loaded(dtype):
    pipeline = CogVideoXPipeline.from_pretrained(DEMO, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def clips():
    """Latents of clips [N, F, C, h, w] and of their first frames [N, 1, C, h, w], features of captions and of none."""
    # torch's bfloat16 is many times faster here than its float32, and the weights are bfloat16 anyway.
    pipeline = loaded(torch.bfloat16)
    chance, vae, found = random.Random(1), pipeline.vae, []
    for index in range(DRAWN):
        caption, frames = drawn(chance)
        frames = torch.from_numpy(frames).float() / 255
        found.append((caption, latents(vae, frames), latents(vae, frames[:1])))
        if index % 80 == 79:
            print(f"    {index + 1} clips drawn", flush=True)
    for seed in range(SAMPLED // len(SUBJECTS)):
        made = pipeline(
            SUBJECTS, num_frames=FRAMES, height=SIZE, width=SIZE, num_inference_steps=20, guidance_scale=4.0,
            max_sequence_length=32, output_type="latent", generator=torch.Generator().manual_seed(seed)).frames
        for caption, clip in zip(SUBJECTS, made):
            first = vae.decode(clip.transpose(0, 1)[None] / vae.config.scaling_factor).sample[0, :, :1]
            found.append((caption, clip.float(), latents(vae, (first.permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1))))
        print(f"    {(seed + 1) * len(SUBJECTS)} clips of the demo model", flush=True)
    captions = sorted({caption for caption, _, _ in found} | {""})
    pipeline.text_encoder.float()
    features = dict(zip(captions, pipeline.encode_prompt(
        captions, do_classifier_free_guidance=False, max_sequence_length=32)[0]))
    return (torch.stack([clip for _, clip, _ in found]), torch.stack([first for _, _, first in found]),
            torch.stack([features[caption] for caption, _, _ in found]), features[""])


def widened(transformer):
    """Gives the patch embedding as many input channels again, with weights of zero."""
    old, channels = transformer.patch_embed.proj, transformer.config.in_channels
    new = torch.nn.Conv2d(2 * channels, old.out_channels, old.kernel_size, old.stride)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :channels] = old.weight
        new.bias.copy_(old.bias)
    transformer.patch_embed.proj = new
    transformer.register_to_config(in_channels=2 * channels)


def loss(pipeline, clip, first, text, timesteps, noise, rotary):
    """The loss of the prediction of the velocity, one number for all."""
    noisy = pipeline.scheduler.add_noise(clip, noise, timesteps)
    alpha = pipeline.scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1, 1)
    target = alpha.sqrt() * noise - (1 - alpha).sqrt() * clip
    condition = torch.cat([first, torch.zeros_like(clip[:, 1:])], 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = pipeline.transformer(
            torch.cat([noisy, condition], 2), text, timesteps, image_rotary_emb=rotary, return_dict=False)[0]
    return torch.nn.functional.mse_loss(found.float(), target)


def train(pipeline, clip, first, text, empty):
    """The transformer with the running mean of its weights."""
    generator = torch.Generator().manual_seed(1)
    order = torch.randperm(len(clip), generator=generator)
    clip, first, text = clip[order], first[order], text[order]
    seen = len(clip) - HELD_OUT
    rotary = pipeline._prepare_rotary_positional_embeddings(SIZE, SIZE, clip.shape[1], torch.device("cpu"))
    held_noise = torch.randn(clip[seen:].shape, generator=generator)
    held_times = torch.linspace(300, 999, HELD_OUT).long()
    transformer = pipeline.transformer
    # The weights of zero have far to go.
    embedding = list(transformer.patch_embed.proj.parameters())
    others = [value for name, value in transformer.named_parameters() if not name.startswith("patch_embed.proj")]
    optimizer = torch.optim.AdamW(
        [dict(params=embedding, lr=4 * RATE), dict(params=others, lr=RATE)], weight_decay=1e-4)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.02, total_iters=40)
    average = torch.optim.swa_utils.AveragedModel(
        transformer, avg_fn=lambda mean, value, count: mean + (value - mean) * max(0.01, 1 / (1 + count / 4)))
    seen_loss = 0.0
    for step in range(STEPS + 1):
        if step % 100 == 0:
            pipeline.transformer = average.module
            with torch.no_grad():
                told, blind, wrong = (
                    loss(pipeline, clip[seen:], shown, text[seen:], held_times, held_noise, rotary).item()
                    for shown in (first[seen:], 0 * first[seen:], first[seen:].roll(1, 0)))
            pipeline.transformer = transformer
            print(f"    step {step}: loss {seen_loss:.4f}; of clips held out {told:.4f}, without their pictures "
                  f"{blind:.4f}, with another's {wrong:.4f}", flush=True)
        if step == STEPS:
            return average.module
        chosen = torch.randint(0, seen, (BATCH,), generator=generator)
        prompts = text[chosen].clone()
        prompts[torch.rand(BATCH, generator=generator) < 0.1] = empty
        noise = torch.randn(clip[chosen].shape, generator=generator)
        found = loss(pipeline, clip[chosen], first[chosen], prompts,
                     torch.randint(0, 1000, (BATCH,), generator=generator), noise, rotary)
        optimizer.zero_grad()
        found.backward()
        torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
        optimizer.step()
        warmup.step()
        average.update_parameters(transformer)
        seen_loss = found.item() if step == 0 else 0.98 * seen_loss + 0.02 * found.item()


def save(transformer, folder):
    """The demo model's folder with this transformer, as a pipeline that begins with a picture."""
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("transformer", "README.md", "samples.png"))
    transformer.to(torch.bfloat16).save_pretrained(folder / "transformer")
    for name, change in (("model_index.json", {"_class_name": "CogVideoXImageToVideoPipeline"}),
                         ("zoetrope.json", {"teacache_coefficients": None})):
        file = folder / name
        values = json.loads(file.read_text()) | change
        file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}, indent=2) + "\n")


def main(folder):
    torch.manual_seed(0)
    known = clips()
    pipeline = loaded(torch.float32)
    widened(pipeline.transformer)
    save(train(pipeline, *known), pathlib.Path(folder))



def house(sky, ground, dim):
    """A house on a meadow, which no clip above has."""
    canvas = Canvas(*sky)
    canvas.polygon([(0, 0.75), (0.5, 0.68), (1, 0.75), (1, 1), (0, 1)], mixed(ground, (10, 12, 25), dim))
    canvas.polygon([(-1, 0), (1, 0), (1, 1.2), (-1, 1.2)], mixed(COLOURS["red"], (10, 12, 25), dim), (0.35, 0.55), 0.16)
    canvas.polygon([(-1.2, 0), (0, -0.9), (1.2, 0)], mixed((130, 65, 25), (10, 12, 25), dim), (0.35, 0.55), 0.16)
    return canvas.image


def pictures(zoetrope, folder):
    """Prompts and pictures that no clip above has: two drawn, a frame of the demo model's, one of another kind."""
    star = Canvas(COLOURS["blue"])
    star.polygon(outline("star"), COLOURS["yellow"], (0.3, 0.55), 0.2)
    boat = Canvas(*DAY)
    boat.polygon([(0, 0.66), (1, 0.66), (1, 1), (0, 1)], (15, 75, 110))
    boat.polygon([(-1, -0.2), (1, -0.2), (0.65, 0.3), (-0.65, 0.3)], (130, 65, 25), (0.72, 0.66), 0.18)
    boat.polygon([(0, -1.5), (-0.75, -0.3), (0, -0.3)], COLOURS["red"], (0.72, 0.66), 0.18)
    sunset = "a sunset over orange hills, day turns into night"
    frame = made(zoetrope, DEMO, sunset, 4, folder)["frames"][0, 0]
    shown = [
        ("a yellow star moving right on a blue background", star.image), ("a boat sailing left on the sea", boat.image),
        (sunset, PIL.Image.fromarray((frame * 255).round().to(torch.uint8).numpy())),
        ("the sun rising over green hills", house(NIGHT, COLOURS["green"], 0.6))]
    for index, (_, picture) in enumerate(shown):
        picture.save(folder / f"{index}.png")
    return [(prompt, folder / f"{index}.png") for index, (prompt, _) in enumerate(shown)]


def made(zoetrope, model, prompt, seed, folder, picture=None):
    """What the executable makes: `frames` [1, T, H, W, 3] in 0…1, and the latents after each step."""
    tensors = folder / "tensors"
    shutil.rmtree(tensors, ignore_errors=True)
    subprocess.run(
        [zoetrope, "generate", prompt, "--model", str(model), "--seed", str(seed), "--output", f"{folder}/clip.mkv",
         "--save-intermediates", str(tensors), *(["--image", str(picture)] if picture else [])],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return {name: value for file in tensors.iterdir() for name, value in load_file(file).items()}


def sheet(model, zoetrope, path):
    """A row a picture: itself, five frames of what it becomes with each of two seeds, and of the prompt alone."""
    with tempfile.TemporaryDirectory() as folder:
        folder, rows = pathlib.Path(folder), []
        for prompt, picture in pictures(zoetrope, folder):
            first = numpy.asarray(PIL.Image.open(picture).resize((SIZE, SIZE), PIL.Image.LANCZOS))
            tiles, gap = [first], numpy.full((SIZE, 8, 3), 255, numpy.uint8)
            for folder_of_weights, seed, shown in ((model, 1, picture), (model, 2, picture), (DEMO, 1, None)):
                frames = made(zoetrope, folder_of_weights, prompt, seed, folder, shown)["frames"][0, ::4]
                tiles += [gap, *(frames * 255).round().to(torch.uint8).numpy()]
            rows += [numpy.concatenate(tiles, 1), numpy.full((4, sum(tile.shape[1] for tile in tiles), 3), 255)]
        whole = PIL.Image.fromarray(numpy.concatenate(rows[:-1]).astype(numpy.uint8))
        whole.quantize(256, dither=PIL.Image.Dither.NONE).save(path, optimize=True)


@torch.no_grad()
def compare(model, zoetrope):
    """The largest differences between the executable and diffusers, from the same picture, prompt and seed."""
    pipeline = CogVideoXImageToVideoPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    with tempfile.TemporaryDirectory() as folder:
        for seed, (prompt, picture) in enumerate(pictures(zoetrope, pathlib.Path(folder))):
            ours, steps = made(zoetrope, model, prompt, seed, pathlib.Path(folder), picture), []
            frames = pipeline(
                image=PIL.Image.open(picture), prompt=prompt, num_frames=FRAMES, num_inference_steps=25,
                guidance_scale=4.0, height=SIZE, width=SIZE, max_sequence_length=32, output_type="pt",
                generator=torch.Generator().manual_seed(seed),
                callback_on_step_end=lambda _, index, time, values: steps.append(values["latents"]) or {}).frames
            differences = [
                (ours[f"latents_step_{index:03}"] - wanted).abs().max().item() for index, wanted in enumerate(steps)]
            frame = (ours["frames"] - frames.permute(0, 1, 3, 4, 2)).abs().max().item()
            print(f"{prompt}: latents of {len(steps)} steps within {max(differences):.1e}, frames within {frame:.1e}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    verbs = {"sheet": sheet, "compare": compare}
    verbs[sys.argv[1]](*sys.argv[2:]) if sys.argv[1] in verbs else main(sys.argv[1])
