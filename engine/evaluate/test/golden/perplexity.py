"""Reference perplexities for perplexity-golden.test.ts, made without Lathe: numpy in float64 for the model, the `tokenizers` package for the text.

    python perplexity.py <folder with models/ and text/> <repository root> [slice] [whole] > perplexity.json

Protocols as lm-evaluation-harness (rolling, context length 1), IST-DASLab/gptq and llama.cpp's perplexity tool define them. Bytes are those
that the scored tokens cover of the text.
"""
import json, struct, sys
import numpy as np
from tokenizers import Tokenizer

def tensors(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    out = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        a, b = (8 + n + x for x in t["data_offsets"])
        if t["dtype"] == "BF16":
            v = (np.frombuffer(raw[a:b], "<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            v = np.frombuffer(raw[a:b], {"F32": "<f4", "F16": "<f2"}[t["dtype"]])
        out[name] = v.astype(np.float64).reshape(t["shape"])
    return out

class Llama:
    def __init__(self, folder):
        self.c = json.load(open(folder + "/config.json"))
        self.w = tensors(folder + "/model.safetensors")
        self.emb = self.w.get("model.embed_tokens.weight", self.w.get("lm_head.weight"))
        self.head = self.w.get("lm_head.weight", self.emb)

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.c["rms_norm_eps"]) * self.w[name]

    def logprobs(self, ids):
        """log p of every token given those before it; index 0 is meaningless."""
        c, w = self.c, self.w
        heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
        dim = c.get("head_dim") or c["hidden_size"] // heads
        n = len(ids)
        angle = np.outer(np.arange(n), 1.0 / c["rope_theta"] ** (np.arange(0, dim, 2) / dim))
        cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
        def rope(x):
            a, b = x[..., :dim // 2], x[..., dim // 2:]
            return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)
        x = self.emb[ids]
        mask = np.triu(np.full((n, n), -np.inf), 1)
        for i in range(c["num_hidden_layers"]):
            p = f"model.layers.{i}."
            h = self.norm(x, p + "input_layernorm.weight")
            q, k, v = (h @ w[p + f"self_attn.{s}_proj.weight"].T for s in "qkv")
            q, k, v = q.reshape(n, heads, dim), k.reshape(n, kv, dim), v.reshape(n, kv, dim)
            q, k = rope(q), rope(k)
            k, v = (np.repeat(t, heads // kv, 1) for t in (k, v))
            s = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(dim) + mask
            s = np.exp(s - s.max(-1, keepdims=True))
            s /= s.sum(-1, keepdims=True)
            x = x + np.einsum("hqk,khd->qhd", s, v).reshape(n, -1) @ w[p + "self_attn.o_proj.weight"].T
            h = self.norm(x, p + "post_attention_layernorm.weight")
            g = h @ w[p + "mlp.gate_proj.weight"].T
            x = x + (g / (1 + np.exp(-g)) * (h @ w[p + "mlp.up_proj.weight"].T)) @ w[p + "mlp.down_proj.weight"].T
        z = self.norm(x, "model.norm.weight") @ self.head.T
        m = z.max(-1, keepdims=True)
        z = z - m - np.log(np.exp(z - m).sum(-1, keepdims=True))
        return np.concatenate([[0.0], z[np.arange(n - 1), ids[1:]]])

def windows(protocol, ids, w, prefix, bos):
    """Each block, the first scored index in it, and where that stands in the text."""
    if protocol == "rolling":
        for start in range(0, len(ids), w):
            end = min(start + w, len(ids))
            if start == 0:
                yield np.concatenate([[prefix], ids[:end]]), 1, 0
            else:
                yield ids[end - w - 1:end], start - (end - w - 1), start
    else:
        for start in range(0, len(ids) - w + 1, w):
            block = ids[start:start + w].copy()
            if protocol == "llamacpp" and bos is not None:
                block[0] = bos
            first = 1 if protocol == "gptq" else w // 2
            yield block, first, start + first

def token_bytes(encoding, text):
    """UTF-8 bytes of the text that each token stands for, by its offsets; tokens of one character share its bytes."""
    covering = np.zeros(len(text))
    for a, b in encoding.offsets:
        covering[a:b] += 1
    share = np.array([len(c.encode()) for c in text]) / np.maximum(covering, 1)
    return np.array([share[a:b].sum() for a, b in encoding.offsets])

def measure(model, ids, protocol, w, prefix, bos, sizes):
    total, count, size = 0.0, 0, 0.0
    for block, first, at in windows(protocol, ids, w, prefix, bos):
        lp = model.logprobs(block)[first:]
        total -= lp.sum()
        count += len(lp)
        size += sizes[at:at + len(lp)].sum()
    return {"protocol": protocol, "window": w, "tokens": int(count), "bytes": round(size), "perplexity": float(np.exp(total / count)),
            "bits_per_byte": float(total / (round(size) * np.log(2)))}

def main(data, root, wanted):
    subjects = [
        ("stories260k", data + "/models/stories260k", data + "/text/tinystories.txt", 400),
        ("tinystories-656k", data + "/models/tinystories-656k", data + "/text/tinystories.txt", 660),
        ("demo-model", root + "/assets/demo-model", root + "/assets/demo-eval/perplexity.txt", 620),
    ]
    out = []
    for name, folder, path, characters in subjects:
        model = Llama(folder)
        tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
        special = json.load(open(folder + "/config.json"))
        bos, eos = special.get("bos_token_id"), special.get("eos_token_id")
        config = json.load(open(folder + "/tokenizer_config.json"))
        if config.get("bos_token") is None:
            bos = None
        eos = eos[0] if isinstance(eos, list) else eos
        token = config.get("eos_token")
        if isinstance(token, dict):
            token = token["content"]
        if token is not None:
            eos = tokenizer.token_to_id(token)
        text = open(path, newline="").read()
        parts = {"slice": text[:characters], "whole": text}
        for what in wanted:
            part = parts[what]
            encoding = tokenizer.encode(part, add_special_tokens=False)
            ids = np.array(encoding.ids)
            sizes = (64,) if what == "slice" else (512,)
            for w in sizes:
                for protocol in ("rolling", "gptq", "llamacpp"):
                    figure = measure(model, ids, protocol, w, bos if bos is not None else eos, bos, token_bytes(encoding, part))
                    out.append({"model": name, "text": what, "characters": len(part), **figure})
                    print(out[-1], file=sys.stderr)
    json.dump({"made_by": "perplexity.py, numpy " + np.__version__ + " float64", "figures": out}, sys.stdout, indent=2)
    print()

# Slices take seconds, whole texts half an hour on one core (perplexity-whole.py takes minutes): `slice`, `whole` or both as further arguments.
if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:] or ["slice"])
