"""Options of train that are a recipe's fields, and the recipe that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from etinynet.errors import ConfigError
from etinynet.train.recipe import Recipe

__all__ = ["OPTIONS", "as_options", "changed", "naming_options"]

#: Option of each field of a recipe.
OPTIONS = {field.name: f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Recipe)}
OPTIONS |= {
    "learning_rate": "--rate",
    "smallest_crop": "--crop",
    "flip": "--mirror",
    "rotation_degrees": "--rotation",
}


def changed(recipe: Recipe, options: Mapping[str, Any]) -> Recipe:
    """`recipe` with the `options` that are given, by field; None is one that is not.

    The learning rate's rise is shortened where fewer epochs are given than it takes. Raises
    ConfigError.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if "epochs" in given and given["epochs"] > 0:
        given.setdefault("warmup_epochs", min(recipe.warmup_epochs, given["epochs"] - 1))
    return dataclasses.replace(recipe, **given)


def as_options(recipe: Recipe, default: Recipe) -> str:
    """How `recipe` differs from `default`, as train's options; epochs and seed are always there."""
    words = []
    for field, option in OPTIONS.items():
        value = getattr(recipe, field)
        if field in ("epochs", "seed") or value != getattr(default, field):
            switched = type(value) is bool
            words += [option if value is not False else option.replace("--", "--no-", 1)]
            words += [] if switched else [str(value)]
    return " ".join(words)


@contextmanager
def naming_options() -> Iterator[None]:
    """Errors about a recipe's field name the option instead."""
    try:
        yield
    except ConfigError as error:
        words = str(error)
        for field, option in OPTIONS.items():
            words = words.replace(f"recipe: {field} is ", f"{option} is ")
        raise ConfigError(words) from None
