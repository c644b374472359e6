"""Makes the checkpoint `fp8-cache` and its golden values: a small Llama with the scales of an FP8 key-value cache, without any of Lathe's code.

Written from compressed-tensors' kv_cache_scheme as vLLM serves it: a key (after rotation) or value x is stored as the E4M3 number nearest to
x / scale, ties to even, beyond 448 saturated, and read back times scale. Layer 0 has one scale for keys and one for values, layer 1 one per
head. They are 0.7 of what the longer prompt needs, so that some values do saturate. Needs make.py beside it.

    python3 make_fp8_cache.py
"""
import json

import numpy as np

from make import HERE, forward, golden, stored, write_safetensors

KV, DIM = 2, 12


def e4m3_values():
    """All 127 that are not negative, ascending: code = index."""
    codes = np.arange(127)
    exponent, mantissa = codes >> 3, codes & 7
    return np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7))


def to_e4m3(x):
    """Nearest by looking at both neighbours; the even code of two that are equally near."""
    table = e4m3_values()
    magnitude = np.minimum(np.abs(x), 448.0)
    above = np.searchsorted(table, magnitude).clip(0, 126)
    below = np.maximum(above - 1, 0)
    up, down = table[above] - magnitude, magnitude - table[below]
    code = np.where((up < down) | ((up == down) & (above % 2 == 0)), above, below)
    return np.sign(x) * table[code]


def main():
    rng = np.random.default_rng(17)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": KV, "head_dim": DIM, "vocab_size": 160, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True, "attention_bias": False,
        "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "bfloat16",
    }  # fmt: skip
    tensors, values = {}, {}

    def add(name, array, dtype="BF16"):
        bits, values[name] = stored(dtype, array)
        tensors[name] = (dtype, bits)

    add("model.embed_tokens.weight", rng.standard_normal((160, 64)))
    add("model.norm.weight", 1 + 0.2 * rng.standard_normal(64))
    for i in range(2):
        p = f"model.layers.{i}."
        for which in ("input_layernorm", "post_attention_layernorm"):
            add(p + which + ".weight", 1 + 0.2 * rng.standard_normal(64))
        for suffix, rows, cols in (
            ("self_attn.q_proj", 48, 64), ("self_attn.k_proj", KV * DIM, 64), ("self_attn.v_proj", KV * DIM, 64), ("self_attn.o_proj", 64, 48),
            ("mlp.gate_proj", 96, 64), ("mlp.up_proj", 96, 64), ("mlp.down_proj", 64, 96),
        ):  # fmt: skip
            add(f"{p}{suffix}.weight", rng.standard_normal((rows, cols)) * 1.6 / np.sqrt(cols))
    prompts = [[0, 7, 33, 101], [int(i) for i in rng.integers(2, 160, 50)]]

    saturated = 0

    def cached(x, layer, which):
        nonlocal saturated
        name = f"model.layers.{layer}.self_attn.{which}_scale"
        if name not in values:
            peak = np.abs(x).max((0, 2), keepdims=False).reshape(KV, 1, 1) if layer == 1 else np.abs(x).max().reshape(1)
            add(name, 0.7 * peak / 448)
        scale = values[name].reshape(1, -1, 1)
        saturated += int((np.abs(x / scale) > 448).sum())
        return to_e4m3(x / scale) * scale

    forward(config, values, prompts[1], cached)
    assert saturated > 0
    config["quantization_config"] = {
        "config_groups": {}, "format": "dense", "global_compression_ratio": None, "ignore": [],
        "kv_cache_scheme": {
            "num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "group_size": None, "block_structure": None,
            "dynamic": False, "actorder": None, "scale_dtype": None, "zp_dtype": None, "observer": "memoryless_minmax", "observer_kwargs": {},
        },
        "quant_method": "compressed-tensors", "quantization_status": "compressed", "version": "0.18.0",
    }  # fmt: skip
    folder = HERE / "fp8-cache"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "golden.json").write_text(json.dumps(golden(config, values, prompts, cached=cached)) + "\n")


if __name__ == "__main__":
    main()
