"""`--anchors nnunet:PATH`, `bundle:PATH`: the organs among a model's classes as anchors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Final

import cc3d
import numpy as np

from r2seg_agent.errors import InputError
from r2seg_agent.imaging.geometry import bounding_box
from r2seg_agent.imaging.volume import FloatArray, Mask, Modality, Volume
from r2seg_agent.progress import Progress, silent
from r2seg_agent.reason import concepts
from r2seg_agent.reason.anatomy import group_of, organ
from r2seg_agent.reason.anchors.composed import composed, with_wanted
from r2seg_agent.reason.anchors.label_union import LabelUnion
from r2seg_agent.reason.anchors.protocol import AnchorSet, AnchorSourceInfo
from r2seg_agent.segment.candidates import CONNECTIVITY, PROBABILITY_THRESHOLD
from r2seg_agent.segment.folders.class_names import ANY
from r2seg_agent.segment.folders.classes import ModelClass
from r2seg_agent.segment.folders.segmenter import ClassNetwork

ONE_BODY: Final = frozenset(("brain",))
"""Organs of which the largest connected part is kept: islands elsewhere (eyes, neck) are mistakes of the network."""


class FolderAnchors:
    """`AnchorSource` over the classes of a network that are organs of the organ table.

    A voxel belongs to the class that the network decides for: the most probable one (softmax), each with a probability
    of at least 0.5 (sigmoid, regions). A class of lesions is never an anchor; where it is a lesion of an organ that is
    one, its voxels are part of that organ, as they are in the patient.
    """

    def __init__(self, network: ClassNetwork) -> None:
        self._network = network

    @property
    def channels(self) -> tuple[str, ...]:
        """The images that the network takes, in its order."""
        return self._network.channels

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user must know: the classes that no organ is known for."""
        if not self._left_out:
            return ()
        return (
            f"Anchors by `{self._network.info.name}`: of its classes, {', '.join(self._left_out)} "
            f"{'is' if len(self._left_out) == 1 else 'are'} no organ that the organ table knows, and left out; "
            "`#CLASS=ORGAN` behind the model's path says which organ one is.",
        )

    @cached_property
    def info(self) -> AnchorSourceInfo:
        """The network's own identity (weights by hash, tables, folds), and which class is which organ."""
        of = self._network.info
        return AnchorSourceInfo(
            name=of.name,
            version=of.version,
            kind="model",
            stand_in=of.stand_in,
            licence=of.licence,
            modalities=of.modalities,
            weights_sha256=of.weights_sha256,
            settings={
                **of.settings,
                "organs": ", ".join(f"{c.name}={c.organ}" for c in self._organ_classes),
                "left_out": ", ".join(self._left_out),
            },
        )

    def info_for(self, modality: Modality, organs: Sequence[str]) -> AnchorSourceInfo:
        """The same for all organs: one network finds them together."""
        return self.info

    def organs(self, modality: Modality) -> frozenset[str]:
        """The organs that are classes, and those that are made of them ("kidneys" of both)."""
        return frozenset(self._named | set(composed(self._named)))

    def check(self, modality: Modality, organs: Sequence[str]) -> None:
        """Raise `InputError` for another modality or when none of `organs` is a class, and what the network raises."""
        info = self._network.info
        if modality not in info.modalities:
            raise InputError(
                f"the anchors by `{info.name}` are made for {', '.join(info.modalities)}, the image is {modality}",
                "Choose another source of anchors, or state the image's true modality with `--modality`.",
            )
        known = self.organs(modality)
        if organs and not any(name in known or group_of(name) in known for name in organs):
            found = ", ".join(f"`{name}`" for name in sorted(known)) or "no organ"
            raise InputError(
                f"the anchors by `{info.name}` hold {found}; the plan needs {', '.join(f'`{o}`' for o in organs)}. "
                f"Classes: {self._network.table.label}",
                "Where a class is this organ, say so: `#CLASS=ORGAN` behind the model's path, or `classes` in its side "
                "file (docs/guide/models.md). Else choose another source of anchors.",
            )
        self._network.check()

    def locate(self, volume: Volume, organs: Sequence[str], progress: Progress = silent) -> AnchorSet:
        """All organs of the network, and the wanted `organs` that are made of them, on the grid of `volume`."""
        self.check(volume.modality, organs)
        progress("anchors", 0, 2, self._network.info.name)
        classes = self._network.table.classes
        found = self._network.probabilities(volume, volume.geometry.full_box, [c.name for c in classes])
        progress("anchors", 1, 2, "label map")
        union = LabelUnion(volume.geometry.shape)
        lesions: list[tuple[ModelClass, Mask]] = []
        masks: dict[str, Mask] = {}
        for own, mask in self._decided(found):
            if own.organ is not None:
                masks[own.organ] = masks[own.organ] | mask if own.organ in masks else mask
            elif own.concepts:
                lesions.append((own, mask))
        for lesion, mask in lesions:
            _give_to_organ(masks, lesion, mask)
        for name in sorted(masks):
            union.add(name, _largest_part(masks[name]) if name in ONE_BODY else masks[name])
        labels, names = with_wanted(*union.finish(), organs, volume.geometry)
        progress("anchors", 2, 2, "")
        return AnchorSet(labels=labels, names=names, geometry=volume.geometry, info=self.info)

    def _decided(self, found: Mapping[str, FloatArray]) -> Iterator[tuple[ModelClass, Mask]]:
        """Each class with the voxels (z, y, x) that the network decides for it."""
        table = self._network.table
        if not table.exclusive:
            for own in table.classes:
                yield own, found[own.name] >= PROBABILITY_THRESHOLD
            return
        best = np.ones_like(found[table.classes[0].name])
        for probability in found.values():
            best -= probability  # what is left is the background's
        winner = np.zeros(best.shape, dtype=np.uint16)
        for number, own in enumerate(table.classes, start=1):
            better = found[own.name] > best
            best[better] = found[own.name][better]
            winner[better] = number
        for number, own in enumerate(table.classes, start=1):
            yield own, winner == number

    @cached_property
    def _organ_classes(self) -> tuple[ModelClass, ...]:
        return tuple(c for c in self._network.table.classes if c.organ is not None)

    @property
    def _named(self) -> set[str]:
        return {c.organ for c in self._organ_classes if c.organ is not None}

    @cached_property
    def _left_out(self) -> tuple[str, ...]:
        """Classes that are neither an organ nor a lesion that the tables know."""
        return tuple(c.name for c in self._network.table.classes if c.organ is None and not c.concepts)


def _give_to_organ(masks: dict[str, Mask], lesion: ModelClass, mask: Mask) -> None:
    """Add the voxels of a class of lesions to the organ that they are lesions of, where `masks` has it: each connected
    part to the side that it touches most. What touches none belongs to none.
    """
    for concept in lesion.concepts:
        if concept == ANY:
            continue
        home = concepts.concept(concept).organ
        members = [name for name in (home, *organ(home).members) if name in masks]
        if members == [home]:
            masks[home] = masks[home] | mask
            return
        if members:
            parts = cc3d.connected_components(mask, connectivity=CONNECTIVITY)
            for number, box in enumerate(cc3d.statistics(parts)["bounding_boxes"][1:], start=1):
                around = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
                part: Mask = parts[around] == number
                touched = {name: int(np.count_nonzero(masks[name][around] & _next_to(part))) for name in members}
                nearest = max(members, key=lambda name: touched[name])
                if touched[nearest]:
                    whole = masks[nearest].copy()
                    whole[around] |= part
                    masks[nearest] = whole
            return


def _next_to(mask: Mask) -> Mask:
    """`mask` grown by one voxel, corners included."""
    from scipy.ndimage import binary_dilation

    grown: Mask = binary_dilation(mask, np.ones((3, 3, 3), dtype=bool))
    return grown


def _largest_part(mask: Mask) -> Mask:
    box = bounding_box(mask)
    if box is None:
        return mask
    kept = np.zeros_like(mask)
    kept[box.slices] = cc3d.largest_k(mask[box.slices], k=1, connectivity=6) > 0
    return kept
