"""Artefact files: hashes, provenance, and writes that are whole or absent."""

from etinynet.artefact.content import package_version, provenance, read_file, sha256
from etinynet.artefact.files import write_file
from etinynet.artefact.folders import check_replaceable, write_directory
from etinynet.artefact.places import check_file, check_folder, check_run_folder
from etinynet.artefact.record import Record

__all__ = [
    "Record",
    "check_file",
    "check_folder",
    "check_replaceable",
    "check_run_folder",
    "package_version",
    "provenance",
    "read_file",
    "sha256",
    "write_directory",
    "write_file",
]
