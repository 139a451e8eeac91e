"""Times W-Net in PyTorch with channels first and channels last, fused Adam, and prints the better medians as JSON.
Arguments: number of threads, and f32 or bf16 (autocast)."""

import json
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

from timing import median

torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))
autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=sys.argv[2] == "bf16")


def block(c_in, c_out):
    return [nn.Conv2d(c_in, c_out, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Dropout(0.4)]


results = {}
for channels_last in (False, True):
    head = [nn.Flatten(), nn.Linear(16384, 1024), nn.ReLU(), nn.Dropout(0.4), nn.Linear(1024, 5)]
    model = nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), *head)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=layout)
    assert sum(p.numel() for p in model.parameters()) == 16_806_949
    adam = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(x, y):
        adam.zero_grad(set_to_none=True)
        with autocast:
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        adam.step()

    def record(name, value, better):
        results[name] = better(results.get(name, value), value)

    model.train()
    for n in (5, 32):
        x = torch.randn(n, 3, 128, 128).contiguous(memory_format=layout)
        y = torch.randint(0, 5, (n,))
        record(f"wnet_step_b{n}_ms", 1e3 * median(lambda: step(x, y)), min)
    model.eval()
    x = torch.randn(64, 3, 128, 128).contiguous(memory_format=layout)
    with torch.inference_mode(), autocast:
        record("wnet_infer_b64_images_per_s", 64 / median(lambda: F.softmax(model(x), 1)), max)
print(json.dumps(results))
