"""Experiments and benchmarks: each makes rows, a CSV named by its conditions, and a picture."""

from xnets.bench.breakeven import BreakevenReport as BreakevenReport
from xnets.bench.breakeven import run_breakeven as run_breakeven
from xnets.bench.depth import DepthRow as DepthRow
from xnets.bench.depth import fit_growth as fit_growth
from xnets.bench.depth import measure_depth as measure_depth
from xnets.bench.layer_report import LayersReport as LayersReport
from xnets.bench.layer_report import run_layers as run_layers
from xnets.bench.layers import LayerRow as LayerRow
from xnets.bench.layers import measure_layers as measure_layers
from xnets.bench.mixing import BlockRow as BlockRow
from xnets.bench.mixing import MixingRow as MixingRow
from xnets.bench.mixing import measure_block as measure_block
from xnets.bench.mixing import measure_mixing as measure_mixing
from xnets.bench.model_report import ModelsReport as ModelsReport
from xnets.bench.model_report import run_models as run_models
from xnets.bench.speed_of_graphs import GraphSpeedReport as GraphSpeedReport
from xnets.bench.speed_of_graphs import GraphSpeedRow as GraphSpeedRow
from xnets.bench.speed_of_graphs import fit_time_growth as fit_time_growth
from xnets.bench.speed_of_graphs import measure_speed as measure_speed
from xnets.bench.speed_of_graphs import run_graph_speed as run_graph_speed
from xnets.bench.theory import EXPERIMENTS as EXPERIMENTS
from xnets.bench.theory import TheoryReport as TheoryReport
from xnets.bench.theory import block_table as block_table
from xnets.bench.theory import run_theory as run_theory
