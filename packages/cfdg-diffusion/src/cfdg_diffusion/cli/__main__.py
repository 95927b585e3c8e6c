"""Entry point of ``python -m cfdg_diffusion.cli``."""

from cfdg_diffusion.cli.main import main

raise SystemExit(main())
