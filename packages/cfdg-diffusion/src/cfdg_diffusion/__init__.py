"""EDM diffusion with classifier-free guidance for rows, columns and labels."""

__version__ = "0.1.0"
