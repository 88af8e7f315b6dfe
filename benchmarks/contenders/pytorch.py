"""A PyTorch loop as one would write it: data in memory, one gather a batch; eager or compiled."""

import itertools
import os
import time

import torch
import workloads as w
from torch import nn


class MLP(nn.Sequential):
    def __init__(self, sizes):
        pairs = list(itertools.pairwise(sizes))
        modules = [nn.Linear(*pairs[0])]
        for pair in pairs[1:]:
            modules += [nn.SiLU(), nn.Linear(*pair)]
        super().__init__(*modules)


def networks(kind):
    if kind == "mlp":
        encoder = MLP([784, *w.HIDDEN, 2 * w.LATENT_DIM])
        return encoder, MLP([w.LATENT_DIM, *reversed(w.HIDDEN), 784])
    first, second = w.FILTERS
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, first, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(first, second, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(49 * second, w.DENSE),
        nn.ReLU(),
        nn.Linear(w.DENSE, 2 * w.LATENT_DIM),
    )
    decoder = nn.Sequential(
        nn.Linear(w.LATENT_DIM, w.DENSE),
        nn.ReLU(),
        nn.Linear(w.DENSE, 49 * second),
        nn.ReLU(),
        nn.Unflatten(1, (second, 7, 7)),
        nn.ConvTranspose2d(second, second, 3, 2, 1, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(second, first, 3, 2, 1, 1),
        nn.ReLU(),
        nn.Conv2d(first, 1, 3, 1, 1),
        nn.Flatten(),
    )
    return encoder, decoder


def run(variant, workload, images, num_epochs, seed):
    torch.manual_seed(seed)
    torch.set_num_threads(os.cpu_count() or 1)
    data = torch.from_numpy(images.reshape(len(images), -1))
    encoder, decoder = networks(workload.network)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    for parameter in parameters:  # as Keras starts
        nn.init.xavier_uniform_(parameter) if parameter.ndim > 1 else nn.init.zeros_(parameter)
    optimizer = torch.optim.Adam(parameters, lr=w.LEARNING_RATE, eps=w.EPSILON)

    def loss_of(pixels):
        x = (torch.rand_like(pixels) < pixels).float()
        u = torch.rand_like(x)
        noisy = torch.where(u < w.LEVEL / 2, 0.0, torch.where(u < w.LEVEL, 1.0, x))
        mean, raw = encoder(noisy).chunk(2, dim=1)
        scale = w.SCALE_FLOOR + nn.functional.softplus(raw)
        logits = decoder(mean + scale * torch.randn_like(mean))
        reconstruction = -nn.functional.binary_cross_entropy_with_logits(
            logits, x, reduction="none"
        ).sum(1)
        kl = (0.5 * (mean**2 + scale**2 - 1) - torch.log(scale)).sum(1)
        return (kl - reconstruction).mean()

    if variant == "compiled":
        loss_of = torch.compile(loss_of)
    size = workload.batch_size

    def epoch():
        order, total = torch.randperm(len(data)), torch.zeros(())
        for step in range(workload.steps):
            pixels = data[order[step * size : (step + 1) * size]].float() / 255
            loss = loss_of(pixels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        return total.item() / workload.steps

    loss, seconds = epoch(), []
    for _ in range(num_epochs):
        start = time.perf_counter()
        loss = epoch()
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": seconds,
        "parameters": sum(p.numel() for p in parameters),
        "loss": loss,
    }
