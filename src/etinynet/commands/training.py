"""train: a folder of class folders becomes float weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etinynet.artefact import check_run_folder
from etinynet.commands.pictures import counted, to_json, told
from etinynet.commands.recipes import as_options, changed, naming_options
from etinynet.data.collect import training_pictures
from etinynet.data.images import Preprocess
from etinynet.data.labels import list_folder
from etinynet.data.reading import Reading
from etinynet.errors import ConfigError
from etinynet.model.config import EtinyNetConfig, named_config
from etinynet.opened import held_out_of, loaded_of, open_float
from etinynet.show import Shown, note, progress
from etinynet.threads import choose_threads
from etinynet.train.recipe import Recipe

if TYPE_CHECKING:
    from etinynet.train.history import Epoch
    from etinynet.train.loop import Progress

__all__ = ["resumable", "shown_training", "steps_shown", "teach", "train_folder"]

# Pictures of one folder: at 256 x 256 pixels, 4 gigabytes.
_MOST = 20_000
_TAUGHT_EPOCHS = 20


@contextmanager
def shown_training(
    pictures: int,
) -> Iterator[tuple[Callable[[], None], Callable[[Progress], None]]]:
    """(opened, stepped) that show the opening of `pictures` pictures, and then loop.fit's steps."""
    with progress() as display:
        numbers = itertools.count(1)
        yield lambda: display.show("pictures", next(numbers), pictures), steps_shown(display)


def steps_shown(display: Shown) -> Callable[[Progress], None]:
    """What shows loop.fit's steps on `display`, and each finished epoch in a line."""
    shown: list[Epoch] = []

    def stepped(step: Progress) -> None:
        done, total = (step.epoch - 1) * step.batches + step.batch, step.epochs * step.batches
        row = step.finished
        if row is not None and row not in shown:
            shown.append(row)
            note(f"epoch {row.epoch}: loss {row.loss:.4f}, held-out top-1 {row.top1:.4f}")
        where = f"epoch {step.epoch} of {step.epochs}, loss {step.loss:.4f}"
        display.show("training", done, total, where)

    return stepped


@contextmanager
def resumable(folder: Path, weights: str | None = None) -> Iterator[None]:
    """Where Ctrl-C or SIGTERM stop a training, says what is in `folder` and how to go on.

    `weights`: name of the file in it that holds the weights so far, where the training writes one.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        from etinynet.train.loop import STATE

        if (folder / STATE).exists() or list(folder.glob(f"*/{STATE}")):
            kept = "" if weights is None else f"; the weights so far are {folder / weights}"
            note(f"stopped; {folder} holds the state{kept}")
            note("the same command with --resume goes on from the last whole epoch")
        raise


def _recipe(default: Recipe, options: Mapping[str, Any], folder: Path, resume: bool) -> Recipe:
    """`default`, or the recipe of the run to resume in `folder`, changed by `options`."""
    if not resume:
        return changed(default, options)
    from etinynet.train.loop import saved_recipe

    found = saved_recipe(folder)
    given = {field: value for field, value in options.items() if value is not None}
    # The rise of the rate is over, or goes on as it began.
    return changed(found, {"warmup_epochs": found.warmup_epochs} | given)


def train_folder(
    data: Path,
    output: Path,
    model: str,
    size: int,
    options: Mapping[str, Any],
    resume: bool,
) -> dict[str, Any]:
    """Trains `model` on `data`, writes to `output`; returns accuracy on the held-out fifth.

    `options`: fields of a recipe that are not at their default, or None.
    """
    import torch

    from etinynet.train.classify import WEIGHTS, train_classifier
    from etinynet.train.loop import STATE

    check_run_folder("-o", output, STATE, resume)
    choose_threads(size)
    with naming_options(), resumable(output, WEIGHTS):
        recipe = _recipe(Recipe(), options, output, resume)
        dataset = list_folder(data)
        found = f"of {counted(len(dataset.class_names), 'class', 'classes')}"
        reading = Reading(len(dataset.examples))
        config = named_config(model, len(dataset.class_names), size)
        given = as_options(recipe, changed(Recipe(), {"epochs": recipe.epochs}))
        with shown_training(len(dataset.examples)) as (opened, stepped):
            trained = train_classifier(
                dataset,
                config,
                recipe,
                output,
                command=f"train {data.name} --model {model} --size {size} {given}",
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
        "seed": recipe.seed,
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
    options: Mapping[str, Any],
    resume: bool,
) -> dict[str, Any]:
    """Trains `model`, cut out of `teacher`, on its answers to the pictures in `data`.

    Returns how often the two agree on the held-out fifth.
    """
    from etinynet.train.classify import WEIGHTS
    from etinynet.train.distil import student_recipe, train_student
    from etinynet.train.loop import STATE
    from etinynet.train.pictures import load_unlabelled

    if options.get("label_smoothing") is not None:
        raise ConfigError("--label-smoothing is for labels, which --teacher does not read")
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
    choose_threads(preprocess.size)
    with naming_options(), resumable(output, WEIGHTS):
        default = student_recipe(_TAUGHT_EPOCHS, 0)
        recipe = _recipe(default, options, output, resume)
        dataset, _ = training_pictures(data, _MOST, None, record=held_out_of(opened))
        reading = Reading(len(dataset.examples))
        given = as_options(recipe, student_recipe(recipe.epochs, 0))
        with shown_training(len(dataset.examples)) as (shown, stepped):
            told_of = told(shown, "without labels", dataset, reading)
            pictures = load_unlabelled(dataset, preprocess, told_of, reading)
            _, run = train_student(
                loaded,
                config,
                pictures,
                recipe,
                output,
                command=f"train --teacher {Path(teacher).name} --model {model} {given}",
                resume=resume,
                progress=stepped,
            )
    return {
        "weights": str(output / WEIGHTS),
        "agreement": 100 * run.history[-1].top1,
        "n": len(pictures.held_out),
        "epochs": len(run.history),
        "seed": recipe.seed,
    }
