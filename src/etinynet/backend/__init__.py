"""Backends: what makes C libraries and hardware of an integer graph."""
