"""Models made ready for inference on a CPU: folded, fused, planned, engines measured."""

from xnets.inference._choose import forget as forget_measurements
from xnets.inference._optimize import OptimizedModel as OptimizedModel
from xnets.inference._optimize import StepTime as StepTime
from xnets.inference._optimize import optimize as optimize
from xnets.inference._report import Report as Report
from xnets.inference._report import StepReport as StepReport
from xnets.inference._trace import CannotOptimizeError as CannotOptimizeError

__all__ = [
    "CannotOptimizeError",
    "OptimizedModel",
    "Report",
    "StepReport",
    "StepTime",
    "forget_measurements",
    "optimize",
]
