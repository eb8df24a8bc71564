"""Makes the adapters of Fixtures/ with peft and diffusers on the golden 2b checkpoint.

    python make_adapter_fixtures.py     needs torch, diffusers, peft and safetensors; writes beside this file

`adapter-deltas.safetensors` holds what peft adds to each weight, by file and layer.
"""

import pathlib
import shutil

import torch
from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

HERE = pathlib.Path(__file__).parent
OUT = HERE / "Fixtures"
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def model(config):
    """The golden transformer with a random adapter in the default slot."""
    transformer = CogVideoXTransformer3DModel.from_pretrained(HERE.parent / "Golden/2b/transformer")
    transformer.add_adapter(config)
    generator = torch.Generator().manual_seed(7)
    for name, value in transformer.named_parameters():
        if "lora_" in name:
            value.data = torch.randn(value.shape, generator=generator) * 0.1
    return transformer


def deltas(transformer):
    """What peft adds to each weight."""
    return {
        name: module.get_delta_weight("default").detach().contiguous()
        for name, module in transformer.named_modules() if hasattr(module, "get_delta_weight")
    }


def save(transformer, name, metadata):
    """Saves as the trainers do, and renames."""
    folder = OUT / "saved"
    CogVideoXPipeline.save_lora_weights(
        folder, transformer_lora_layers=get_peft_model_state_dict(transformer),
        transformer_lora_adapter_metadata=metadata)
    (folder / "pytorch_lora_weights.safetensors").rename(OUT / name)
    shutil.rmtree(folder)


def main():
    OUT.mkdir(exist_ok=True)
    expected = {}

    def keep(file, values):
        expected.update({f"{file}/{name}": value for name, value in values.items()})

    plain = LoraConfig(r=4, lora_alpha=4, target_modules=ATTENTION)
    transformer = model(plain)
    save(transformer, "adapter-diffusers.safetensors", None)
    keep("adapter-diffusers.safetensors", deltas(transformer))

    patterned = LoraConfig(
        r=4, lora_alpha=8, target_modules=ATTENTION + ["ff.net.0.proj", "proj_out", "patch_embed.proj"],
        rank_pattern={"ff.net.0.proj": 2}, alpha_pattern={"transformer_blocks.1.attn1.to_q": 1}, lora_bias=False)
    transformer = model(patterned)
    save(transformer, "adapter-metadata.safetensors", patterned.to_dict())
    keep("adapter-metadata.safetensors", deltas(transformer))

    stable = LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=ATTENTION)
    transformer = CogVideoXTransformer3DModel.from_pretrained(HERE.parent / "Golden/2b/transformer")
    wrapped = get_peft_model(transformer, stable)
    generator = torch.Generator().manual_seed(8)
    for name, value in wrapped.named_parameters():
        if "lora_" in name:
            value.data = torch.randn(value.shape, generator=generator) * 0.1
    wrapped.save_pretrained(OUT / "adapter-peft")
    (OUT / "adapter-peft/README.md").unlink(missing_ok=True)
    keep("adapter-peft", deltas(transformer))

    # kohya's names for the first file, with an alpha of half the rank.
    weights = load_file(OUT / "adapter-diffusers.safetensors")
    kohya = {}
    for name, value in weights.items():
        layer, kind = name.removeprefix("transformer.").rsplit(".lora_", 1)
        stem = "lora_unet__" + layer.replace(".", "_")
        kohya[f"{stem}.lora_{'down' if kind == 'A.weight' else 'up'}.weight"] = value
        kohya[f"{stem}.alpha"] = torch.tensor(2.0)
    save_file(kohya, OUT / "adapter-kohya.safetensors")

    # SAT's names for it, in a checkpoint that holds base weights too.
    sat = {"model.diffusion_model.time_embed.0.bias": torch.zeros(3)}
    for name, value in weights.items():
        _, block, index, _, projection, rest = name.split(".", 5)
        matrix = "matrix_A" if "lora_A" in rest else "matrix_B"
        module = "dense" if projection == "to_out" else "query_key_value"
        number = {"to_q": 0, "to_k": 1, "to_v": 2, "to_out": 0}[projection]
        key = f"model.diffusion_model.transformer.layers.{index}.attention.{module}.{matrix}.{number}"
        sat[key] = value.clone()
    torch.save({"module": sat}, OUT / "adapter-sat.pt")
    save_file(expected, OUT / "adapter-deltas.safetensors")


if __name__ == "__main__":
    main()
