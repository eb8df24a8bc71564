"""Makes the SAT checkpoints of Fixtures/ from the golden diffusers checkpoints: the inverse of the conversion.

    python make_sat_fixtures.py         needs torch and safetensors; reads ../Golden, writes beside this file

Every checkpoint holds the golden weights under SAT's names, as SAT's training engine saves them: `module` around the
state dict, `model.diffusion_model.` before the keys, fused query-key-value and modulation layers, position tables.
"""

import argparse
import collections
import pathlib

import torch
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
GOLDEN = HERE.parent / "Golden"
OUT = HERE / "Fixtures"
PREFIX = "model.diffusion_model."

MODULES = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "ofs_embedding.linear_1": "ofs_embed.0", "ofs_embedding.linear_2": "ofs_embed.2",
    "patch_embed.proj": "mixins.patch_embed.proj", "patch_embed.text_proj": "mixins.patch_embed.text_proj",
    "norm_out.norm": "mixins.final_layer.norm_final", "proj_out": "mixins.final_layer.linear",
    "norm_out.linear": "mixins.final_layer.adaLN_modulation.1", "norm_final": "transformer.final_layernorm",
}
LAYERS = {
    "norm1.norm": "input_layernorm", "norm2.norm": "post_attention_layernorm", "attn1.to_out.0": "attention.dense",
    "ff.net.0.proj": "mlp.dense_h_to_4h", "ff.net.2": "mlp.dense_4h_to_h",
}


def transformer(weights):
    """A diffusers state dict under SAT's names."""
    left = dict(weights)
    sat = collections.OrderedDict()
    for new, old in MODULES.items():
        for suffix in ("weight", "bias"):
            if f"{new}.{suffix}" in left:
                sat[f"{old}.{suffix}"] = left.pop(f"{new}.{suffix}")
    if "patch_embed.pos_embedding" in left:
        sat["mixins.pos_embed.pos_embedding"] = left.pop("patch_embed.pos_embedding")
    count = 1 + max(int(name.split(".")[1]) for name in left)
    for layer in range(count):
        block = f"transformer_blocks.{layer}"
        for suffix in ("weight", "bias"):
            for new, old in LAYERS.items():
                sat[f"transformer.layers.{layer}.{old}.{suffix}"] = left.pop(f"{block}.{new}.{suffix}")
            fused = [left.pop(f"{block}.attn1.{name}.{suffix}") for name in ("to_q", "to_k", "to_v")]
            sat[f"transformer.layers.{layer}.attention.query_key_value.{suffix}"] = torch.cat(fused)
            for new, old in (("norm_q", "query"), ("norm_k", "key")):
                sat[f"mixins.adaln_layer.{old}_layernorm_list.{layer}.{suffix}"] = left.pop(
                    f"{block}.attn1.{new}.{suffix}")
            first = left.pop(f"{block}.norm1.linear.{suffix}").chunk(6)
            second = left.pop(f"{block}.norm2.linear.{suffix}").chunk(6)
            order = first[:3] + second[:3] + first[3:] + second[3:]
            sat[f"mixins.adaln_layer.adaLN_modulations.{layer}.1.{suffix}"] = torch.cat(order)
    assert not left, left.keys()
    return sat


def autoencoder(weights, levels=4):
    """The same for the autoencoder."""
    sat = collections.OrderedDict()
    for name, value in weights.items():
        parts = name.split(".")
        if parts[1] == "up_blocks":
            parts[1:3] = ["up", str(levels - 1 - int(parts[2]))]
        elif parts[1] == "down_blocks":
            parts[1] = "down"
        elif parts[1] == "mid_block":
            parts[1:4] = ["mid", f"block_{int(parts[3]) + 1}"]
        text = ".".join(parts).replace(".resnets.", ".block.").replace("conv_shortcut", "nin_shortcut")
        sat[text.replace("downsamplers.0", "downsample").replace("upsamplers.0", "upsample")] = value
    return sat


def engine(sat, positions=None, tables=False):
    """What SAT's engine saves around a transformer: also the tables that diffusers computes."""
    module = collections.OrderedDict((PREFIX + name, value) for name, value in sat.items())
    if positions is not None:
        module[PREFIX + "mixins.pos_embed.pos_embedding"] = positions
    if tables:
        module[PREFIX + "mixins.pos_embed.freqs_sin"] = torch.zeros(2, 3, dtype=torch.float64)
        module[PREFIX + "mixins.pos_embed.freqs_cos"] = torch.zeros(2, 3, dtype=torch.float64)
    return module


def main():
    OUT.mkdir(exist_ok=True)

    def golden(name, part):
        return load_file(GOLDEN / name / part / "diffusion_pytorch_model.safetensors")

    # A position table that is not the last in its storage, and wrappers with training state, as SAT's 2b has them.
    sat = engine(transformer(golden("2b", "transformer")), positions=torch.zeros(1, 20, 32))
    torch.save({"iteration": 1000, "module": sat, "args": argparse.Namespace(seed=1), "rng": (3, (2**31 + 5, -1), None)},
               OUT / "2b.pt")

    # bfloat16, a transposed weight, a parameter, and a bias that shares the storage of another.
    weights = {name: value.bfloat16() for name, value in golden("5b", "transformer").items()}
    sat = engine(transformer(weights), tables=True)
    name = PREFIX + "mixins.patch_embed.text_proj.weight"
    sat[name] = torch.nn.Parameter(sat[name].t().contiguous().t())
    first, second = (PREFIX + f"time_embed.{index}.bias" for index in (0, 2))
    joined = torch.cat([sat[first], sat[second]])
    sat[first], sat[second] = joined[: len(sat[first])], joined[len(sat[first]):]
    torch.save({"module": sat}, OUT / "5b.pt")

    torch.save({"module": engine(transformer(golden("5b-i2v", "transformer")), tables=True)}, OUT / "5b-i2v.pt")
    torch.save({"module": engine(transformer(golden("1.5", "transformer")))}, OUT / "1.5.pt")
    torch.save(engine(transformer(golden("1.5-i2v", "transformer")), tables=True), OUT / "1.5-i2v.pt")

    vae = autoencoder({name: value.half() for name, value in golden("2b", "vae").items()})
    vae["loss.logvar"] = torch.zeros(())
    torch.save({"state_dict": vae}, OUT / "2b-vae.pt")


if __name__ == "__main__":
    main()
