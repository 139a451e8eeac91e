"""Times W-Net and ResNet50 in PyTorch on a CUDA device and prints, for each precision, the fastest of the ways to run
them as JSON: channels first or last, step by step, as one CUDA graph, or compiled by torch.compile. A step includes the
copy of the images from pinned memory. Argument: the ways to try, of eager, graph and compile (default: all)."""

import json
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

WAYS = sys.argv[1:] or ["eager", "graph", "compile"]
DEVICE = torch.device("cuda")


def wnet():
    def block(c_in, c_out):
        return [nn.Conv2d(c_in, c_out, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2), nn.Dropout(0.4)]

    head = [nn.Flatten(), nn.Linear(16384, 1024), nn.ReLU(), nn.Dropout(0.4), nn.Linear(1024, 5)]
    return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), *head)


def median(work, seconds):
    """The median time of a call, each waited for."""
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    times, start = [], time.perf_counter()
    while len(times) < 20 or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def measure(name, precision, layout, way, results):
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    autocast = torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=way != "graph")
    is_wnet = name == "wnet"
    size, predicted = (128, 64) if is_wnet else (224, 32)
    model = wnet() if is_wnet else torchvision.models.resnet50(num_classes=5)
    model = model.to(DEVICE).to(memory_format=layout)
    capturable = {"capturable": True} if is_wnet and way == "graph" else {}
    optimiser = (
        torch.optim.Adam(model.parameters(), lr=1e-4, fused=True, **capturable) if is_wnet
        else torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)
    )
    forward = torch.compile(model) if way == "compile" else model

    def images(n):
        host = torch.randn(n, 3, size, size).contiguous(memory_format=layout).pin_memory()
        return host, torch.empty_like(host, device=DEVICE, memory_format=torch.preserve_format)

    def recorded(work):
        """`work` as one CUDA graph."""
        if way != "graph":
            return work
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return graph.replay

    host, x = images(32)
    y = torch.randint(0, 5, (32,), device=DEVICE)

    def compute():
        optimiser.zero_grad(set_to_none=True)
        with autocast:
            loss = F.cross_entropy(forward(x), y)
        loss.backward()
        optimiser.step()

    def timed(work, host, x):
        def call():
            x.copy_(host, non_blocking=True)
            work()
        return median(call, 0.5 if is_wnet else 1.0)

    def keep(what, value, better):
        kind = "first" if layout == torch.contiguous_format else "last"
        key = f"{name}_{what}_{precision}"
        if key not in results or better(value, results[key][0]) == value:
            results[key] = [value, f"{way}, channels {kind}"]

    model.train()
    keep("step_b32_ms", round(1e3 * timed(recorded(compute), host, x), 3), min)
    model.eval()
    host, x_infer = images(predicted)

    def infer():
        with torch.no_grad(), autocast:
            F.softmax(forward(x_infer).float(), 1)

    keep(f"infer_b{predicted}_images_per_s", round(predicted / timed(recorded(infer), host, x_infer)), max)


results = {}
start = time.perf_counter()
for way in WAYS:
    for name in ("wnet", "resnet50"):
        for precision in ("f32", "tf32", "bf16"):
            for layout in (torch.contiguous_format, torch.channels_last):
                # Compiling takes a minute each: what is fastest otherwise.
                if way == "compile" and (precision != "bf16" or layout == torch.contiguous_format):
                    continue
                try:
                    measure(name, precision, layout, way, results)
                except Exception as error:  # One way that fails does not hide the others.
                    print(f"{name}, {precision}, {layout}, {way}: {error}", file=sys.stderr)
                torch.cuda.empty_cache()
    print(way, round(time.perf_counter() - start), "s", file=sys.stderr)
results["device"], results["torch"] = torch.cuda.get_device_name(), torch.__version__
print(json.dumps(results, indent=1))
