"""Makes `2b/tiled.safetensors`: what diffusers' tiles make of the golden autoencoder that is there.

    python make_tiled_fixtures.py      needs torch and diffusers; after make_fixtures.py
"""

import pathlib

import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent

# Clips in tiles, as latent frames, height and width; the tiles of a native size of 96×80 are 6×5 latents. One clip has
# remainders of a single row and column, the other several temporal chunks.
TILED_NATIVE = (96, 80)
TILED = {"wide": (1, 11, 13), "long": (5, 7, 6)}


@torch.no_grad()
def tiled() -> None:
    """What `enable_tiling` with its defaults makes of an autoencoder that is natively of `TILED_NATIVE`."""
    name = "2b"
    vae = AutoencoderKLCogVideoX.from_pretrained(HERE / name, subfolder="vae").eval()
    # The constructor derives the tiles from the native size.
    height, width = TILED_NATIVE
    vae.enable_tiling(tile_sample_min_height=height // 2, tile_sample_min_width=width // 2)
    generator = torch.Generator().manual_seed(20)
    expected = {}
    for key, (frames, rows, columns) in TILED.items():
        latents = torch.randn(1, vae.config.latent_channels, frames, rows, columns, generator=generator)
        decoded = vae.decode(latents / vae.config.scaling_factor).sample[0]
        vae.disable_tiling()
        whole = vae.decode(latents / vae.config.scaling_factor).sample[0]
        vae.use_tiling = True
        assert decoded.shape == whole.shape
        print(f"    {key}: {list(decoded.shape)}, tiles change {(decoded - whole).abs().mean():.4f} on average")
        expected[f"decode.{key}.latents"] = latents[0].permute(1, 0, 2, 3)
        expected[f"decode.{key}.frames"] = (decoded * 0.5 + 0.5).clamp(0, 1).permute(1, 2, 3, 0)
        pixels = torch.rand(1, 3, decoded.shape[1], 8 * rows, 8 * columns, generator=generator) * 2 - 1
        moments = vae.encode(pixels).latent_dist.parameters[0]
        assert list(moments.shape[1:]) == [frames, rows, columns]
        expected[f"encode.{key}.frames"] = pixels[0].permute(1, 2, 3, 0)
        expected[f"encode.{key}.moments"] = moments.permute(1, 0, 2, 3)
    file = HERE / name / "tiled.safetensors"
    save_file({key: value.contiguous() for key, value in expected.items()}, file)
    file.chmod(0o644)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tiled()
