"""Training of the float network on the user's pictures: recipe, augmentation, loop, evaluation."""

__all__: list[str] = []
