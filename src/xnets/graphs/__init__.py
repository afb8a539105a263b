"""Bipartite graphs: the contract, the families that draw them. numpy only."""

from xnets.graphs._bipartite import BipartiteGraph as BipartiteGraph
from xnets.graphs._bipartite import check_block_sides as check_block_sides
from xnets.graphs._families import list_families as list_families
from xnets.graphs._families import make_graph as make_graph
from xnets.graphs._random import random_fan_out_graph as random_fan_out_graph
from xnets.graphs._random import random_graph as random_graph
from xnets.graphs._random import released_graph as released_graph
from xnets.graphs._seed import Seed as Seed
from xnets.graphs._seed import check_seed as check_seed
from xnets.graphs._seed import spawn_seeds as spawn_seeds
from xnets.graphs._size import degree_for as degree_for
from xnets.graphs._structured import complete_graph as complete_graph
from xnets.graphs._structured import grouped_graph as grouped_graph
from xnets.graphs._structured import shuffled_graph as shuffled_graph
from xnets.graphs._union import disjoint_union as disjoint_union
