"""Quality, utility and privacy of a synthetic table, measured against held-out real rows."""

from cfdg_diffusion.quality.detection import Detection
from cfdg_diffusion.quality.privacy import Privacy
from cfdg_diffusion.quality.reports import Report, report
from cfdg_diffusion.quality.scores import Scores, Sizes
from cfdg_diffusion.quality.shapes import ColumnShape, Shapes
from cfdg_diffusion.quality.trends import Kept, PairTrend, Trends
from cfdg_diffusion.quality.utility import ClassScore, Utility

__all__ = [
    "ClassScore",
    "ColumnShape",
    "Detection",
    "Kept",
    "PairTrend",
    "Privacy",
    "Report",
    "Scores",
    "Shapes",
    "Sizes",
    "Trends",
    "Utility",
    "report",
]
