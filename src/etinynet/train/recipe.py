"""What a training run does, in numbers: schedule, optimizer, augmentation and seed, checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from etinynet.errors import ConfigError

__all__ = ["OPTIMIZERS", "Recipe", "learning_rate_at", "paper"]

OPTIMIZERS = ("sgd", "adam")
_INTEGERS = {
    "epochs": (1, 100_000),
    "batch_size": (2, 65_536),
    "warmup_epochs": (0, 100_000),
    "seed": (0, 2**31 - 1),
}
_NUMBERS = {
    "learning_rate": (1e-7, 10.0),
    "momentum": (0.0, 0.999),
    "weight_decay": (0.0, 1.0),
    "label_smoothing": (0.0, 0.9),
    "smallest_crop": (0.05, 1.0),
    "rotation_degrees": (0.0, 180.0),
    "colour": (0.0, 0.9),
}


@dataclass(frozen=True)
class Recipe:
    """Training from scratch; the defaults suit folders of some hundred to some ten thousand
    pictures. Raises ConfigError.

    `optimizer` sgd: stochastic gradient descent with Nesterov `momentum`; adam: Adam, whose first
    decay rate is `momentum`. `weight_decay` on convolution and classifier weights alone; the rate
    rises in a line for `warmup_epochs`, then falls to 0 as a cosine.

    Augmentation: a crop of `smallest_crop` to 1 of the picture's area, turned by up to
    ± `rotation_degrees`, mirrored half of the time if `flip`, brightness, contrast and white
    balance changed by up to ± `colour`. Equal seeds give equal weights on the same machine with
    the same number of threads.
    """

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: int = 3
    label_smoothing: float = 0.1
    smallest_crop: float = 0.5
    flip: bool = False
    rotation_degrees: float = 10.0
    colour: float = 0.2
    seed: int = 0
    optimizer: str = "sgd"

    def __post_init__(self) -> None:
        for name, (low, high) in _INTEGERS.items():
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise ConfigError(
                    f"recipe: {name} is {value!r}; an integer {low} to {high} is allowed"
                )
        for name, (least, most) in _NUMBERS.items():
            value = getattr(self, name)
            if type(value) not in (int, float) or not least <= value <= most:
                raise ConfigError(
                    f"recipe: {name} is {value!r}; a number {least} to {most} is allowed"
                )
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(
                f"recipe: optimizer is {self.optimizer!r}; {' or '.join(OPTIMIZERS)} is allowed"
            )
        if type(self.flip) is not bool:
            raise ConfigError(f"recipe: flip is {self.flip!r}; true or false is allowed")
        if self.warmup_epochs >= self.epochs > 1:
            raise ConfigError(
                f"recipe: warmup_epochs is {self.warmup_epochs!r}; fewer than the "
                f"{self.epochs} epochs are allowed"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON that `from_json` reads back to an equal recipe."""
        return asdict(self)

    @staticmethod
    def from_json(value: object) -> Recipe:
        """The recipe in `value`; raises ConfigError on unknown, missing or bad fields."""
        names = [field.name for field in fields(Recipe)]
        if not isinstance(value, Mapping) or sorted(map(str, value)) != sorted(names):
            raise ConfigError(f"recipe: {value!r} is not an object of exactly {', '.join(names)}")
        return Recipe(**value)


def paper(**others: Any) -> Recipe:
    """The paper's recipe for ImageNet (section 4, Training details); `others` replace fields.

    The paper names cropping and mirroring; crop areas and colour are the usual ones of its
    toolbox. Raises ConfigError.
    """
    recipe = Recipe(
        epochs=300,
        batch_size=1024,
        learning_rate=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        warmup_epochs=0,
        label_smoothing=0.0,
        smallest_crop=0.08,
        flip=True,
        rotation_degrees=0.0,
        colour=0.0,
    )
    return dataclasses.replace(recipe, **others)


def learning_rate_at(recipe: Recipe, epoch: float) -> float:
    """The rate after `epoch` epochs, 0 <= epoch <= recipe.epochs, fractions included."""
    if epoch < recipe.warmup_epochs:
        return recipe.learning_rate * (epoch + 0.01) / (recipe.warmup_epochs + 0.01)
    done = (epoch - recipe.warmup_epochs) / max(recipe.epochs - recipe.warmup_epochs, 1)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
