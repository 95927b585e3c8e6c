"""Makers of the arms' generators: each takes the context of a cell."""

from __future__ import annotations

from dataclasses import replace

from cfdg_experiments.generators.context import Context
from cfdg_experiments.generators.copies import Jitter, Repeat
from cfdg_experiments.generators.curiosity import Curiosity
from cfdg_experiments.generators.edis import Edis
from cfdg_experiments.generators.fitted import Fitted, SeparateModels, Unlabelled, unconditional
from cfdg_experiments.generators.pgr import Pgr, pgr_diffusion
from cfdg_experiments.generators.simulated import Simulated, SimulatedOutcomes


def cfdg(context: Context) -> Fitted:
    """Make one model with the labels offline and online, guided by w."""
    return Fitted(context.model(context.diffusion, labels=2), context.schedule, context.start)


def unguided(context: Context) -> Fitted:
    """Make the model of :func:`cfdg` with w = 0."""
    model = context.model(replace(context.diffusion, guidance_weight=0.0), labels=2)
    return Fitted(model, context.schedule, context.start)


def one_label(context: Context) -> Fitted:
    """Make one model that sees one label, 0."""
    return Fitted(context.model(unconditional(context.diffusion), labels=1), context.schedule)


def split(context: Context) -> Fitted:
    """Make the model of (s, a) with labels, guided by w, and the regression of their outcomes."""
    return Fitted(context.split(), context.schedule, context.start)


def union(context: Context) -> Unlabelled:
    """Make one model without labels, of all rows."""
    return Unlabelled(one_label(context))


def separate_models(context: Context) -> SeparateModels:
    """Make a model of offline and one of online rows, which share the gradient steps of one."""
    half = replace(context, schedule=context.schedule.shared_by(2))
    return SeparateModels([one_label(half), one_label(half)])


def edis(context: Context) -> Edis:
    """Make EDIS: a model without labels, guided by energies of the online rows and the present policy."""
    model = context.model(unconditional(context.diffusion), labels=1)
    return Edis(model, context.schedule, context.policy, *context.dims, context.settings.edis)


def pgr(context: Context) -> Pgr:
    """Make PGR: a model whose labels are classes of curiosity."""
    settings = context.settings.pgr
    model = context.model(pgr_diffusion(context.diffusion), labels=settings.classes)
    curiosity = Curiosity(*context.dims, context.seeds, context.settings.curiosity, context.device)
    return Pgr(model, context.schedule, curiosity, context.streams("PGR classes"), settings)


def repeat(context: Context) -> Repeat:
    """Make the copier of real rows."""
    return Repeat(context.streams("repeat"))


def jitter(context: Context) -> Jitter:
    """Make the copier of real rows with noise on s and s'."""
    return Jitter(*context.dims, context.streams("jitter"), context.settings.jitter)


def simulated(context: Context) -> Simulated:
    """Make the reference that steps jittered real rows in the simulator."""
    return Simulated(
        *context.dims, context.outcomes(), streams=context.streams("simulated"), settings=context.settings.simulated
    )


def cfdg_simulated(context: Context) -> SimulatedOutcomes:
    """Make the reference that steps (s, a) of :func:`cfdg` in the simulator."""
    return SimulatedOutcomes(cfdg(context), *context.dims, context.outcomes())
