"""The thin LightningModule around network and criterion, and the trainer that runs it.

Only this file imports Lightning. Lightning brings the loop, the processes and the devices; what an epoch means
(order, rate, average, validation, checkpoint) is decided by `Session`, so that a resumed run is the same run.
"""

import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from falconet.core.errors import ModelError
from falconet.models import Network
from falconet.models.deployable import Normalize
from falconet.train.batch import Batch
from falconet.train.optim import build_optimizer
from falconet.train.session import Session


class Learner(lightning.LightningModule):
    """Network and criterion in training.

    Args:
        session: decides and records; holds the network and its criterion.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.networks = session.networks
        self.normalize = Normalize(session.run.model.input)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; when resuming with the moments it had."""
        optimizer = build_optimizer(self.networks, weight_decay=self.session.run.train.weight_decay)
        self.session.restore_optimizer(optimizer)
        return optimizer

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:  # noqa: ARG002
        """Pixels and targets on the device; indices stay."""
        targets = type(batch.targets)(*(part.to(device, non_blocking=True) for part in batch.targets))
        return batch._replace(pixels=batch.pixels.to(device, non_blocking=True), targets=targets)

    def on_fit_start(self) -> None:
        """All processes are there: agree on the plan, start to record."""
        self.session.open(rank=self.global_rank)
        self.trainer.fit_loop.max_epochs = self.session.plan.epochs - self.session.first_epoch

    def on_train_epoch_start(self) -> None:
        """Prepare the session's next epoch."""
        self.session.begin_epoch(rank=self.global_rank)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Set the learning rate of the step."""
        for group in self.optimizers().param_groups:
            group["lr"] = self.session.rate()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002
        """The loss of a batch: the sum of the criterion's terms."""
        self.session.current = batch.indices.tolist()
        terms = learn(self.networks, self.normalize, batch, epoch=self.session.epoch, half=self.session.half)
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            named = ", ".join(f"{name} {value.item():g}" for name, value in terms.items())
            raise self._broken(f"the loss is not finite ({named})")
        self.session.add_terms(loss, terms)
        return loss

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,  # noqa: ARG002
        gradient_clip_val: float | None = None,  # noqa: ARG002
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002
    ) -> None:
        """Limit the norm of all gradients together, and stop before gradients that are not finite are used."""
        self.session.forget_dropped()
        limit = self.session.run.train.clip_gradients
        gradients = [p.grad for p in self.networks.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise self._broken("the gradients are not finite")
        if limit is not None:
            nn.utils.clip_grads_with_norm_(self.networks.parameters(), limit, norm)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ARG002
        """Average the weights, count the step."""
        self.session.end_step(batch)

    def on_train_epoch_end(self) -> None:
        """Validate, write, decide whether and how long to go on."""
        self.session.end_epoch(self.optimizers().optimizer.state_dict(), rank=self.global_rank)
        if self.session.stopped:
            self.trainer.should_stop = True
        self.trainer.fit_loop.max_epochs = self.session.plan.epochs - self.session.first_epoch

    def _broken(self, what: str) -> ModelError:
        return ModelError(
            f"epoch {self.session.epoch + 1}, step {self.session.step + 1}: {what}; training stops, and the weights "
            f"of earlier epochs stay as they are. Pictures of this batch:\n  "
            + "\n  ".join(str(path) for path in self.session.current_files())
            + "\nLook at them with 'falconet data show'; a smaller train.learning_rate or train.precision=float32 "
            "may help too"
        )


def learn(networks: nn.ModuleDict, normalize: Normalize, batch: Batch, *, epoch: int, half: bool) -> dict[str, Tensor]:
    """The criterion's terms of a batch.

    Args:
        networks: "network" and "criterion".
        epoch: from 0.
        half: run convolutions in bfloat16.
    """
    network = networks["network"]
    assert isinstance(network, Network)
    with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=half):
        trace = network.trace(normalize(batch.pixels))
        terms: dict[str, Tensor] = networks["criterion"](trace, batch.targets, epoch)
    return terms


class Interrupted(Exception):  # noqa: N818  # not an error: the user asked for it
    """Ctrl-C while a run goes on."""


def run_epochs(session: Session, *, device: str, devices: int) -> None:
    """Train until the session's plan is done.

    Args:
        device: "cpu" or "cuda".
        devices: how many processes take part; with more than one, the environment says which this is.

    Raises:
        Interrupted: by Ctrl-C.
        FalconetError: loss or gradients not finite, or a file that cannot be written.
    """
    learner = Learner(session)
    backend = "nccl" if device == "cuda" else "gloo"
    # Criteria give each of their parameters a gradient in every step, so none has to be searched for.
    several = DDPStrategy(process_group_backend=backend)
    trainer = lightning.Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=devices,
        strategy=several if devices > 1 else "auto",
        max_epochs=session.plan.epochs - session.first_epoch,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    with _interruptible(), warnings.catch_warnings():
        # Lightning 2.6 still asks torch in a way that torch 2.13 warns of.
        warnings.filterwarnings("ignore", message=r".*LeafSpec", category=FutureWarning)
        # A gradient of a 1x1 convolution has two names for the same memory format; torch takes the slower copy.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view", category=UserWarning)
        trainer.fit(learner, train_dataloaders=session.loader)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C raises `Interrupted`; Lightning would turn KeyboardInterrupt into a silent exit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise Interrupted

    previous = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
