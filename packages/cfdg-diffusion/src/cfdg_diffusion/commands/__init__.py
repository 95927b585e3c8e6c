"""The commands of ``cfdg-diffusion``: one module each, with a parser and the function it calls."""
