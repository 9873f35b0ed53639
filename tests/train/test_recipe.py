"""Recipes: what is allowed, the paper's, and the learning rate's course."""

from __future__ import annotations

import pytest

from etinynet.errors import ConfigError
from etinynet.train.recipe import Recipe, learning_rate_at, paper


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("epochs", 0, "an integer 1 to 100000"),
        ("epochs", True, "an integer"),
        ("batch_size", 1, "an integer 2 to 65536"),
        ("warmup_epochs", -1, "an integer 0"),
        ("seed", 2**31, "an integer 0 to 2147483647"),
        ("learning_rate", 0, "a number 1e-07 to 10.0"),
        ("learning_rate", float("nan"), "a number"),
        ("learning_rate", "0.1", "a number"),
        ("momentum", 1, "a number 0.0 to 0.999"),
        ("weight_decay", -1e-4, "a number 0.0"),
        ("label_smoothing", 1, "a number 0.0 to 0.9"),
        ("smallest_crop", 0, "a number 0.05 to 1.0"),
        ("rotation_degrees", 181, "a number 0.0 to 180.0"),
        ("colour", 1, "a number 0.0 to 0.9"),
        ("flip", 1, "true or false is allowed"),
        ("optimizer", "lion", "sgd or adam is allowed"),
        ("optimizer", None, "sgd or adam is allowed"),
    ],
)
def test_refuses(field: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe(**{field: value})
    assert f"recipe: {field} is {value!r}; " in str(caught.value)
    assert allowed in str(caught.value)


def test_warmup_must_end() -> None:
    with pytest.raises(ConfigError, match="fewer than the 5 epochs"):
        Recipe(epochs=5, warmup_epochs=5)


def test_json_round_trip() -> None:
    recipe = Recipe(epochs=7, seed=3)
    assert Recipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(ConfigError, match="exactly epochs, batch_size"):
        Recipe.from_json({"epochs": 7})
    with pytest.raises(ConfigError, match="not an object"):
        Recipe.from_json([7])


def test_paper() -> None:
    recipe = paper()
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (300, 1024, 0.1)
    assert (recipe.momentum, recipe.weight_decay, recipe.label_smoothing) == (0.9, 1e-4, 0.0)
    assert paper(seed=5).seed == 5


def test_learning_rate_rises_then_falls() -> None:
    recipe = Recipe(epochs=20, warmup_epochs=4, learning_rate=0.2)
    rates = [learning_rate_at(recipe, epoch / 4) for epoch in range(81)]
    peak = rates.index(max(rates))
    assert peak == 16
    assert rates[peak] == pytest.approx(0.2)
    assert 0 < rates[0] < 0.001
    assert rates[:17] == sorted(rates[:17])
    assert rates[16:] == sorted(rates[16:], reverse=True)
    assert rates[-1] == pytest.approx(0)
