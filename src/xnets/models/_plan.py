"""What `create_model` does with a dense network: which layers it thins, and how much each."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from xnets.convert import ConversionReport, convert
from xnets.nn import ExpanderLayer


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a dense network becomes an expander network.

    Args:
        dense: Names of layers that stay dense beside the first and the last, with the wildcards
            `*`, `?` and `[abc]`.
        compression: Compressions of layers by name, as in `xnets.convert`, which make the
            network one of fixed sparsity; empty: one number for all layers, the caller's.
        keep_ends: Whether the first and the last layer stay dense.
        bias: Whether thinned layers keep their bias.
    """

    dense: tuple[str, ...] = ()
    compression: Mapping[str, float] = field(default_factory=dict)
    keep_ends: bool = True
    bias: bool = True

    def thins(self, name: str) -> bool:
        """Whether a layer other than the first and the last is to be thinned."""
        return not any(fnmatchcase(name, pattern) for pattern in self.dense)

    def apply(
        self, model: nn.Module, compression: float | Mapping[str, float], **options: Any
    ) -> tuple[nn.Module, ConversionReport]:
        """Convert a dense network.

        Args:
            model: The network; it is not changed.
            compression: As in `xnets.convert`.
            options: family, block, seed, backend.

        Returns:
            The thinned network and the report.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="xnets.convert: no layer was converted")
            sparse, report = convert(
                model,
                compression,
                where=lambda name, _: self.thins(name),
                keep_ends=self.keep_ends,
                **options,
            )
        if self.bias:
            return sparse, report
        for layer in sparse.modules():
            if isinstance(layer, ExpanderLayer):
                layer.bias = None
        params = sum(p.numel() for p in sparse.parameters())
        return sparse, replace(report, params_after=params)
