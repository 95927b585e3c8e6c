"""Reports: scores beside the paper's numbers, statistics, evidence and pictures."""
