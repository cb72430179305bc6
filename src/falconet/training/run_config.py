"""One training run as a value: what a run file (YAML) holds."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from falconet.core.config import Config
from falconet.data.augment import Augment
from falconet.models import ClassifierConfig, ModelConfig
from falconet.training.criteria import CRITERIA, CriterionConfig

_log = logging.getLogger(__name__)


class Source(Config):
    """Where annotated pictures are. In a run file, a text alone stands for `annotations`."""

    annotations: Path | None = Field(
        default=None,
        description="COCO .json, VOC folder or ImageSets list, YOLO .yaml or folder; of a classifier a folder of one "
        "folder of pictures per class; from the working folder",
    )
    shards: tuple[str, ...] | None = Field(
        default=None,
        min_length=1,
        description="instead: WebDataset tars, as in 'shards/train-{000000..000099}.tar'; globs, folders, or a list",
    )
    images: Path | None = Field(default=None, description="folder of the pictures, where it cannot be told")
    split: str | None = Field(default=None, description="part of the data set: train, val, test ...")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"annotations": value} if isinstance(value, str | Path) else value

    @field_validator("shards", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (str(value),) if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _one_place(self) -> "Source":
        if self.annotations is None and self.shards is None:
            raise ValueError("names no data; expected annotations, or shards")
        if self.shards is not None and (self.annotations, self.images, self.split) != (None, None, None):
            raise ValueError(
                "shards hold pictures and boxes; expected neither annotations, images nor split beside them"
            )
        return self

    @property
    def place(self) -> Path:
        """The annotations or the first shards, for messages."""
        if self.annotations is not None:
            return self.annotations
        assert self.shards is not None, "it was checked"
        return Path(self.shards[0])


class Data(Config):
    """The pictures of a run and how they are read."""

    train: Source
    val: Source | None = Field(default=None, description="null: a part of train is set aside")
    val_fraction: float = Field(default=0.15, gt=0, lt=1, description="that part, when val is null")
    unlabelled: Path | None = Field(
        default=None, description="folder of further pictures, about which train.teacher alone says what they show"
    )
    classes: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="null: those of the data; else some or all of these, in this order"
    )
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="share of the training pictures that is trained on, by class"
    )
    fraction_seed: int = Field(
        default=0, ge=0, description="another one draws other pictures; of one, smaller shares lie within larger ones"
    )
    workers: int | Literal["auto"] = Field(default="auto", description="processes that read pictures; 0: none")
    shuffle_buffer: int = Field(
        default=10_000, ge=1, description="of shards: pictures among which the next one is drawn, beside whole shards"
    )
    cache_mb: int = Field(default=1024, ge=0, description="memory for decoded pictures, over all workers; 0: none")

    @field_validator("workers")
    @classmethod
    def _not_negative(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError("expected 'auto', 0 or more")
        return value


class Train(Config):
    """How a model learns."""

    epochs: int = Field(default=100, ge=1, description="passes over the training pictures")
    minutes: float | None = Field(default=None, gt=0, description="ends after this time instead, all included")
    batch_size: int = Field(default=16, ge=1, description="pictures per step, over all devices together")
    accumulate: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="batches whose gradients are averaged for a step of the optimiser",
    )
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = Field(
        default="auto",
        description="peak at a reference_batch; auto: 0.004; to fine-tune 0.001, a NanoDet for new classes "
        "0.003, with fewer channels 0.003, with round_to 0.0001",
    )
    reference_batch: int | None = Field(
        default=16, ge=1, description="rate * sqrt(batch_size / this); null: rate as it stands"
    )
    backbone_rate: Annotated[float, Field(ge=0, le=1)] | Literal["auto"] = Field(
        default="auto",
        description="learning rate of the backbone, share of the rest's; auto: 0.1 where it alone is trained, else 1",
    )
    freeze: Literal["auto", "none", "backbone"] = Field(
        default="auto",
        description="backbone: it keeps the weights it starts from; neck and head learn alone, in less time; auto: in "
        "the first 0.7 of the run where norms are folded and the weights know half of the classes by name, else none",
    )
    freeze_share: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = Field(
        default="auto", description="share of the run, at the start, that freeze is for; auto: all of it"
    )
    norms: Literal["auto", "batch", "folded"] = Field(
        default="auto",
        description="batch: by each batch's statistics; folded into the convolutions, faster on CPUs; auto: folded "
        "where the whole network starts from trained weights",
    )
    round_to: Literal["none", "int8"] = Field(
        default="none",
        description="int8: weights and features are rounded as 'falconet quantize' will, so that the network learns to "
        "bear it; needs folded norms",
    )
    final_rate: float = Field(default=0.05, ge=0, le=1, description="rate at the end of the cosine, share of the peak")
    warmup_steps: int | Literal["auto"] = Field(default="auto", description="auto: 500, at most a tenth of all steps")
    optimizer: Literal["adamw", "sgd"] = Field(default="adamw", description="sgd: needs a learning_rate")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(default=0.05, ge=0, description="none on biases and norms; of sgd as L2")
    clip_gradients: float | None = Field(default=35.0, gt=0, description="largest norm of all gradients together")
    average_decay: float = Field(default=0.9998, ge=0, lt=1, description="of the weights' moving average; 0: none")
    multi_scale: tuple[float, float] | None = Field(
        default=None,
        description="the input's size varies by batch, between these multiples of the model's; null: it does not",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 where the processor multiplies it"
    )
    accelerator: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: cuda where there is one")
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto", description="of torch on a CPU; auto: one per CPU that nobody else keeps busy at the start"
    )
    devices: int = Field(default=1, ge=1, description="processes (cpu) or GPUs that share each batch")
    validate_every: int | Literal["auto"] = Field(
        default="auto", description="epochs; auto: about 50 times in all, of minutes at most 8 %"
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after so many epochs without a better AP or top-1"
    )
    weights: Path | Literal["auto"] | None = Field(
        default=None,
        description="to start from: file, run folder, published name, or imagenet; auto, of presets: published ones "
        "of this network or its backbone, where they can be had; null: from scratch",
    )
    teacher: Path | None = Field(
        default=None,
        description="a trained detector that is learnt from beside the boxes: file, run folder or published name",
    )
    loggers: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = Field(
        default=("tensorboard",), description="who gets the metrics beside metrics.jsonl: tensorboard, mlflow, wandb"
    )

    @field_validator("warmup_steps")
    @classmethod
    def _not_negative(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 0:
            raise ValueError("expected 'auto', 0 or more")
        return value

    @field_validator("accelerator", mode="before")
    @classmethod
    def _gpu_is_cuda(cls, value: Any) -> Any:
        return "cuda" if value == "gpu" else value

    @field_validator("weights", mode="before")
    @classmethod
    def _none_in_words(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.lower() in ("none", "scratch") else value

    @field_validator("validate_every")
    @classmethod
    def _positive(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("expected 'auto', 1 or more")
        return value

    @field_validator("multi_scale")
    @classmethod
    def _ascending(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] <= 4:
            raise ValueError("expected [smallest, largest] with 0 < smallest <= largest <= 4")
        return value

    @model_validator(mode="after")
    def _rate_of_sgd(self) -> "Train":
        if self.optimizer == "sgd" and self.learning_rate == "auto":
            raise ValueError("optimizer sgd has no rate of its own accord; expected a learning_rate beside it")
        return self

    @model_validator(mode="after")
    def _batch_fits_devices(self) -> "Train":
        if self.batch_size % self.devices:
            raise ValueError(f"batch_size {self.batch_size} cannot be shared equally by {self.devices} devices")
        return self


class RunConfig(Config):
    """Everything that decides a training run."""

    output: Path = Field(default=Path("runs/train"), description="folder of this run; must not hold another one")
    seed: int = Field(default=0, ge=0, description="same seed, same weights")
    model: ModelConfig
    slices: tuple[ModelConfig, ...] = Field(
        default=(),
        description="narrower networks of the same layers that learn beside it, as slices of its weights; "
        "'falconet fit --strategy shared' makes such runs",
    )
    criterion: CriterionConfig | None = Field(default=None, description="how this model learns; null: by its defaults")
    data: Data
    augment: Augment = Augment()
    train: Train = Train()

    @model_validator(mode="before")
    @classmethod
    def _with_criterion(cls, tree: Any) -> Any:
        """The criterion's kind follows from the model; keys of earlier versions move to where they are now."""
        if isinstance(tree, dict):
            tree = copy.deepcopy(tree)
            give_criterion(tree)
        return tree

    @model_validator(mode="after")
    def _fits_the_task(self) -> "RunConfig":
        if self.criterion is not None and self.criterion.name != self.model.name:
            raise ValueError(f"criterion.name is {self.criterion.name}, but the model is {self.model.name}")
        if any(type(one) is not type(self.model) for one in self.slices):
            raise ValueError(f"slices: expected narrower networks of the same kind as the model, {self.model.name}")
        if self.slices and self.train.round_to != "none":
            raise ValueError("slices are not trained with rounding; leave train.round_to out")
        if isinstance(self.model, ClassifierConfig) and self.augment.mosaic:
            raise ValueError("augment.mosaic joins pictures of several classes, which has no meaning for a classifier")
        if self.data.unlabelled is not None and self.train.teacher is None:
            raise ValueError("data.unlabelled needs a train.teacher that says what these pictures show")
        return self

    def absolute(self) -> "RunConfig":
        """The same run with absolute paths, so that it can be resumed from any folder."""

        def source(value: Source | None) -> Source | None:
            if value is None:
                return None
            images = None if value.images is None else value.images.absolute()
            annotations = None if value.annotations is None else value.annotations.absolute()
            shards = None if value.shards is None else tuple(str(Path(one).absolute()) for one in value.shards)
            return value.model_copy(update={"annotations": annotations, "shards": shards, "images": images})

        unlabelled = None if self.data.unlabelled is None else self.data.unlabelled.absolute()
        data = self.data.model_copy(
            update={"train": source(self.data.train), "val": source(self.data.val), "unlabelled": unlabelled}
        )
        weights = self.train.weights
        # What auto stands for is looked up by the command line, which may use the network.
        teacher = None if self.train.teacher is None else self.train.teacher.absolute()
        train = self.train.model_copy(
            update={"weights": weights.absolute() if isinstance(weights, Path) else None, "teacher": teacher}
        )
        return self.model_copy(update={"output": self.output.absolute(), "data": data, "train": train})


MOVED = {
    ("train", "auxiliary"): ("nanodet-plus", "auxiliary"),
    ("train", "detach_epoch"): ("nanodet-plus", "detach_epoch"),
    ("train", "static_share"): ("ppyoloe", "static_share"),
    ("train", "label_smoothing"): ("classifier", "label_smoothing"),
    ("model", "criterion"): ("yolov3", "kind"),
    ("model", "head", "class_loss"): ("ppyoloe", "class_loss"),
}
"""Keys of version 0.1, the model they had a meaning for, and their names in its `criterion` now."""


def give_criterion(tree: dict[str, Any], origin: Callable[[str], str] = lambda path: path) -> None:
    """Name the model in the `criterion` of a run as plain values, and move what earlier versions wrote elsewhere.

    Each key that has moved is told with its new place; one that means nothing for this model was ignored by earlier
    versions, and still is.

    Args:
        tree: changed in place.
        origin: a key's dotted path -> how to call it in a message.
    """
    model, criterion = tree.get("model"), tree.get("criterion")
    name = model.get("name") if isinstance(model, dict) else getattr(model, "name", None)
    if name not in CRITERIA or not isinstance(criterion, dict | None):
        return
    criterion = {} if criterion is None else criterion
    criterion.setdefault("name", name)
    for (*parents, last), (owner, key) in MOVED.items():
        node: Any = tree
        for parent in parents:
            node = node.get(parent) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node:
            continue
        path, value = ".".join((*parents, last)), node.pop(last)
        if name == owner:
            _log.warning("%s is criterion.%s now; please move it there", origin(path), key)
            criterion[key] = value
        else:
            _log.warning("%s: means nothing for %s; leave it out", origin(path), name)
    tree["criterion"] = criterion
