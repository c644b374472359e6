"""GPTQ's arithmetic in PyTorch, for the comparison that gptq-bench.ts prints. Written from the paper (Frantar et al. 2022, algorithm 1): f32
Hessian, Cholesky of its inverse, blocks of 128 columns, importance order, static groups. Takes the job as JSON, prints seconds as JSON."""

import json
import sys
import time

import torch

job = json.loads(sys.argv[1])
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(1)
# What PyTorch does unless told otherwise: products of f32 matrices in f32.
torch.backends.cuda.matmul.allow_tf32 = False
BLOCK = 128


def now():
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def activations(tokens, columns):
    x = (torch.rand(tokens, columns, device=device) - 0.5) * 2
    x += (torch.rand(tokens, 1, device=device) - 0.5) * (((torch.arange(columns, device=device) % 7) - 3) * 0.3)
    x[:, 5::64] *= 20
    return x


def factor(hessian):
    order = torch.argsort(torch.diag(hessian), descending=True)
    h = hessian[order][:, order]
    diagonal = torch.arange(h.shape[0], device=device)
    h[diagonal, diagonal] += 0.01 * torch.mean(torch.diag(h))
    h = torch.linalg.cholesky(h)
    h = torch.cholesky_inverse(h)
    return torch.linalg.cholesky(h, upper=True), order


def quantize(weight, upper, order, group):
    rows, columns = weight.shape
    scales = weight.reshape(rows, columns // group, group).abs().amax(2) / 7.5
    w = weight[:, order].clone()
    column_scales = scales[:, order // group]
    codes = torch.zeros_like(w)
    for first in range(0, columns, BLOCK):
        last = min(first + BLOCK, columns)
        block = w[:, first:last].clone()
        errors = torch.zeros_like(block)
        inner = upper[first:last, first:last]
        for i in range(last - first):
            column = block[:, i]
            scale = column_scales[:, first + i]
            code = torch.clamp(torch.round(column / scale), -8, 7)
            codes[:, first + i] = code
            error = (column - code * scale) / inner[i, i]
            block[:, i:] -= error.unsqueeze(1) @ inner[i, i:].unsqueeze(0)
            errors[:, i] = error
        w[:, last:] -= errors @ upper[first:last, last:]
    out = torch.zeros_like(codes, dtype=torch.int8)
    out[:, order] = codes.to(torch.int8)
    return out.cpu()


seconds = {"gram": 0.0, "factor": 0.0, "round": 0.0}
warm = torch.rand(256, 256, device=device)
torch.linalg.cholesky(warm @ warm.T + torch.eye(256, device=device))
for shape in job["inputs"]:
    columns = shape["columns"]
    hessian = torch.zeros(columns, columns, device=device)
    for _ in range(job["pieces"]):
        x = activations(job["tokens"], columns)
        x.T @ x
        started = now()
        for _ in range(job["samples"] // job["pieces"]):
            hessian += x.T @ x
        seconds["gram"] += now() - started
    started = now()
    upper, order = factor(hessian)
    seconds["factor"] += now() - started
    for rows in shape["rows"]:
        weight = torch.randn(rows, columns, device=device) * 0.03
        started = now()
        quantize(weight, upper, order, job["group"])
        seconds["round"] += now() - started
print(json.dumps({**seconds, "device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}))
