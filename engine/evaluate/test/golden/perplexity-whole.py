"""Reference perplexities and bits per byte of whole texts, made without Lathe: transformers for the model, the `tokenizers` package for the text.

    python perplexity-whole.py <folder with models/ and text/> <repository root> > perplexity-whole.json

Protocols and bytes as in perplexity.py, windows of 512. Two minutes on one core.
"""
import json, math, sys
import numpy as np
import torch, transformers
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM
from perplexity import token_bytes, windows

WINDOW = 512

def main(data, root):
    subjects = [
        ("stories260k", data + "/models/stories260k", data + "/text/tinystories.txt"),
        ("tinystories-656k", data + "/models/tinystories-656k", data + "/text/tinystories.txt"),
        ("demo-model", root + "/assets/demo-model", root + "/assets/demo-eval/perplexity.txt"),
    ]
    torch.set_num_threads(1)
    figures = []
    for name, folder, path in subjects:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").double().eval()
        tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
        config = json.load(open(folder + "/tokenizer_config.json"))
        ids_of = {role: tokenizer.token_to_id(config[role]) if config.get(role) else None for role in ("bos_token", "eos_token")}
        bos = ids_of["bos_token"]
        prefix = bos if bos is not None else ids_of["eos_token"]
        text = open(path, newline="").read()
        encoding = tokenizer.encode(text, add_special_tokens=False)
        ids, sizes = np.array(encoding.ids), token_bytes(encoding, text)
        for protocol in ("rolling", "gptq", "llamacpp"):
            total, count, size = 0.0, 0, 0.0
            with torch.no_grad():
                for block, first, at in windows(protocol, ids, WINDOW, prefix, bos):
                    logits = model(torch.from_numpy(block[None, :].astype(np.int64))).logits[0].double()
                    logprobs = torch.log_softmax(logits[:-1], -1).gather(1, torch.from_numpy(block[1:, None].astype(np.int64)))[:, 0]
                    total -= logprobs[first - 1:].sum().item()
                    count += len(block) - first
                    size += sizes[at:at + len(block) - first].sum()
            size = round(size)
            figures.append({
                "model": name, "characters": len(text), "bytes_of_text": len(text.encode()), "protocol": protocol, "window": WINDOW, "tokens": count,
                "bytes": size, "nll": total / count, "perplexity": math.exp(total / count), "bits_per_byte": total / (size * math.log(2)),
            })
            print(figures[-1], file=sys.stderr)
    made_by = f"perplexity-whole.py, transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, eager attention, weights in float64"
    json.dump({"made_by": made_by, "figures": figures}, sys.stdout, indent=2)
    print()

main(*sys.argv[1:3])
