"""The float network: configuration, torch modules, weights files, the authors' files, sizes."""

__all__: list[str] = []
