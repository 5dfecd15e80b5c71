"""`vivavoz train student`: a trained model's generator in few steps and without guidance."""

from __future__ import annotations

import argparse

from vivavoz.cli.lite_options import add_lite_options, use_lite_options
from vivavoz.cli.train_paper import add_run_options, run_settings


def add_parser(presets: argparse._SubParsersAction) -> None:
    """Declare the command, with a command of its own for each recipe."""
    student = presets.add_parser(
        "student",
        help="a faster model from a trained one",
        description="Distil a trained generator: the student does in few steps of one branch what its teacher does in many of "
        "two or three. Called again after a stop, it goes on where it was. The weights end in RUN/weights.",
    )
    recipes = student.add_subparsers(dest="recipe", required=True, metavar="RECIPE")
    lite = recipes.add_parser("lite", help="of a model that `vivavoz train lite` made", description="Distil the embedded model.")
    add_lite_options(lite, minutes=20)
    lite.set_defaults(run=run_lite, resumes=True)
    for name, help_ in (("paper", "of the published size, from latents"), ("tiny", "seconds, for a first look")):
        parser = recipes.add_parser(name, help=help_, description=f"Distil a model, {help_}.")
        add_run_options(parser, "LATENTS", "latents made by `vivavoz encode`: a folder or URL")
        parser.set_defaults(run=run_latents, resumes=True)
    for parser in recipes.choices.values():
        parser.add_argument("--teacher", required=True, metavar="WEIGHTS", help="folder of the trained model")


def run_lite(options: argparse.Namespace) -> None:
    """Distil; progress goes to stderr, the last line to stdout."""
    num_threads = use_lite_options(options)
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.train import student_recipes
    from vivavoz.train.student import train_label_student

    recipe = student_recipes.lite_student_recipe(options.minutes)
    with showing_training() as report:
        weights = train_label_student(
            options.teacher,
            options.portraits,
            options.speech,
            options.output,
            recipe,
            num_processes=num_threads,
            report=report,
        )
    print(f"{weights}: a student of {recipe.distillation.num_steps} steps; try: vivavoz generate --model {weights} ...")


def run_latents(options: argparse.Namespace) -> None:
    """Distil; progress goes to stderr, the last line to stdout."""
    from vivavoz.cli.training_progress import showing_training
    from vivavoz.train.distributed import parallel_processes
    from vivavoz.train.student import train_latent_student
    from vivavoz.train.student_recipes import LATENT_STUDENT_RECIPES, shortened_student

    recipe = LATENT_STUDENT_RECIPES[options.recipe]()
    if options.steps is not None:
        recipe = shortened_student(recipe, options.steps)
    with parallel_processes(options.parallel) as parallel, showing_training() as report:
        weights = train_latent_student(
            options.teacher,
            options.data,
            options.output,
            recipe,
            **run_settings(options),
            parallel=parallel,
            report=report,
        )
        if parallel.is_first:
            steps = recipe.distillation.num_steps
            print(f"{weights}: a student of {steps} steps; try: vivavoz generate --model {weights} ...")
