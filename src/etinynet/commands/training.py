"""train: a folder of class folders becomes float weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etinynet.artefact import check_run_folder
from etinynet.commands.pictures import counted, to_json, told
from etinynet.data.collect import training_pictures
from etinynet.data.images import Preprocess
from etinynet.data.labels import list_folder
from etinynet.data.reading import Reading
from etinynet.errors import ConfigError
from etinynet.model.config import EtinyNetConfig, named_config
from etinynet.opened import loaded_of, open_float
from etinynet.show import note, progress

if TYPE_CHECKING:
    from etinynet.train.loop import Epoch, Progress

__all__ = ["shown_training", "teach", "train_folder"]

# Pictures of one folder: at 256 x 256 pixels, 4 gigabytes.
_MOST = 20_000
_TAUGHT_EPOCHS = 20


@contextmanager
def shown_training(
    pictures: int,
) -> Iterator[tuple[Callable[[], None], Callable[[Progress], None]]]:
    """(opened, stepped) that show the opening of `pictures` pictures, and then loop.fit's steps."""
    with progress() as display:
        task = display.add_task("pictures", total=pictures)

        def opened() -> None:
            display.advance(task)

        shown: list[Epoch] = []

        def stepped(step: Progress) -> None:
            done, total = (step.epoch - 1) * step.batches + step.batch, step.epochs * step.batches
            what = f"epoch {step.epoch} of {step.epochs}"
            display.update(task, description=what, completed=done, total=total)
            row = step.finished
            if row is not None and row not in shown:
                shown.append(row)
                note(f"epoch {row.epoch}: loss {row.loss:.4f}, held-out top-1 {row.top1:.4f}")

        yield opened, stepped


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
    from etinynet.train.loop import STATE
    from etinynet.train.recipe import Recipe

    check_run_folder("-o", output, STATE, resume)
    count = _epochs(epochs, Recipe.epochs)
    recipe = Recipe(epochs=count, warmup_epochs=min(Recipe.warmup_epochs, count - 1), seed=seed)
    dataset = list_folder(data)
    found = f"of {counted(len(dataset.class_names), 'class', 'classes')}"
    reading = Reading(len(dataset.examples))
    config = named_config(model, len(dataset.class_names), size)
    with shown_training(len(dataset.examples)) as (opened, stepped):
        trained = train_classifier(
            dataset,
            config,
            recipe,
            output,
            command=f"train {data.name} --model {model} --size {size} --seed {seed}",
            resume=resume,
            opened=told(opened, found, dataset, reading),
            reading=reading,
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
        **trained.recalls.to_json(),
        **to_json(dataset, reading),
    }


def teach(
    teacher: str,
    data: list[Path],
    output: Path,
    model: str,
    size: int | None,
    epochs: int | None,
    seed: int,
    resume: bool,
) -> dict[str, Any]:
    """Trains `model`, cut out of `teacher`, on its answers to the pictures in `data`.

    Returns how often the two agree on the held-out fifth.
    """
    from etinynet.train.classify import WEIGHTS
    from etinynet.train.distil import student_recipe, train_student
    from etinynet.train.loop import STATE
    from etinynet.train.pictures import load_unlabelled

    check_run_folder("-o", output, STATE, resume)
    opened = open_float(teacher)
    loaded = loaded_of(opened)
    wide = loaded.config
    preprocess = opened.preprocess if size is None else Preprocess.for_size(size)
    if not isinstance(wide, EtinyNetConfig):
        raise ConfigError(f"--teacher is {teacher!r}, a {wide.name}; allowed is an EtinyNet")
    config = named_config(
        model,
        wide.classes,
        preprocess.size,
        normalization=wide.normalization,
        activation_clip=wide.activation_clip,
        bn_epsilon=wide.bn_epsilon,
    )
    recipe = student_recipe(_epochs(epochs, _TAUGHT_EPOCHS), seed)
    dataset, _ = training_pictures(data, _MOST, None)
    reading = Reading(len(dataset.examples))
    with shown_training(len(dataset.examples)) as (shown, stepped):
        pictures = load_unlabelled(
            dataset, preprocess, told(shown, "without labels", dataset, reading), reading
        )
        _, history = train_student(
            loaded,
            config,
            pictures,
            recipe,
            output,
            command=f"train --teacher {Path(teacher).name} --model {model} --seed {seed}",
            resume=resume,
            progress=stepped,
        )
    return {
        "weights": str(output / WEIGHTS),
        "agreement": 100 * history[-1].top1,
        "n": len(pictures.held_out),
        "epochs": len(history),
        "seed": seed,
    }


def _epochs(given: int | None, default: int) -> int:
    if given is not None and given < 1:
        raise ConfigError(f"--epochs is {given!r}, allowed are 1 and more")
    return default if given is None else given
