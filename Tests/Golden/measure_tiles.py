"""Measures decoding in tiles against the exact way, and shows what it does to a picture.

    python measure_tiles.py spread BIN [--first WORDS]   480×720×9 frames of an autoencoder of released size with random
                                                         weights: exact on one decoder, tiles on one, tiles on two,
                                                         every decoder with one thread
    python measure_tiles.py picture BIN OUTPUT.png       the demo model, 160×160: exact, tiles, eight times the difference

BIN is the folder of the built executables. `--first "chrt -r 10"` stands before the denoiser's and the decoders'
command lines (not `-f`: on all cores it lets nothing else run, not even a decoder's own beats). Every service is started
by hand over local sockets; the same latents are decoded each time (`/reencode`). `spread` needs torch and diffusers and
prints Markdown rows: seconds from the request to the file, of which the decoders' tasks one after the other, and the most
memory that each decoder has held so far, in MB. `picture` needs numpy, Pillow and ffmpeg.
"""

import argparse
import json
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

DEMO = pathlib.Path(__file__).parent.parent.parent / "Shared/DemoModel/cogvideox-demo"
PROMPT = "the sun rising over green hills"


class Cluster:
    """Broker, gateway and workers as children, reached over HTTP."""

    def __init__(self, binaries, model, folder, first=(), denoiser=()):
        self.binaries, self.model, self.folder, self.first = pathlib.Path(binaries), str(model), folder, list(first)
        self.children, self.decoders = [], []
        self.server = "http://127.0.0.1:18473"
        self.start("zoetrope-broker", "--data-directory", str(folder / "data"))
        self.start("zoetrope-gateway", "--listen", "127.0.0.1:18473", "--model", self.model)
        self.start("zoetrope-text-encoder", "--model", self.model, "--name", "text-encoder")
        self.start("zoetrope-denoiser", "--model", self.model, "--name", "denoiser", *denoiser, first=self.first)
        self.start("zoetrope-video-muxer", "--name", "muxer")
        self.decoder()
        self.until(lambda: self.call("GET", "/healthz")["status"] == "ok")

    def start(self, name, *options, first=()):
        command = [*first, str(self.binaries / name), *options, "--run-directory", str(self.folder / "run")]
        log = open(self.folder / f"{name}-{len(self.children)}.log", "w")
        # Services end with the pipe that they read.
        self.children.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log))
        return self.children[-1]

    def decoder(self):
        name = f"decoder-{len(self.decoders) + 1}"
        self.decoders.append(self.start(
            "zoetrope-vae-decoder", "--model", self.model, "--threads", "1", "--name", name, first=self.first))
        self.until(lambda: name in json.dumps(self.call("GET", "/v1/workers")))

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.server + path, data, {"Content-Type": "application/json"} if data else {}, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if answer.headers["Content-Type"].startswith("application/json") else content

    def until(self, condition):
        for _ in range(600):
            try:
                if condition():
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"not up; the logs are in {self.folder}")

    def made(self, path, body):
        """Seconds that a job took, and the finished job."""
        start = time.monotonic()
        job = self.call("POST", path, body)
        while job["status"] not in ("completed", "failed"):
            time.sleep(0.02)
            job = self.call("GET", f"/v1/videos/{job['id']}")
        if job["status"] == "failed":
            raise SystemExit(job["error"])
        return time.monotonic() - start, job

    def stop(self):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            child.wait(timeout=30)


def peak(process) -> float:
    """The most memory that a process has held, in megabytes."""
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0


def released_autoencoder(folder):
    """The demo's text encoder, a tiny transformer, and an autoencoder of released size; all but the first random."""
    import torch
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    from make_fixtures import randomize

    torch.manual_seed(0)
    for part in ("text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(DEMO / part, folder / part)
    shutil.copy(DEMO / "model_index.json", folder)
    width = json.loads((folder / "text_encoder/config.json").read_text())["d_model"]
    text = json.loads((DEMO / "transformer/config.json").read_text())["max_text_seq_length"]
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=64, num_layers=1, in_channels=16, out_channels=16,
        text_embed_dim=width, sample_width=90, sample_height=60, sample_frames=49, max_text_seq_length=text,
        use_rotary_positional_embeddings=True)
    autoencoder = AutoencoderKLCogVideoX(
        block_out_channels=(128, 256, 256, 512), down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4, layers_per_block=3, latent_channels=16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        randomize(transformer, generator)
        randomize(autoencoder, generator)
    transformer.float().save_pretrained(folder / "transformer")
    autoencoder.to(torch.bfloat16).save_pretrained(folder / "vae")


def spread(binaries, first):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="zoetrope-spread-"))
    model = folder / "model"
    model.mkdir()
    released_autoencoder(model)
    cluster = Cluster(binaries, model, folder, first)
    try:
        _, source = cluster.made("/v1/videos", dict(
            prompt=PROMPT, width=720, height=480, num_frames=9, num_inference_steps=1, seed=1, dtype="bfloat16",
            output_type="latent"))
        print("| | seconds | the decoders' tasks together | most memory of each so far, MB |\n|---|---|---|---|")
        for label, tiling, decoders in (
                ("tiles, one decoder", True, 1), ("exact, one decoder", False, 1), ("tiles, two decoders", True, 2)):
            while len(cluster.decoders) < decoders:
                cluster.decoder()
            seconds, job = cluster.made(
                f"/v1/videos/{source['id']}/reencode", dict(container="mkv", vae_tiling=tiling))
            tasks = [stage for stage in job["x_stages"] if stage["stage"] == "vae-decoder"]
            together = sum(stage["elapsed_ms"] for stage in tasks) / 1000
            peaks = " and ".join(f"{peak(decoder):.0f}" for decoder in cluster.decoders)
            print(f"| {label} | {seconds:.1f} | {together:.1f} | {peaks} |", flush=True)
    finally:
        cluster.stop()
    shutil.rmtree(folder)


def picture(binaries, output):
    import io

    import numpy
    import PIL.Image

    folder = pathlib.Path(tempfile.mkdtemp(prefix="zoetrope-tiles-"))
    cluster = Cluster(binaries, DEMO, folder)
    try:
        pictures = []
        _, source = cluster.made("/v1/videos", dict(prompt=PROMPT, width=160, height=160, seed=42, container="mkv"))
        _, tiled = cluster.made(f"/v1/videos/{source['id']}/reencode", dict(container="mkv", vae_tiling=True))
        for job in (source, tiled):
            file = folder / f"{job['id']}.mkv"
            file.write_bytes(cluster.call("GET", f"/v1/videos/{job['id']}/content"))
            shown = subprocess.run(
                ["ffmpeg", "-v", "error", "-i", file, "-vf", "select=eq(n\\,8)", "-frames:v", "1", "-f", "image2pipe",
                 "-c:v", "png", "-"], check=True, capture_output=True).stdout
            pictures.append(numpy.asarray(PIL.Image.open(io.BytesIO(shown)).convert("RGB")).astype(numpy.int32))
    finally:
        cluster.stop()
    shutil.rmtree(folder)
    exact, tiled = pictures
    difference = numpy.abs(exact - tiled)
    print(f"mean difference {difference.mean():.2f}, largest {difference.max()} of 255, "
          f"PSNR {10 * numpy.log10(255 ** 2 / numpy.square(exact - tiled).mean()):.1f} dB")
    sheet = numpy.full((160, 3 * 160 + 16, 3), 255)
    for index, shown in enumerate((exact, tiled, numpy.minimum(255, 8 * difference))):
        sheet[:, index * 168:index * 168 + 160] = shown
    image = PIL.Image.fromarray(sheet.astype(numpy.uint8))
    image.resize((2 * image.width, 2 * image.height), PIL.Image.NEAREST).save(output, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("what", choices=("spread", "picture"))
    parser.add_argument("binaries")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--first", default="")
    arguments = parser.parse_args()
    if arguments.what == "spread":
        spread(arguments.binaries, arguments.first.split())
    else:
        picture(arguments.binaries, arguments.output)
