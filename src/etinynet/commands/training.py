"""train: a folder of class folders becomes float weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etinynet.data.labels import list_folder
from etinynet.errors import ConfigError
from etinynet.model.config import named_config
from etinynet.show import note, progress

__all__ = ["train_folder"]


def train_folder(
    data: Path,
    output: Path,
    model: str,
    size: int,
    epochs: int | None,
    seed: int,
    resume: bool,
) -> dict[str, Any]:
    """Trains `model` on `data`, writes to `output`; returns accuracy on the held-out fifth."""
    import torch

    from etinynet.train.classify import train_classifier
    from etinynet.train.loop import Progress
    from etinynet.train.recipe import Recipe

    if epochs is not None and epochs < 1:
        raise ConfigError(f"--epochs is {epochs!r}, allowed are 1 and more")
    count = Recipe.epochs if epochs is None else epochs
    recipe = Recipe(epochs=count, warmup_epochs=min(Recipe.warmup_epochs, count - 1), seed=seed)
    dataset = list_folder(data)
    config = named_config(model, len(dataset.class_names), size)
    with progress() as display:
        task = display.add_task("pictures", total=len(dataset.examples))

        def opened() -> None:
            display.advance(task)

        shown: list[int] = []

        def stepped(step: Progress) -> None:
            done, total = (step.epoch - 1) * step.batches + step.batch, step.epochs * step.batches
            what = f"epoch {step.epoch} of {step.epochs}"
            display.update(task, description=what, completed=done, total=total)
            row = step.finished
            if row is not None and row.epoch not in shown:
                shown.append(row.epoch)
                note(f"epoch {row.epoch}: loss {row.loss:.4f}, held-out top-1 {row.top1:.4f}")

        trained = train_classifier(
            dataset,
            config,
            recipe,
            output,
            command=f"train {data.name} --model {model} --size {size} --seed {seed}",
            resume=resume,
            opened=opened,
            progress=stepped,
        )
    last = trained.history[-1]
    return {
        "weights": str(trained.weights),
        "best": str(trained.best),
        "top1": 100 * last.top1,
        "best_top1": 100 * max(epoch.top1 for epoch in trained.history),
        "n": trained.n,
        "epochs": len(trained.history),
        "seed": seed,
        "threads": torch.get_num_threads(),
    }
