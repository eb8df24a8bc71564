"""Small pictures of every kind and what Pillow makes of them, and Pillow's resizing.

    python Tests/MediaTests/Fixtures/make_fixtures.py

Needs Pillow 13.0, numpy and safetensors. Writes images/*, images.safetensors (file name -> RGB), resampling.safetensors
("SOURCE" -> picture, "METHOD-SOURCE-WxH" -> resized) and model_space.safetensors.
"""
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
IMAGES = HERE / "images"
rng = np.random.default_rng(20260)


def picture(height, width, channels=3):
    """Smooth waves with a hard edge and a little noise: what chroma filters and transforms show most clearly."""
    y, x = np.mgrid[0:height, 0:width].astype(float)
    planes = [128 + 90 * np.sin(x / (3 + c) + c) + 60 * np.cos(y / (4 - c % 3) + c) for c in range(channels)]
    image = np.stack(planes, -1)
    image[height // 3:, width // 2:] = 255 - image[height // 3:, width // 2:]
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def raw_png(name, pixels, color_type, bits, extra=b"", interlaced=False):
    """A PNG that Pillow cannot write; `pixels` are the bytes of each row."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    height, width = len(pixels), pixels[0][1]
    rows = b"".join(b"\0" + row for row, _ in pixels)
    head = struct.pack(">IIBBBBB", width, height, bits, color_type, 0, 0, int(interlaced))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (IMAGES / name).write_bytes(data)


def rows_of(array):
    width = array.shape[1]
    return [(row.tobytes(), width) for row in array]


def pngs():
    rgb, rgba = picture(13, 19), picture(13, 19, 4)
    Image.fromarray(rgb).save(IMAGES / "rgb.png")
    Image.fromarray(rgba).save(IMAGES / "rgba.png")
    Image.fromarray(rgb[..., 0]).save(IMAGES / "grey.png")
    Image.fromarray(np.ascontiguousarray(rgba[..., 2:])).save(IMAGES / "grey_alpha.png")
    Image.fromarray(rgb[..., 0]).convert("1").save(IMAGES / "bits.png")
    palette = Image.fromarray(rgb).quantize(13)
    palette.save(IMAGES / "palette.png")
    palette.save(IMAGES / "palette_transparent.png", transparency=bytes([0, 255, 80, 200]))
    Image.fromarray(rgb).save(IMAGES / "rgb_transparent.png", transparency=tuple(int(v) for v in rgb[2, 3]))
    Image.fromarray(rgb).quantize(3).save(IMAGES / "palette_2bit.png", bits=2)
    Image.fromarray(rgb).save(IMAGES / "exif6.png", exif=exif(6))
    wide = rng.integers(0, 65536, (13, 19, 4), dtype=np.uint16)
    raw_png("rgb16.png", rows_of(wide[..., :3].astype(">u2")), 2, 16)
    raw_png("rgba16.png", rows_of(wide.astype(">u2")), 6, 16)
    raw_png("grey_alpha16.png", rows_of(wide[..., :2].astype(">u2")), 4, 16)
    raw_png("grey16.png", rows_of(wide[..., 0].astype(">u2")), 0, 16)
    nibbles = rng.integers(0, 256, (13, 10), dtype=np.uint8)
    raw_png("grey_4bit.png", [(row.tobytes(), 19) for row in nibbles], 0, 4)
    raw_png("grey_2bit.png", [(row[:5].tobytes(), 19) for row in nibbles], 0, 2)


def jpegs():
    rgb = Image.fromarray(picture(13, 19))
    for orientation in range(1, 9):
        rgb.save(IMAGES / f"exif{orientation}.jpg", exif=exif(orientation), quality=92)
    big = Image.fromarray(picture(45, 37))
    for name, sampling in [("444", 0), ("422", 1), ("420", 2)]:
        big.save(IMAGES / f"{name}.jpg", subsampling=sampling, quality=85)
    big.save(IMAGES / "420_progressive.jpg", subsampling=2, quality=70, progressive=True)
    big.save(IMAGES / "420_coarse.jpg", subsampling=2, quality=25, restart_marker_blocks=2)
    big.transpose(Image.Transpose.ROTATE_90).save(IMAGES / "420_wide.jpg", subsampling=2, quality=85)
    Image.fromarray(picture(9, 4)).save(IMAGES / "420_narrow.jpg", subsampling=2)
    Image.fromarray(picture(1, 5)).save(IMAGES / "420_flat.jpg", subsampling=2)
    big.convert("L").save(IMAGES / "grey.jpg")
    Image.fromarray(picture(16, 21)).save(IMAGES / "rgb.jpg", keep_rgb=True, quality=90)
    Image.fromarray(picture(16, 21, 4), "CMYK").save(IMAGES / "cmyk.jpg", quality=95)


def others():
    rgb, rgba = Image.fromarray(picture(29, 23)), Image.fromarray(picture(29, 23, 4))
    rgb.save(IMAGES / "lossy.webp", quality=80)
    Image.fromarray(picture(22, 34)).save(IMAGES / "lossy_even.webp", quality=60)
    rgba.save(IMAGES / "lossy_alpha.webp", quality=80, exact=True)
    rgb.save(IMAGES / "lossless.webp", lossless=True)
    rgba.save(IMAGES / "lossless_alpha.webp", lossless=True, exact=True)
    rgb.save(IMAGES / "exif8.webp", lossless=True, exif=exif(8))
    smooth = np.stack([np.linspace(20 * c, 200 + 20 * c, 32 * 48).reshape(32, 48) for c in range(3)], -1)
    smooth = Image.fromarray(smooth.astype(np.uint8))
    smooth.save(IMAGES / "420.avif", quality=95, subsampling="4:2:0")
    smooth.save(IMAGES / "444.avif", quality=95, subsampling="4:4:4")
    smooth.save(IMAGES / "limited.avif", quality=95, subsampling="4:4:4", range="limited")
    Image.fromarray(np.dstack([np.asarray(smooth), np.asarray(smooth)[..., :1]])).save(IMAGES / "alpha.avif", quality=95)
    smooth.convert("L").save(IMAGES / "grey.avif", quality=95)
    for orientation in range(2, 9):
        smooth.save(IMAGES / f"exif{orientation}.avif", quality=95, subsampling="4:4:4", exif=exif(orientation))
    flat = Image.fromarray(picture(11, 17)).quantize(20)
    flat.save(IMAGES / "still.gif")
    rgb.save(IMAGES / "rgb.bmp")
    flat.save(IMAGES / "palette.bmp")
    rgb.save(IMAGES / "rgb.tiff", compression="tiff_lzw")
    rgb.convert("L").save(IMAGES / "grey.tiff", compression="packbits")
    rgb.save(IMAGES / "exif3.tiff", exif=exif(3))


def refused():
    """Files of kinds that are refused; the tests make the damaged ones themselves."""
    frames = [Image.fromarray(picture(8, 8)) for _ in range(2)]
    frames[0].save(IMAGES / "animated.webp", save_all=True, append_images=frames[1:], lossless=True)


def expected():
    tensors = {}
    for path in sorted(IMAGES.iterdir()):
        image = Image.open(io.BytesIO(path.read_bytes()))
        if path.name == "grey16.png":
            # Pillow clips 16-bit grey to 255; here the upper byte counts, as in its other 16-bit modes.
            levels = np.asarray(image).astype(np.uint16) >> 8
            tensors[path.name] = np.repeat(levels.astype(np.uint8)[..., None], 3, -1)
        elif path.name != "animated.webp":
            tensors[path.name] = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    save_file(tensors, HERE / "images.safetensors")


def resampling():
    tensors = {}
    # Sources and targets so that columns come first in some, rows in others, and the border between both is met.
    cases = [
        ((19, 31), (7, 11)), ((31, 19), (11, 7)), ((19, 31), (40, 50)), ((31, 19), (11, 40)), ((31, 19), (40, 7)),
        ((1, 17), (5, 9)), ((17, 1), (9, 5)), ((1, 1), (4, 6)), ((23, 23), (1, 1)), ((40, 12), (23, 4)),
        ((40, 12), (24, 4)), ((40, 12), (25, 4)), ((24, 36), (24, 20)), ((24, 36), (9, 36)), ((24, 36), (24, 36)),
        ((54, 96), (32, 48)), ((96, 54), (32, 48)), ((54, 96), (48, 32)), ((2, 61), (30, 20)), ((61, 2), (20, 30)),
    ]
    methods = {"lanczos": Image.Resampling.LANCZOS, "bicubic": Image.Resampling.BICUBIC}
    for (height, width), (new_height, new_width) in cases:
        source = f"{width}x{height}"
        if source not in tensors:
            tensors[source] = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        image, size = Image.fromarray(tensors[source]), (new_width, new_height)
        for method, filter in methods.items():
            tensors[f"{method}-{source}-{new_width}x{new_height}"] = np.array(image.resize(size, filter))
        tensors[f"cover-{source}-{new_width}x{new_height}"] = np.array(
            ImageOps.fit(image, size, Image.Resampling.LANCZOS))
        tensors[f"inner-{source}-{new_width}x{new_height}"] = np.array(
            ImageOps.contain(image, size, Image.Resampling.LANCZOS))
    save_file(tensors, HERE / "resampling.safetensors")


def model_space():
    import torch
    levels = torch.from_numpy(np.arange(256, dtype=np.uint8).astype(np.float32) / 255.0)
    save_file({"levels": (2.0 * levels - 1.0).numpy()}, HERE / "model_space.safetensors")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    for old in IMAGES.iterdir():
        old.unlink()
    pngs()
    jpegs()
    others()
    refused()
    expected()
    resampling()
    model_space()
