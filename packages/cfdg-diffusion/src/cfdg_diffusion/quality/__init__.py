"""How good, how useful and how private a synthetic table is, judged against held-out real rows."""

from cfdg_diffusion.quality.detection import Detection
from cfdg_diffusion.quality.privacy import Privacy
from cfdg_diffusion.quality.reports import Report, report
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
    "Shapes",
    "Trends",
    "Utility",
    "report",
]
