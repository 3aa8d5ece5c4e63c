"""Synthetic patients with known organs and lesions, and synthetic lesions in real scans. They stand for neither."""

from r2seg_agent.phantom.draw import Acquisition
from r2seg_agent.phantom.implant import Implant, Match, implant_lesion
from r2seg_agent.phantom.lesions import LOOKS, LesionLook, LesionSpec
from r2seg_agent.phantom.make import Phantom, make_phantom
from r2seg_agent.phantom.scanner import Scanner

__all__ = [
    "LOOKS",
    "Acquisition",
    "Implant",
    "LesionLook",
    "LesionSpec",
    "Match",
    "Phantom",
    "Scanner",
    "implant_lesion",
    "make_phantom",
]
