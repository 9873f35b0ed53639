"""Accuracy class by class: what one figure over unequal classes would hide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Recalls"]


class Recalls:
    """How many pictures of each class there are, and how many are put in their class first."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = list(class_names)
        self._n = [0] * len(class_names)
        self._correct = [0] * len(class_names)

    def add(self, label: int, correct: bool) -> None:
        """Counts one picture of class `label`."""
        self._n[label] += 1
        self._correct[label] += correct

    @property
    def classes(self) -> int:
        """How many classes have pictures."""
        return sum(n > 0 for n in self._n)

    @property
    def balanced(self) -> float:
        """Mean share, 0 to 1, of correct pictures of the classes that have any; 0 of none."""
        shares = [c / n for c, n in zip(self._correct, self._n, strict=True) if n]
        return sum(shares) / max(len(shares), 1)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: balanced accuracy and recall in percent, and the counts of each class."""
        rows = zip(self._names, self._n, self._correct, strict=True)
        return {
            "classes": self.classes,
            "balanced": 100 * self.balanced,
            "per_class": [
                {"name": name, "n": n, "correct": c, "recall": 100 * c / n if n else None}
                for name, n, c in rows
            ],
        }
