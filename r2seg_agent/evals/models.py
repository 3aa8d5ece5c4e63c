"""What an evaluation holds: facts per case, figures with intervals, comparisons. Frozen, JSON exact, no paths."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Literal

from r2seg_agent.frozen import Frozen
from r2seg_agent.outcomes import DISCLAIMER, OutcomeKind
from r2seg_agent.report.table_rows import FindingRow, dataframe, to_dataframe

if TYPE_CHECKING:
    from pandas import DataFrame

Rank = Literal["auto", "score", "p", "prominence", "probability"]
"""What orders candidates for FROC and scans for ROC; `auto`: valid p-values, else the Reject step's
score, else the prominence."""
Criterion = Literal["iou", "overlap"]
"""When a finding counts as a lesion: IoU at least a threshold, or one common voxel."""
Level = Literal["paper", "voxel", "slice", "lesion", "froc", "scan", "surface", "volume"]
Interval = Literal["BCa", "percentile", "exact", "none"]
SizeClass = str

SIZE_BOUNDS_ML = (0.1, 1.0, 10.0)
"""Bounds of the size classes: balls of 5.8, 12.4 and 26.7 mm; 0.1 ml is the 100 mm³ below which the Fleischner
Society (2017) asks for no follow-up of a lung nodule."""
FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per scan at which LUNA16 reads the FROC curve; their mean sensitivity is its score (CPM)."""
PAPER_FROC_RATE = 10.0
"""Where the R²-Seg paper reads it."""


class EvaluationSettings(Frozen):
    """How an evaluation was made. Two with equal settings are comparable."""

    rank: Rank = "auto"
    iou: float = 0.1
    labels: tuple[int, ...] = ()
    """Truth values that are lesions; empty: all but 0."""
    instances: bool = False
    """Each truth value is one lesion, however many pieces; otherwise each 26-connected component of a value is one."""
    size_bounds_ml: tuple[float, ...] = SIZE_BOUNDS_ML
    tolerance_mm: float = 2.0
    """Of the normalised surface Dice."""
    surface: bool = True
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


class VoxelCounts(Frozen):
    """Voxels of all findings together against all lesions together."""

    tp: int
    fp: int
    fn: int
    tn: int


class SliceCounts(Frozen):
    """Sums over the slices (first axis) of a scan; Dice and accuracies are those of one slice, then summed."""

    bearing: int
    """Slices with a lesion voxel."""
    bearing_marked: int
    """Of these, with any finding voxel."""
    bearing_hit: int
    """Of these, with a finding voxel on a lesion."""
    free: int
    free_marked: int
    bearing_dice: float
    bearing_accuracy: float
    free_accuracy: float
    bearing_class_accuracy: float
    free_class_accuracy: float


class LesionMatch(Frozen):
    """One true lesion against the findings."""

    label: int
    volume_ml: float
    size: SizeClass
    finding: int | None
    """The finding that the greedy one-to-one matching by IoU gave it."""
    iou: float
    found_ml: float | None
    """Volume of that finding."""
    overlapped: bool
    """Any finding shares a voxel with it."""
    dice: float
    """With the whole finding that shares most voxels with it; 0 where none does."""


class FindingMatch(Frozen):
    """One finding against the true lesions."""

    number: int
    volume_ml: float
    lesion: int | None
    """The lesion that the greedy matching gave it."""
    touches: bool
    """It shares a voxel with a lesion."""


class CandidateMatch(Frozen):
    """One candidate, kept or rejected: what ranks it, and which lesions it would find."""

    id: str
    survived: bool
    volume_ml: float
    score: float | None
    p: float | None
    probability: float
    prominence: float
    hits_iou: tuple[int, ...]
    hits_overlap: tuple[int, ...]


class SurfaceDistances(Frozen):
    """All findings together against all lesions together, in mm (MONAI)."""

    hd95_mm: float
    assd_mm: float
    nsd: float


class PanopticCounts(Frozen):
    """Matches at IoU > 0.5 (MONAI): PQ = iou_sum / (tp + fp/2 + fn/2)."""

    tp: int
    fp: int
    fn: int
    iou_sum: float


TruthKind = Literal["mask", "lesion-free", "none"]


class CaseEvaluation(Frozen):
    """What is known of one case. Unanswered cases have no counts, but their lesions where their truth could be read.

    `id`, `patient` and `request_id` are hashes of what the user wrote: equal in two folders for the same case, and
    never a path.
    """

    id: str
    number: int
    name: str
    patient: str
    request_id: str
    run_id: str = ""
    image_sha256: str = ""
    status: str
    outcome: OutcomeKind | None = None
    answered: bool
    truth: TruthKind
    synthetic: bool = False
    measured: bool = True
    """The image states its spacing; without one there are no volumes and distances."""
    note: str = ""
    """Why a file of the run or the truth could not be used."""
    unanswered_lesions: tuple[float, ...] | None = None
    """Volumes in ml of the lesions of an unanswered case; None: not known."""
    p: float | None = None
    """Smallest valid p-value of the case."""
    true_ml: float = 0.0
    found_ml: float = 0.0
    voxels: VoxelCounts | None = None
    slices: SliceCounts | None = None
    lesions: tuple[LesionMatch, ...] = ()
    findings: tuple[FindingMatch, ...] = ()
    rows: tuple[FindingRow, ...] = ()
    """Its lines in the findings table."""
    candidates: tuple[CandidateMatch, ...] | None = None
    """None: the label maps of the candidates are not there."""
    surface: SurfaceDistances | None = None
    panoptic: PanopticCounts | None = None

    @property
    def evaluated(self) -> bool:
        """Answered, and its truth is known."""
        return self.answered and self.truth != "none"

    @property
    def bearing(self) -> bool:
        """Its truth holds a lesion."""
        return bool(self.lesions) or bool(self.unanswered_lesions)


class Figure(Frozen):
    """One number with its interval. `n` counts what it is a mean or share of, `patients` who they come from."""

    key: str
    level: Level
    name: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    value: float | None
    low: float | None
    high: float | None
    n: int
    of: str
    """What `n` counts: scans, slices, lesions, findings."""
    patients: int
    interval: Interval


class CurvePoint(Frozen):
    """One point of a FROC or ROC curve: `x` false positives per scan (or 1 − specificity), `y` sensitivity."""

    x: float
    y: float


class Curves(Frozen):
    """Curves as step points in order of falling threshold, empty where nothing can be ranked."""

    froc_iou: tuple[CurvePoint, ...] = ()
    froc_overlap: tuple[CurvePoint, ...] = ()
    froc_lesion_free: tuple[CurvePoint, ...] = ()
    """Sensitivity by IoU against the false positives of the lesion-free scans alone."""
    roc: tuple[CurvePoint, ...] = ()


class Accounting(Frozen):
    """Where every case went. Nothing is dropped in silence."""

    cases: int
    patients: int
    evaluated: int
    bearing: int
    lesion_free: int
    lesions: int
    findings: int
    unanswered: tuple[str, ...]
    """Cases without an answer, each with why."""
    no_truth: tuple[str, ...]
    bad_truth: tuple[str, ...]
    """Cases whose truth cannot be used, each with why."""
    not_run: tuple[str, ...]
    """Cases that the truth lists and the folder does not hold."""
    without_candidates: int
    """Evaluated cases whose candidates are not there: they are left out of FROC and ROC."""
    without_spacing: int
    synthetic: int


class Evaluation(Frozen):
    """All that `r2seg eval` says about one folder of runs."""

    schema_version: str = "1"
    disclaimer: str = DISCLAIMER
    r2seg_version: str
    name: str
    settings: EvaluationSettings
    rank: Rank
    """What `auto` came to."""
    methods: tuple[str, ...]
    """The segmenters and Reject modes of the runs, in words."""
    accounting: Accounting
    warnings: tuple[str, ...] = ()
    """What makes the figures doubtful."""
    figures: tuple[Figure, ...]
    curves: Curves
    cases: tuple[CaseEvaluation, ...]

    def figure(self, key: str) -> Figure:
        """The figure of this key; `KeyError` where there is none."""
        for figure in self.figures:
            if figure.key == key:
                return figure
        raise KeyError(key)

    def to_dataframe(self, table: Literal["figures", "findings"] = "figures") -> DataFrame:
        """The figures, or the findings table of all cases, as a `pandas.DataFrame`.

        Raises `MissingDependencyError` without pandas.
        """
        if table == "findings":
            return to_dataframe(row for case in self.cases for row in case.rows)
        return dataframe(tuple(Figure.model_fields), (figure.model_dump() for figure in self.figures))

    def __repr__(self) -> str:
        a = self.accounting
        return (
            f"Evaluation({self.name}: {a.evaluated} of {a.cases} cases, {a.patients} patients, {a.lesions} lesions, "
            f"{a.findings} findings. {self.disclaimer})"
        )

    __str__ = __repr__

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{escape(f.name)}</td><td>{_shown(f)}</td><td>{f.n}</td></tr>" for f in self.figures)
        head = "<tr><th>figure</th><th>value</th><th>n</th></tr>"
        return f"<p>{escape(repr(self))}</p><table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _shown(figure: Figure) -> str:
    """A figure with its interval, as HTML-safe text."""
    if figure.value is None:
        return "–"
    interval = "" if figure.low is None or figure.high is None else f" [{figure.low:.3g}, {figure.high:.3g}]"
    return escape(f"{figure.value:.3g} {figure.unit}".rstrip() + interval)


class Difference(Frozen):
    """Second minus first, on the cases that both have; `p` is a two-sided permutation p-value over patients."""

    key: str
    level: Level
    name: str
    unit: str
    better: Literal["higher", "lower", "neither"]
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    patients: int


class Discordance(Frozen):
    """Units (lesions, scans) that only one of two runs got right, and the exact McNemar p-value (two-sided)."""

    name: str
    both: int
    only_first: int
    only_second: int
    neither: int
    p: float


class Comparison(Frozen):
    """Two folders of runs on the same cases."""

    schema_version: str = "1"
    disclaimer: str = DISCLAIMER
    r2seg_version: str
    first: str
    second: str
    paired: int
    patients: int
    only_first: int
    only_second: int
    resamples: int
    seed: int
    differences: tuple[Difference, ...]
    discordances: tuple[Discordance, ...]

    def difference(self, key: str) -> Difference:
        """The difference of this figure; `KeyError` where there is none."""
        for difference in self.differences:
            if difference.key == key:
                return difference
        raise KeyError(key)
