"""Weights files: safetensors whose metadata rebuilds the model. Nothing is ever unpickled.

A file holds the network's tensors under their own names, tensors that only training needs (the criterion's
auxiliary branch) under `EXTRA`, the fingerprints of the pictures it learnt from, and a `ModelCard` as JSON in the
metadata.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from pydantic import Field, ValidationError, field_validator, model_validator
from torch import Tensor

import falconet
from falconet.core.config import Config
from falconet.core.errors import DataError, ModelError
from falconet.core.exported_files import is_exported
from falconet.core.files import replace_file
from falconet.core.manifest import ScoreMap, Selection, StoredPoint, Target, check_names, check_scores
from falconet.core.types import Ints
from falconet.models import ModelConfig, Network, build

CARD_KEY = "falconet"
EXTRA = "extra."
TRAINED_ON = "data.trained_on"


class ModelCard(Config):
    """What a weights file says about itself."""

    model: ModelConfig = Field(description="the architecture, with the input it was trained for")
    classes: tuple[str, ...] = Field(min_length=1)
    trained: Literal["all", "backbone"] = Field(default="all", description="what of it is trained; the rest is fresh")
    selection: Selection = Selection()
    source: str = Field(default="", description="where the weights come from")
    licence: str = Field(default="", description="licence of the weights")
    falconet_version: str = falconet.__version__
    metrics: dict[str, float] = Field(default={}, description="measured on the validation set; fractions")
    data: dict[str, Any] = Field(default={}, description="what it was trained and measured on, as in its run file")
    calibration: tuple[ScoreMap, ...] = Field(default=(), description="what scores are told as; one per class, or none")
    calibrated_score_threshold: float = Field(
        default=0.0, ge=0, le=1, description="that of `selection`, after calibration"
    )
    operating_points: tuple[StoredPoint, ...] = Field(default=(), description="of `falconet calibrate`")
    calibration_target: Target = Field(default="precision", description="what calibrated scores say")

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("class names must differ")
        check_names(classes)
        return classes

    @model_validator(mode="after")
    def _of_all_classes(self) -> "ModelCard":
        check_scores(self.calibration, self.operating_points, len(self.classes))
        return self


def save_weights(
    path: Path,
    network: Network,
    card: ModelCard,
    *,
    extra: Mapping[str, Tensor] | None = None,
    trained_on: Ints | None = None,
) -> None:
    """Write `network` and `card` to `path`, or leave what was there: beside first, then renamed.

    Args:
        extra: tensors only training needs, by name.
        trained_on: see `falconet.data.fingerprint`.

    Raises:
        ModelError: the disk is full or the folder cannot be written; or the network is not the one that the card
            describes (it was fused, or has another number of classes).
    """
    state = network.state_dict()
    if problem := _difference(state, _built(card).state_dict()):
        raise ModelError(f"{path}: not written: the network is not the one its card describes: {problem}")
    tensors = dict(state) | {EXTRA + name: tensor for name, tensor in (extra or {}).items()}
    if trained_on is not None:
        tensors[TRAINED_ON] = torch.from_numpy(trained_on)
    data = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={CARD_KEY: card.model_dump_json()},
    )
    try:
        replace_file(path, data, sync=True)
    except DataError as error:
        raise ModelError(f"{error}; a file that was there before is unchanged") from error


def replace_card(path: Path, card: ModelCard, out: Path) -> None:
    """Write the weights of the file `path` with another card to `out`, which may be the same file.

    Raises:
        ModelError: as `read_card`. DataError: `out` cannot be written; a file that was there is unchanged.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    replace_file(out, safetensors.torch.save(tensors, metadata={CARD_KEY: card.model_dump_json()}), sync=True)


def load_weights(path: Path) -> tuple[Network, ModelCard]:
    """The network in the file `path`, in eval mode, and its card. Leaves torch's random generator alone.

    Raises:
        ModelError: missing, truncated or foreign file; tensors that do not fit the card, or are not finite.
    """
    card = read_card(path)
    with _opened(path) as file:
        names = [name for name in file.keys() if not name.startswith(EXTRA) and name != TRAINED_ON]  # noqa: SIM118
        state = {name: file.get_tensor(name) for name in names}
    network = _built(card)
    if problem := _difference(state, network.state_dict()):
        raise ModelError(f"{path}: its tensors do not fit its own description: {problem}; the file is damaged")
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(
                f"{path}: {name} holds numbers that are not finite (NaN or infinity); the training of this model "
                "diverged or the file is damaged: take best.safetensors of the run, or train with a smaller rate"
            )
    network.load_state_dict(state)
    return network.eval(), card


def read_card(path: Path) -> ModelCard:
    """The card of the file `path`, without its tensors.

    Raises:
        ModelError: missing, truncated or foreign file.
    """
    with _opened(path) as file:
        text = (file.metadata() or {}).get(CARD_KEY)
    if text is None:
        raise ModelError(
            f"{path}: is a safetensors file without a Falconet description, so the model it belongs to is unknown; "
            "expected a file written by 'falconet train'"
        )
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "JSON"
        raise ModelError(
            f"{path}: its description cannot be read ({where}: {problem['msg']}); "
            "the file may come from another version of Falconet"
        ) from error


def load_extra(path: Path) -> dict[str, Tensor]:
    """The tensors in the file `path` that only training needs, by name; may be none. Raises like `read_card`."""
    with _opened(path) as file:
        names = [name for name in file.keys() if name.startswith(EXTRA)]  # noqa: SIM118 (not a dict)
        return {name.removeprefix(EXTRA): file.get_tensor(name) for name in names}


def load_trained_on(path: Path) -> Ints | None:
    """Fingerprints of the pictures that the weights in the file `path` learnt from; None where it does not say.

    Raises like `read_card`.
    """
    with _opened(path) as file:
        return file.get_tensor(TRAINED_ON).numpy() if TRAINED_ON in file.keys() else None  # noqa: SIM118


@dataclass(frozen=True, slots=True)
class Transfer:
    """What `transfer` did, by name of parameter or buffer.

    Attributes:
        loaded: taken over whole.
        classes: taken over but for the class outputs, which stay as the network drew them.
        fresh: of the network, not in the state or of another shape there.
        unused: of the state, not in the network.
    """

    loaded: tuple[str, ...]
    classes: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors taken over"]
        if self.classes:
            parts.append(f"another number of classes in {len(self.classes)} ({_some(self.classes)})")
        if self.fresh:
            parts.append(f"{len(self.fresh)} left as they were ({_some(self.fresh)})")
        if self.unused:
            parts.append(f"{len(self.unused)} of the source unused ({_some(self.unused)})")
        return "; ".join(parts)


def transfer(network: Network, state: Mapping[str, Tensor]) -> Transfer:
    """Load into a freshly built `network`, in place, all of `state` that fits.

    With another number of classes only the class rows of the last convolutions stay fresh; box rows are taken.

    Args:
        state: of a network with the same names, as `state_dict()` gives it; the number of classes, or whole
            parts, may differ.

    Raises:
        ModelError: not one tensor fits.
    """
    own = network.state_dict()
    class_rows = network.class_outputs()
    loaded, classes, fresh = [], [], []
    with torch.no_grad():
        for name, target in own.items():
            source = state.get(name)
            if source is not None and source.shape == target.shape:
                target.copy_(source)
                loaded.append(name)
            elif source is not None and name in class_rows and source.shape[1:] == target.shape[1:]:
                _copy_other_rows(target, source, class_rows[name])
                classes.append(name)
            else:
                fresh.append(name)
    if not loaded:
        raise ModelError(
            "no tensor of the source fits the model; expected weights of the same architecture: "
            f"the source has {_some(tuple(state))}, the model {_some(tuple(own))}"
        )
    return Transfer(tuple(loaded), tuple(classes), tuple(fresh), tuple(n for n in state if n not in own))


def _copy_other_rows(target: Tensor, source: Tensor, class_rows: slice) -> None:
    """Rows before and after the class rows, which may be of another number in the source."""
    before, after = class_rows.start, target.shape[0] - class_rows.stop
    if source.shape[0] < before + after:
        return
    target[:before] = source[:before]
    target[target.shape[0] - after :] = source[source.shape[0] - after :]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise ModelError(f"{path}: does not exist; expected a weights file (.safetensors)")
    if is_exported(path):
        raise ModelError(
            f"{path}: is exported already; expected the weights (.safetensors) or the run's folder that it was made of"
        )
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except safetensors.SafetensorError as error:
        raise ModelError(
            f"{path}: is damaged or no weights file ({error}); expected a .safetensors file written by "
            "'falconet train': copy it again, or use last.safetensors of the same run"
        ) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _built(card: ModelCard) -> Network:
    """The network of the card, without a step of torch's random generator."""
    with torch.random.fork_rng(devices=[]):
        return build(card.model, len(card.classes))


def _difference(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """How names and shapes of `state` differ from the expected ones; empty when they do not."""
    missing = [name for name in expected if name not in state]
    surplus = [name for name in state if name not in expected]
    wrong = [
        f"{name} has shape {list(state[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in state and state[name].shape != tensor.shape
    ]
    parts = [f"{len(missing)} missing ({_some(tuple(missing))})"] if missing else []
    parts += [f"{len(surplus)} unexpected ({_some(tuple(surplus))})"] if surplus else []
    parts += wrong[:1]
    return ", ".join(parts)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")
