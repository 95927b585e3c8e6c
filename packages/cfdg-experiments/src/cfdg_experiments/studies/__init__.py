"""Studies: the paper's table and figures, and ablations, from command line to report."""
