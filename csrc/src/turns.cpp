#include "turns.h"

#include <algorithm>

namespace xn {
namespace {

// Loops of fewer turns cost more by their end than they save.
constexpr int32_t few_turns = 2;
// Where turns read more than 3.2 inputs, or rows of a group differ so much that a sixth of all places are empty, each
// row for itself is as fast.
constexpr int64_t most_inputs_of_16_turns = 51, most_empty = 6;
constexpr int32_t all_rows = (1 << turn_rows) - 1, none = -1;

// The rows that take input i of a turn, a bit each.
constexpr int32_t rows_of(int32_t kind, int32_t i) {
  int32_t rows = 0;
  for (int32_t r = 0; r < turn_rows; ++r)
    if (turn_kind[kind].of_row[r] == i) rows |= 1 << r;
  return rows;
}

// The edges of four rows that no turn has taken yet: the inputs, by which of the rows they are still joined to.
struct Meeting {
  const Rows& graph;
  int32_t* next;  // of each input, in the list it is in
  int32_t* edge;  // of each row and input
  int32_t* rows;  // of each input
  int32_t head[all_rows + 1], count[all_rows + 1], left[turn_rows];

  void gather(int32_t first) {
    std::fill(head, head + all_rows + 1, none);
    std::fill(count, count + all_rows + 1, 0);
    std::fill(rows, rows + graph.num_in, 0);
    for (int32_t r = 0; r < turn_rows; ++r) {
      left[r] = graph.indptr[first + r + 1] - graph.indptr[first + r];
      for (int32_t e = graph.indptr[first + r]; e < graph.indptr[first + r + 1]; ++e) {
        rows[graph.indices[e]] |= 1 << r;
        edge[int64_t{r} * graph.num_in + graph.indices[e]] = e;
      }
    }
    for (int32_t j = graph.num_in; j-- > 0;)
      if (rows[j]) push(rows[j], j);
  }

  void push(int32_t list, int32_t input) {
    next[input] = head[list];
    head[list] = input;
    ++count[list];
  }
  int32_t pop(int32_t list) {
    const int32_t input = head[list];
    head[list] = next[input];
    --count[list];
    return input;
  }

  // The list whose inputs are joined to `wanted` and as few other rows as can be: the longest of these.
  int32_t find(int32_t wanted) const {
    int32_t best = none, best_size = turn_rows + 1;
    for (int32_t list = wanted; list <= all_rows; ++list) {
      if ((list & wanted) != wanted || !count[list]) continue;
      const int32_t size = __builtin_popcount(static_cast<uint32_t>(list));
      if (size < best_size || (size == best_size && count[list] > count[best])) best = list, best_size = size;
    }
    return best;
  }

  bool has_run_out(int32_t wanted) const {
    for (int32_t r = 0; r < turn_rows; ++r)
      if (wanted >> r & 1 && left[r]) return false;
    return true;
  }

  // Takes a turn of this kind into inputs[], by row; or takes nothing. `exactly`: only inputs of no other row.
  bool take(int32_t kind, bool exactly, int32_t* inputs) {
    if (has_run_out(all_rows)) return false;
    int32_t from[turn_rows], taken[turn_rows], n = 0;
    for (; n < turn_kind[kind].inputs; ++n) {
      const int32_t wanted = rows_of(kind, n);
      from[n] = exactly ? count[wanted] ? wanted : none : find(wanted);
      taken[n] = graph.num_in;
      if (from[n] == none) {
        if (exactly || !has_run_out(wanted)) break;
        continue;
      }
      taken[n] = pop(from[n]);
      if (from[n] != wanted) push(from[n] ^ wanted, taken[n]);
    }
    if (n < turn_kind[kind].inputs) {
      while (n-- > 0)
        if (from[n] != none) {
          if (from[n] != rows_of(kind, n)) pop(from[n] ^ rows_of(kind, n));  // the last that was put there
          push(from[n], taken[n]);
        }
      return false;
    }
    for (int32_t r = 0; r < turn_rows; ++r) {
      inputs[r] = taken[turn_kind[kind].of_row[r]];
      if (inputs[r] < graph.num_in) --left[r];
    }
    return true;
  }

  // How many turns of a kind there are of inputs that no other row has.
  int32_t natural(int32_t kind) const {
    int32_t least = count[rows_of(kind, 0)];
    for (int32_t i = 1; i < turn_kind[kind].inputs; ++i) least = std::min(least, count[rows_of(kind, i)]);
    return least;
  }
};

// The turns of one group, by kind.
struct Turns {
  Meeting& meeting;
  int32_t* list;  // (turns, rows): inputs; kind
  int32_t total = 0, count[turn_kinds] = {};

  bool take(int32_t kind, bool exactly) {
    int32_t* turn = list + int64_t{total} * (turn_rows + 1);
    if (!meeting.take(kind, exactly, turn)) return false;
    turn[turn_rows] = kind;
    ++total, ++count[kind];
    return true;
  }

  // Quotas make most groups alike, whose loops then end where the processor foresees it.
  void take_all(const int32_t* quota) {
    for (int32_t kind = 0; kind < shared_kinds; ++kind)
      while (count[kind] < quota[kind] && take(kind, true)) {
      }
    for (bool any = true; any;) {
      any = false;
      for (int32_t kind = shared_kinds - 1; kind >= 0; --kind)
        if (count[kind] < quota[kind] && take(kind, false)) any = true;
    }
    for (bool any = true; any;) {
      any = take(8, false);
      any = take(9, false) || any;
    }
    while (take(10, false)) {
    }
  }
};

int32_t most_degree(const Rows& graph, int32_t group) {
  int32_t most = 0;
  for (int32_t r = group * turn_rows; r < (group + 1) * turn_rows; ++r) most = std::max(most, graph.degree(r));
  return most;
}

int64_t count_turns(const Rows& graph) {
  int64_t turns = 0;
  for (int32_t g = 0; g < graph.num_out / turn_rows; ++g) turns += most_degree(graph, g);
  return turns;
}

int64_t workspace(const Rows& graph) {
  return int64_t{graph.num_in} * (2 + turn_rows + turn_rows + 1) + int64_t{graph.num_out / turn_rows} * shared_kinds;
}

// Steps of a group: each kind is cut where a sum ends.
int64_t most_steps(int64_t turns) { return turn_kinds + (turns + turns_in_a_sum - 1) / turns_in_a_sum; }

}  // namespace

int64_t turn_table_room(const Rows& graph) {
  const int32_t groups = graph.num_out / turn_rows;
  if (graph.b_out != 1 || graph.b_in != 1 || groups == 0) return 0;
  const int64_t turns = count_turns(graph);
  int64_t room = 4 + 2 * int64_t{groups} + 2 * turn_rows * turns + groups;
  for (int32_t g = 0; g < groups; ++g) room += most_steps(most_degree(graph, g));
  return room + workspace(graph) <= INT32_MAX / 8 ? room + workspace(graph) : 0;
}

int64_t write_turns(const Rows& graph, int32_t* table, int64_t room) {
  const int32_t groups = graph.num_out / turn_rows;
  const int64_t num_in = graph.num_in;
  int32_t* work = table + room - workspace(graph);
  Meeting meeting{graph, work, work + num_in, work + (1 + turn_rows) * num_in, {}, {}, {}};
  int32_t* list = work + (2 + turn_rows) * num_in;
  int32_t* natural = list + (1 + turn_rows) * num_in;

  // Half of the groups have so many turns of each kind.
  for (int32_t g = 0; g < groups; ++g) {
    meeting.gather(g * turn_rows);
    for (int32_t kind = 0; kind < shared_kinds; ++kind) natural[int64_t{kind} * groups + g] = meeting.natural(kind);
  }
  int32_t quota[shared_kinds];
  for (int32_t kind = 0; kind < shared_kinds; ++kind) {
    int32_t* of_kind = natural + int64_t{kind} * groups;
    std::nth_element(of_kind, of_kind + groups / 2, of_kind + groups);
    quota[kind] = of_kind[groups / 2];
    if (quota[kind] < few_turns) quota[kind] = 0;
  }

  int32_t* begins = table + 2;
  int32_t* before = table + 3 + groups;
  int32_t* edges = table + 4 + 2 * groups;
  const int64_t turns = count_turns(graph);
  int32_t* at = edges + turn_rows * turns;
  table[0] = groups, table[1] = static_cast<int32_t>(turns);
  before[0] = 0;
  int64_t inputs = 0, empty = 0;
  for (int32_t g = 0; g < groups; ++g) {
    meeting.gather(g * turn_rows);
    Turns group{meeting, list};
    group.take_all(quota);
    begins[g] = static_cast<int32_t>(at - table);
    before[g + 1] = before[g] + group.total;
    int32_t* steps = at++;
    const int32_t sums = std::max((group.total + turns_in_a_sum - 1) / turns_in_a_sum, 1);
    const int32_t in_a_sum = (group.total + sums - 1) / sums;
    int32_t done = 0, in_sum = 0;
    for (int32_t kind = 0; kind < turn_kinds; ++kind)
      for (int32_t left = group.count[kind]; left > 0;) {
        TurnStep step{std::min(left, in_a_sum - in_sum), kind, false};
        left -= step.turns, done += step.turns, in_sum += step.turns;
        step.ends = in_sum == in_a_sum || done == group.total;
        if (step.ends) in_sum = 0;
        *at++ = step.written();
      }
    *steps = static_cast<int32_t>(at - steps) - 1;
    for (int32_t kind = 0; kind < turn_kinds; ++kind)
      for (int32_t t = 0; t < group.total; ++t) {
        const int32_t* turn = list + int64_t{t} * (turn_rows + 1);
        if (turn[turn_rows] != kind) continue;
        inputs += turn_kind[kind].inputs;
        for (int32_t r = 0, i = 0; r < turn_rows; ++r) {
          if (turn_kind[kind].of_row[r] == i) *at++ = turn[r], ++i;
          *edges++ = turn[r] < num_in ? meeting.edge[r * num_in + turn[r]] : none;
          empty += turn[r] == num_in;
        }
      }
  }
  begins[groups] = static_cast<int32_t>(at - table);
  const bool gains = inputs * 16 <= most_inputs_of_16_turns * turns && empty * most_empty <= turn_rows * turns;
  return gains ? at - table : 0;
}

// Whether every row takes as many of its edges as it has, each from its input, and no more of the table is read.
bool check_turns(const Rows& graph, const int32_t* t) {
  const TurnTable table{t};
  const int32_t groups = graph.num_out / turn_rows;
  if (graph.b_out != 1 || graph.b_in != 1 || table.groups() != groups || table.turns() != count_turns(graph)) return false;
  if (table.turns_before(0) != 0 || table.turns_before(groups) != table.turns()) return false;
  const int32_t* edges = table.edges();
  const int32_t* end = edges + int64_t{turn_rows} * table.turns();
  for (int32_t g = 0; g < groups; ++g) {
    const int32_t* at = table.group(g);
    if (at != end) return false;
    const int32_t turns = most_degree(graph, g), steps = *at++;
    if (table.turns_before(g + 1) - table.turns_before(g) != turns || steps < 0 || steps > most_steps(turns)) return false;
    const int32_t* inputs = at + steps;
    int32_t done = 0, in_sum = 0, taken[turn_rows] = {};
    for (int32_t s = 0; s < steps; ++s) {
      const TurnStep step = TurnStep::read(at[s]);
      done += step.turns, in_sum += step.turns;
      if (step.turns < 1 || step.kind >= turn_kinds || done > turns || in_sum > turns_in_a_sum) return false;
      if (step.ends) in_sum = 0;
      const TurnKind& kind = turn_kind[step.kind];
      for (int32_t i = 0; i < step.turns; ++i, inputs += kind.inputs)
        for (int32_t r = 0; r < turn_rows; ++r, ++edges) {
          const int32_t input = inputs[kind.of_row[r]], row = g * turn_rows + r;
          if (*edges == none ? input != graph.num_in
                             : *edges < graph.indptr[row] || *edges >= graph.indptr[row + 1] ||
                                   graph.indices[*edges] != input)
            return false;
          taken[r] += *edges != none;
        }
    }
    if (done != turns || in_sum != 0) return false;
    end = inputs;
    for (int32_t r = 0; r < turn_rows; ++r)
      if (taken[r] != graph.degree(g * turn_rows + r)) return false;
  }
  return true;
}

}  // namespace xn
