"""pythae's own trainer on an equal network.

It has no noise and no dynamic binarisation, so it does less work than the others. Its images are
binarised beforehand, and its loss is that of a VAE.
"""

import logging
import tempfile
import time

import torch
import workloads as w
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn

from contenders.pytorch import networks


class Encoder(BaseEncoder):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        mean, log_variance = self.body(x.flatten(1)).chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self, body):
        super().__init__()
        self.body = nn.Sequential(body, nn.Sigmoid())

    def forward(self, z):
        return ModelOutput(reconstruction=self.body(z).reshape(-1, 1, 28, 28))


class Clock(TrainingCallback):
    def __init__(self):
        self.seconds = []
        self.losses = []

    def on_epoch_begin(self, training_config, **kwargs):
        self.start = time.perf_counter()

    def on_epoch_end(self, training_config, **kwargs):
        self.seconds.append(time.perf_counter() - self.start)

    def on_log(self, training_config, logs, **kwargs):
        self.losses.append(logs["train_epoch_loss"])


def run(variant, workload, images, num_epochs, seed):
    logging.disable(logging.CRITICAL)
    torch.manual_seed(seed)
    encoder, decoder = networks(workload.network)
    for parameter in [*encoder.parameters(), *decoder.parameters()]:
        nn.init.xavier_uniform_(parameter) if parameter.ndim > 1 else nn.init.zeros_(parameter)
    count = workload.steps * workload.batch_size
    pixels = torch.from_numpy(images[:count].reshape(-1, 1, 28, 28)).float() / 255
    x = (torch.rand_like(pixels) < pixels).float()
    model = VAE(
        VAEConfig(input_dim=(1, 28, 28), latent_dim=w.LATENT_DIM, reconstruction_loss="bce"),
        encoder=Encoder(encoder),
        decoder=Decoder(decoder),
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        config = BaseTrainerConfig(
            output_dir=directory,
            num_epochs=num_epochs + 1,
            per_device_train_batch_size=workload.batch_size,
            learning_rate=w.LEARNING_RATE,
            no_cuda=True,
        )
        trainer = BaseTrainer(
            model,
            train_dataset=BaseDataset(x, torch.ones(len(x))),
            training_config=config,
            callbacks=[clock],
        )
        trainer.train()
    return {
        "seconds": clock.seconds[1:],
        "parameters": sum(p.numel() for p in model.parameters()),
        "loss": float(clock.losses[-1]),
    }
