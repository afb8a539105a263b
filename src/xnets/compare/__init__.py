"""The paper's experiment: kinds of networks at equal cost, several seeds each, in one call."""

from xnets.compare._compare import Comparison as Comparison
from xnets.compare._compare import compare as compare
from xnets.compare._summary import Difference as Difference
from xnets.compare._summary import Point as Point
from xnets.compare._summary import difference as difference
from xnets.compare._trials import Trial as Trial
from xnets.compare._trials import list_kinds as list_kinds
from xnets.compare._trials import list_trials as list_trials
