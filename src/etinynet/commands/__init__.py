"""What each verb of the command line does, as functions that return plain JSON."""

__all__: list[str] = []
