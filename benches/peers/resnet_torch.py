"""Times ResNet50 in PyTorch, with channels last, and prints the medians as JSON. Arguments: number of threads, and
f32 or bf16 (autocast)."""

import json
import resource
import sys

import torch
import torch.nn.functional as F
import torchvision

from timing import median

torch.set_num_threads(int(sys.argv[1]))
autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=sys.argv[2] == "bf16")
torch.manual_seed(0)
model = torchvision.models.resnet50(num_classes=5).to(memory_format=torch.channels_last)
sgd = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)
x = torch.randn(32, 3, 224, 224).contiguous(memory_format=torch.channels_last)
y = torch.randint(0, 5, (32,))


def step():
    sgd.zero_grad(set_to_none=True)
    with autocast:
        loss = F.cross_entropy(model(x), y)
    loss.backward()
    sgd.step()


def infer():
    with torch.inference_mode(), autocast:
        return model(x).softmax(1)


model.train()
seconds = median(step, least=3)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
model.eval()
print(json.dumps({
    "resnet50_step_b32_s": seconds,
    "resnet50_infer_b32_images_per_s": 32 / median(infer, least=3),
    "resnet50_memory_gib": memory,
}))
