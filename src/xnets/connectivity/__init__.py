"""What reaches what through a whole network, and over how many paths.

`xnets.connectivity` is the function; this package is where it and its report are made.
"""

from xnets.connectivity._plot import plot_connectivity as plot_connectivity
from xnets.connectivity._reach import connectivity as connectivity
from xnets.connectivity._report import Assumption as Assumption
from xnets.connectivity._report import Connectivity as Connectivity
from xnets.connectivity._report import LayerConnectivity as LayerConnectivity
from xnets.connectivity._report import compare_connectivity as compare_connectivity
