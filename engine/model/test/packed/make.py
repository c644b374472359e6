"""Makes the two packed checkpoints beside it and their golden values, without any of Lathe's code.

Needs Python 3 and numpy. Written from the format's description (compressed-tensors pack-quantized: offset-binary codes, little-endian in
32-bit words along a row; zero points packed down the rows) and from the definition of the Llama architecture; arithmetic in float64.
With --check FOLDER GOLDEN it first reproduces a given BF16 Llama model's golden logits, which shows that the forward pass below is right.

    python3 make.py [--check <model folder> <golden json with prompts[].ids and prompts[].logits_first_64>]

w8a16-channel      F16 scales, int8 per row, untied and packed head, biases; v_proj of layer 0 is left dense (so q|k|v cannot be one matrix)
w4a16-asym-g32     BF16 scales, int4 in groups of 32 with zero points, tied head; o_proj (48 columns) stays dense; 12 rows of k leave its last zero-point word half full
"""
import json
import pathlib
import struct
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent


def bf16_bits(x):
    """Nearest even."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def bf16_values(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def stored(dtype, x):
    """(bytes to store, the values they stand for)"""
    if dtype == "F16":
        half = np.asarray(x, np.float16)
        return half, half.astype(np.float64)
    bits = bf16_bits(x)
    return bits, bf16_values(bits)


def pack_row(codes, bits):
    """Concatenates codes, lowest bits first, into one big integer and cuts it into words."""
    whole = sum(int(code) << (i * bits) for i, code in enumerate(codes))
    words = -(-len(codes) * bits // 32)
    return [(whole >> (32 * w)) & 0xFFFFFFFF for w in range(words)]


def quantize(w, bits, group, symmetric, dtype):
    """-> tensors of the packed module, dequantized matrix. Scales are rounded to their stored dtype before they are used."""
    rows, cols = w.shape
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    g = w.reshape(rows, cols // group, group)
    smallest, largest = np.minimum(g.min(2), 0), np.maximum(g.max(2), 0)
    scale = np.maximum(-smallest, largest) / ((high - low) / 2) if symmetric else (largest - smallest) / (high - low)
    scale_stored, scale = stored(dtype, scale)
    zero = np.zeros_like(scale) if symmetric else np.clip(np.rint(low - smallest / scale), low, high)
    q = np.clip(np.rint(g / scale[:, :, None] + zero[:, :, None]), low, high)
    tensors = {
        "weight_packed": ("I32", np.array([pack_row(r - low, bits) for r in q.reshape(rows, cols)], np.uint32)),
        "weight_scale": (dtype, scale_stored),
        "weight_shape": ("I64", np.array([rows, cols], np.int64)),
    }
    if not symmetric:
        tensors["weight_zero_point"] = ("I32", np.array([pack_row(c - low, bits) for c in zero.T], np.uint32).T.copy())
    return tensors, ((q - zero[:, :, None]) * scale[:, :, None]).reshape(rows, cols)


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, (dtype, array) in sorted(tensors.items()):
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            file.write(np.ascontiguousarray(tensors[name][1]).tobytes())


def forward(config, w, ids, cached=lambda x, layer, which: x):
    """Logits at every position, float64. `cached` is what a cache makes of keys (after rotation) and values, [tokens, kv heads, dim]."""
    hidden, heads, kv, dim = (config[k] for k in ("hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"))
    eps, n = config["rms_norm_eps"], len(ids)
    norm = lambda x, name: x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * w[name]
    linear = lambda x, name: x @ w[name + ".weight"].T + w.get(name + ".bias", 0)
    angle = np.arange(n)[:, None] / config["rope_theta"] ** (np.arange(dim // 2) * 2 / dim)[None]
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]

    def rope(x):
        a, b = x[..., : dim // 2], x[..., dim // 2 :]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    x = w["model.embed_tokens.weight"][ids]
    causal = np.triu(np.full((n, n), -np.inf), 1)
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        y = norm(x, p + "input_layernorm.weight")
        q = rope(linear(y, p + "self_attn.q_proj").reshape(n, heads, dim))
        k = cached(rope(linear(y, p + "self_attn.k_proj").reshape(n, kv, dim)), i, "k").repeat(heads // kv, 1)
        v = cached(linear(y, p + "self_attn.v_proj").reshape(n, kv, dim), i, "v").repeat(heads // kv, 1)
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(dim) + causal
        p_attn = np.exp(scores - scores.max(-1, keepdims=True))
        p_attn /= p_attn.sum(-1, keepdims=True)
        x = x + linear(np.einsum("hij,jhd->ihd", p_attn, v).reshape(n, heads * dim), p + "self_attn.o_proj")
        y = norm(x, p + "post_attention_layernorm.weight")
        gate = linear(y, p + "mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(y, p + "mlp.up_proj"), p + "mlp.down_proj")
    head = "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"
    return norm(x, "model.norm.weight") @ w[head + ".weight"].T


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def golden(config, w, prompts, steps=32, **cache):
    out = []
    for ids in prompts:
        logits = forward(config, w, ids, **cache)
        logprobs = log_softmax(logits)
        greedy, gaps, sequence = [], [], list(ids)
        for _ in range(steps):
            last = forward(config, w, sequence, **cache)[-1]
            order = np.argsort(-last, kind="stable")
            gaps.append(last[order[0]] - last[order[1]])
            greedy.append(int(order[0]))
            sequence.append(greedy[-1])
        top = np.argsort(-logits[-1], kind="stable")[:10]
        out.append(
            {
                "tokens": [int(i) for i in ids],
                "prompt_logprobs": [None] + [round(logprobs[i, ids[i + 1]], 6) for i in range(len(ids) - 1)],
                "last_logits_first64": [round(v, 6) for v in logits[-1][:64]],
                "last_top10": [[int(i), round(logits[-1][i], 6)] for i in top],
                "greedy": greedy,
                "smallest_greedy_gap": round(min(gaps), 6),
            }
        )
    return out


def make(name, seed, dtype, bits, group, symmetric, tied, bias, dense):
    rng = np.random.default_rng(seed)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 12, "vocab_size": 160, "max_position_embeddings": 256,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": tied, "attention_bias": bias, "mlp_bias": bias,
        "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "float16" if dtype == "F16" else "bfloat16",
    }  # fmt: skip
    tensors, values = {}, {}

    def add(name, array):
        bits_stored, values[name] = stored(dtype, array)
        tensors[name] = (dtype, bits_stored)

    def module(prefix, rows, cols, with_bias, packed=True):
        w = rng.standard_normal((rows, cols)) * 1.6 / np.sqrt(cols)
        if packed and prefix not in dense:
            parts, values[prefix + ".weight"] = quantize(w, bits, group or cols, symmetric, dtype)
            tensors.update({f"{prefix}.{suffix}": part for suffix, part in parts.items()})
        else:
            add(prefix + ".weight", w)
        if with_bias:
            add(prefix + ".bias", rng.standard_normal(rows) * 0.2)

    add("model.embed_tokens.weight", rng.standard_normal((160, 64)))
    add("model.norm.weight", 1 + 0.2 * rng.standard_normal(64))
    for i in range(2):
        p = f"model.layers.{i}."
        for which in ("input_layernorm", "post_attention_layernorm"):
            add(p + which + ".weight", 1 + 0.2 * rng.standard_normal(64))
        for suffix, rows, cols in (
            ("self_attn.q_proj", 48, 64), ("self_attn.k_proj", 12, 64), ("self_attn.v_proj", 12, 64), ("self_attn.o_proj", 64, 48),
            ("mlp.gate_proj", 96, 64), ("mlp.up_proj", 96, 64), ("mlp.down_proj", 64, 96),
        ):  # fmt: skip
            module(p + suffix, rows, cols, bias)
    if not tied:
        module("lm_head", 160, 64, False)
    scheme = {
        "num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group" if group else "channel", "group_size": group,
        "block_structure": None, "dynamic": False, "actorder": None, "scale_dtype": None, "zp_dtype": None if symmetric else "torch.int8",
        "observer": "memoryless_minmax", "observer_kwargs": {},
    }  # fmt: skip
    config["quantization_config"] = {
        "config_groups": {"group_0": {"format": "pack-quantized", "targets": ["Linear"], "weights": scheme, "input_activations": None, "output_activations": None}},
        "format": "pack-quantized", "global_compression_ratio": None, "ignore": sorted(dense | ({"lm_head"} if tied else set())),
        "kv_cache_scheme": None, "quant_method": "compressed-tensors", "quantization_status": "compressed", "version": "0.18.0",
    }  # fmt: skip
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    write_safetensors(folder / "model.safetensors", tensors)
    prompts = [[0, 7, 33, 101], [int(i) for i in rng.integers(2, 160, 50)]]
    (folder / "golden.json").write_text(json.dumps(golden(config, values, prompts)) + "\n")


def check(model, golden_file):
    raw = (pathlib.Path(model) / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    w = {}
    for name, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        assert entry["dtype"] == "BF16"
        w[name] = bf16_values(np.frombuffer(raw[begin:end], np.uint16)).reshape(entry["shape"])
    config = json.loads((pathlib.Path(model) / "config.json").read_text())
    for prompt in json.loads(pathlib.Path(golden_file).read_text())["prompts"]:
        worst = np.abs(forward(config, w, prompt["ids"])[-1][:64] - prompt["logits_first_64"]).max()
        print(f"check: {len(prompt['ids'])} tokens, worst logit difference {worst:.1e}")
        assert worst < 1e-4


if __name__ == "__main__":
    if "--check" in sys.argv:
        check(*sys.argv[sys.argv.index("--check") + 1 :][:2])
    make("w8a16-channel", 5, "F16", 8, None, True, tied=False, bias=True, dense={"model.layers.0.self_attn.v_proj"})
    make("w4a16-asym-g32", 3, "BF16", 4, 32, False, tied=True, bias=False, dense={f"model.layers.{i}.self_attn.o_proj" for i in range(2)})
