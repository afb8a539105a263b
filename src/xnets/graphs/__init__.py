"""Bipartite graphs: the contract, the families that draw them, what is proved about them.

numpy only at import.
"""

from xnets.graphs._bipartite import BipartiteGraph as BipartiteGraph
from xnets.graphs._biregular import biregular_graph as biregular_graph
from xnets.graphs._butterfly import butterfly_graph as butterfly_graph
from xnets.graphs._butterfly import radix_graph as radix_graph
from xnets.graphs._certify import Certificate as Certificate
from xnets.graphs._certify import certify as certify
from xnets.graphs._checks import check_block as check_block
from xnets.graphs._checks import check_block_sides as check_block_sides
from xnets.graphs._compare import Comparison as Comparison
from xnets.graphs._compare import compare_families as compare_families
from xnets.graphs._compare import second_over_bound as second_over_bound
from xnets.graphs._expansion import exact_expansion as exact_expansion
from xnets.graphs._expansion import expansion_bound as expansion_bound
from xnets.graphs._expansion import mixing_bound as mixing_bound
from xnets.graphs._expansion import sample_mixing as sample_mixing
from xnets.graphs._explicit import array_code_graph as array_code_graph
from xnets.graphs._explicit import margulis_graph as margulis_graph
from xnets.graphs._families import list_families as list_families
from xnets.graphs._families import list_options as list_options
from xnets.graphs._families import make_graph as make_graph
from xnets.graphs._lift import CyclicLift as CyclicLift
from xnets.graphs._lift import lift_graph as lift_graph
from xnets.graphs._lps import lps_graph as lps_graph
from xnets.graphs._paths import count_components as count_components
from xnets.graphs._paths import diameter as diameter
from xnets.graphs._paths import girth as girth
from xnets.graphs._ramanujan import NotRamanujanError as NotRamanujanError
from xnets.graphs._ramanujan import RamanujanDraw as RamanujanDraw
from xnets.graphs._ramanujan import draw_ramanujan as draw_ramanujan
from xnets.graphs._ramanujan import ramanujan_graph as ramanujan_graph
from xnets.graphs._random import random_fan_out_graph as random_fan_out_graph
from xnets.graphs._random import random_graph as random_graph
from xnets.graphs._random import released_graph as released_graph
from xnets.graphs._rewire import Rewired as Rewired
from xnets.graphs._rewire import RewireReport as RewireReport
from xnets.graphs._rewire import rewire as rewire
from xnets.graphs._seed import Seed as Seed
from xnets.graphs._seed import check_seed as check_seed
from xnets.graphs._seed import spawn_seeds as spawn_seeds
from xnets.graphs._size import degree_for as degree_for
from xnets.graphs._spectral import leading_singular_values as leading_singular_values
from xnets.graphs._spectral import ramanujan_bound as ramanujan_bound
from xnets.graphs._spectral import second_singular_vectors as second_singular_vectors
from xnets.graphs._spectral import singular_values as singular_values
from xnets.graphs._stack import StackDepth as StackDepth
from xnets.graphs._stack import stack_depth as stack_depth
from xnets.graphs._structured import complete_graph as complete_graph
from xnets.graphs._structured import grouped_graph as grouped_graph
from xnets.graphs._structured import shuffled_graph as shuffled_graph
from xnets.graphs._union import disjoint_union as disjoint_union
