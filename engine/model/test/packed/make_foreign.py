"""Makes the GPTQ and AWQ checkpoints beside it and their golden values, without any of Lathe's code (see make.py).

Needs Python 3 and numpy. Layouts written from the formats' descriptions: AutoGPTQ's packed linear (words down the inputs; zero points along the
outputs, stored less one in the first format; g_idx) and AutoAWQ's GEMM linear (words along the outputs, nibble i of a word is output
[0, 2, 4, 6, 1, 3, 5, 7][i] of its eight).

    python3 make_foreign.py

gptq-w4-g32-desc   4 bits, groups of 32 in activation order (g_idx), zero points less one
gptq-v2-w8         8 bits, one group, the second format (zero points as they are)
awq-w4-g32         4 bits, groups of 32, zero points
"""
import json

import numpy as np

from make import HERE, golden, stored, write_safetensors

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def pack(rows, bits, order=None):
    """[n, m] codes -> [n / (32 / bits), m] words, consecutive rows from the lowest bits; or in `order`."""
    per = 32 // bits
    order = order or list(range(per))
    grouped = np.asarray(rows, np.uint64).reshape(-1, per, rows.shape[1])
    return sum(grouped[:, order[i]] << np.uint64(i * bits) for i in range(per)).astype(np.uint32)


def quantize(w, bits, group_of):
    """w [outputs, inputs] -> unsigned codes, zero points [groups, outputs], float16 scales [groups, outputs], dequantized."""
    groups = int(group_of.max()) + 1
    top = 2**bits - 1
    codes, zeros, scales, values = np.zeros(w.shape), np.zeros((groups, len(w))), np.zeros((groups, len(w))), np.zeros(w.shape)
    for g in range(groups):
        columns = group_of == g
        part = w[:, columns]
        low, high = np.minimum(part.min(1), 0), np.maximum(part.max(1), 0)
        scale = ((high - low) / top).astype(np.float16).astype(np.float64)
        zero = np.clip(np.rint(-low / scale), 0, top)
        q = np.clip(np.rint(part / scale[:, None] + zero[:, None]), 0, top)
        codes[:, columns], zeros[g], scales[g] = q, zero, scale
        values[:, columns] = (q - zero[:, None]) * scale[:, None]
    return codes, zeros, scales, values


def make(name, seed, method, bits, group, reordered=False, version2=False):
    rng = np.random.default_rng(seed)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 160, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": False, "attention_bias": False,
        "mlp_bias": False, "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float16",
    }  # fmt: skip
    tensors, values = {}, {}

    def add(name, array):
        bits_stored, values[name] = stored("F16", array)
        tensors[name] = ("F16", bits_stored)

    def module(prefix, outputs, inputs):
        w = rng.standard_normal((outputs, inputs)) * 1.6 / np.sqrt(inputs)
        size = group or inputs
        importance = rng.permutation(inputs) if reordered else np.arange(inputs)
        group_of = np.empty(inputs, np.int64)
        group_of[importance] = np.arange(inputs) // size
        codes, zeros, scales, values[prefix + ".weight"] = quantize(w, bits, group_of)
        if method == "gptq":
            offset = 0 if version2 else 1
            tensors[prefix + ".qweight"] = ("I32", pack(codes.T, bits))
            tensors[prefix + ".qzeros"] = ("I32", pack(((zeros - offset) % 2**bits).T, bits).T.copy())
            tensors[prefix + ".g_idx"] = ("I32", group_of.astype(np.int32))
        else:
            tensors[prefix + ".qweight"] = ("I32", pack(codes, bits, AWQ_ORDER).T.copy())
            tensors[prefix + ".qzeros"] = ("I32", pack(zeros.T, bits, AWQ_ORDER).T.copy())
        tensors[prefix + ".scales"] = ("F16", scales.astype(np.float16))

    add("model.embed_tokens.weight", rng.standard_normal((160, 64)))
    add("lm_head.weight", rng.standard_normal((160, 64)) * 0.2)
    add("model.norm.weight", 1 + 0.2 * rng.standard_normal(64))
    for i in range(2):
        p = f"model.layers.{i}."
        for which in ("input_layernorm", "post_attention_layernorm"):
            add(p + which + ".weight", 1 + 0.2 * rng.standard_normal(64))
        for suffix, outputs, inputs in (
            ("self_attn.q_proj", 64, 64), ("self_attn.k_proj", 16, 64), ("self_attn.v_proj", 16, 64), ("self_attn.o_proj", 64, 64),
            ("mlp.gate_proj", 96, 64), ("mlp.up_proj", 96, 64), ("mlp.down_proj", 64, 96),
        ):  # fmt: skip
            module(p + suffix, outputs, inputs)
    quantization = {"quant_method": method, "bits": bits, "group_size": group or -1}
    if method == "gptq":
        quantization |= {"desc_act": reordered, "sym": False, "checkpoint_format": "gptq_v2" if version2 else "gptq"}
    else:
        quantization |= {"zero_point": True, "version": "gemm", "modules_to_not_convert": None}
    config["quantization_config"] = quantization
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", tensors)
    prompts = [[0, 7, 33, 101], [int(i) for i in rng.integers(2, 160, 24)]]
    (folder / "golden.json").write_text(json.dumps(golden(config, values, prompts, steps=12)) + "\n")


if __name__ == "__main__":
    make("gptq-w4-g32-desc", 11, "gptq", 4, 32, reordered=True)
    make("gptq-v2-w8", 12, "gptq", 8, None, version2=True)
    make("awq-w4-g32", 13, "awq", 4, 32)
