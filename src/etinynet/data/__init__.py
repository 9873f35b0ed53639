"""Pictures and labels: what networks are trained, calibrated and measured on. No torch."""

__all__: list[str] = []
