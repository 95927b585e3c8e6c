"""CUDA graphs of repeated work: recorded once and replayed, so that the host no longer launches every kernel."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cfdg_diffusion.edm.streams import Streams

_WARM_UP = 3
"""Calls before the recording, which let the libraries choose their kernels and allocate their workspaces."""

Work = Callable[[], tuple[Tensor, Tensor]]


def replayed(work: Work, streams: Streams) -> Work:
    """Return ``work`` as it is on a CPU, and on a CUDA device as a graph that every further call replays.

    Replays read and write the same memory: the tensors that ``work`` reads have to stay where they are, and a result
    has to be used before the next call. Draws go on as they would without a graph.

    Args:
        work: makes tensors of others without waiting for the device.
        streams: all randomness of the work.
    """
    return _Replayed(work, streams) if streams.device.type == "cuda" else work


class _Replayed:
    def __init__(self, work: Work, streams: Streams) -> None:
        self.work = work
        self.streams = streams
        self.calls = 0
        self.side = torch.cuda.Stream(streams.device)
        self.recording: tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor]] | None = None

    def __call__(self) -> tuple[Tensor, Tensor]:
        self.calls += 1
        if self.calls <= _WARM_UP:
            return self._warm_up()
        if self.recording is None:
            self.recording = self._record()
        graph, result = self.recording
        graph.replay()
        return result

    def _warm_up(self) -> tuple[Tensor, Tensor]:
        here = torch.cuda.current_stream(self.streams.device)
        self.side.wait_stream(here)
        with torch.cuda.stream(self.side):
            result = self.work()
        here.wait_stream(self.side)
        return result

    def _record(self) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, Tensor]]:
        """Record the work, which does not run it: the first replay does."""
        graph = torch.cuda.CUDAGraph()
        for generator in self.streams.generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self.side):
            result = self.work()
        return graph, result
