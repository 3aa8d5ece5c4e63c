"""Synthetic patients with known organs and lesions, and synthetic lesions in real scans. They stand for neither."""

from r2seg_agent.phantom.implant import Implant, implant_lesion
from r2seg_agent.phantom.make import LesionSpec, Phantom, make_phantom

__all__ = ["Implant", "LesionSpec", "Phantom", "implant_lesion", "make_phantom"]
