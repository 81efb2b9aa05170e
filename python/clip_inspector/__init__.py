"""CLIP-Inspector from Python: inspect and repair prompt-tuned CLIP models, run suites, read results.

See docs/python.md, and clip_inspector.plugin for attacks and detectors in Python.
"""

from ._api import inspect, repair, results, run
from ._program import Progress, ProgramError
from ._reports import AfterRepair, ClassReport, Delivered, Explanation, Family, Finding, ReadFile, ReferenceFinding, Repair, RepairedModel, Subject

__all__ = [
    "inspect", "repair", "run", "results", "Progress", "ProgramError", "Finding", "ClassReport", "ReferenceFinding", "Explanation",
    "Family", "Delivered", "Subject", "ReadFile", "Repair", "AfterRepair", "RepairedModel",
]
