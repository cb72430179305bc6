"""What a search was asked for."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from falconet.core.config import Config
from falconet.core.errors import ConfigError
from falconet.search.space import Space

OURS = ("model", "criterion", "output", "seed", "train.minutes", "train.epochs", "train.weights")
"""Keys of a run that a search sets itself."""


class Request(Config):
    """Everything that decides a search, but for what it measures."""

    data: Path = Field(description="pictures and boxes, as of `falconet train`")
    budget_ms: float = Field(gt=0, description="milliseconds (p95) of a picture, from its pixels to its boxes")
    minutes: float = Field(ge=1, description="of training, altogether")
    threads: int = Field(ge=1, description="that the milliseconds are meant for")
    engine: str = Field(description="that they are meant for; auto: the fastest one here")
    seed: int = Field(ge=0, description="of what is drawn and of each training")
    overrides: tuple[str, ...] = Field(default=(), description="changes of each training, KEY=VALUE")
    space: Space
    strategy: Literal["halving", "shared"] = Field(
        default="halving", description="halving: each network learns alone; shared: widths of one network together"
    )
    reward: Literal["ap", "mnasnet"] = Field(
        default="ap", description="what is best: AP, or AP * (ms / budget) ** -0.07, which pays for being faster"
    )

    def check(self) -> "Request":
        """Raise ConfigError for changes that a search makes itself; else this request."""
        for override in self.overrides:
            key = override.partition("=")[0]
            if key == "data" or any(key == own or key.startswith(f"{own}.") for own in OURS):
                raise ConfigError(
                    f"{override}: 'falconet fit' chooses {key} itself; expected other settings of a training, as in "
                    "augment.flip_vertical=0.5 or train.batch_size=8"
                )
        return self


REWARD_EXPONENT = -0.07
"""MnasNet's (arXiv:1807.11626, section 3): twice the milliseconds have to bring 5 % more accuracy."""


def reward(request: Request, ap: float, ms: float) -> float:
    """What a candidate is worth."""
    return ap if request.reward == "ap" else ap * (ms / request.budget_ms) ** REWARD_EXPONENT
