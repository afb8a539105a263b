// Four rows that stand alone share what they read where they happen to read the same. In a turn each of the four takes
// one of its edges; rows whose edges have the same input in that turn load it once. Which edges meet in which turn is
// found once for a graph and kept in a table.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace xn {

constexpr int32_t turn_rows = 4;

// The kinds of turns: how many inputs a turn reads, and which of them each row takes.
struct TurnKind {
  int32_t inputs;
  int32_t of_row[turn_rows];
};
constexpr int32_t turn_kinds = 11, shared_kinds = 8;
constexpr TurnKind turn_kind[turn_kinds] = {
    {1, {0, 0, 0, 0}}, {2, {0, 0, 0, 1}}, {2, {0, 0, 1, 0}}, {2, {0, 1, 0, 0}}, {2, {0, 1, 1, 1}}, {2, {0, 0, 1, 1}},
    {2, {0, 1, 0, 1}}, {2, {0, 1, 1, 0}}, {3, {0, 0, 1, 2}}, {3, {0, 1, 2, 2}}, {4, {0, 1, 2, 3}},
};

// How many edges of a row are added up before they are added to the result: see run_length of the kernels.
constexpr int32_t turns_in_a_sum = 36;

// The table: the number of groups of four rows, that of turns, where in the table each group begins and the last one
// ends, how many turns lie before each group and before the end, and for each row in each turn the number of its edge,
// or -1. Then for each group how many steps it has, the steps, and the inputs of all its turns. A step is a number of
// turns of one kind; a row that has run out of edges reads the input `num_in`, which is zero everywhere.
struct TurnTable {
  const int32_t* at;

  int32_t groups() const { return at[0]; }
  int32_t turns() const { return at[1]; }
  const int32_t* group(int32_t g) const { return at + at[2 + g]; }
  int32_t turns_before(int32_t g) const { return at[3 + groups() + g]; }
  const int32_t* edges() const { return at + 4 + 2 * groups(); }
};

struct TurnStep {
  int32_t turns, kind;
  bool ends;  // a sum

  static TurnStep read(int32_t step) { return {step >> 5, step >> 1 & 15, (step & 1) != 0}; }
  int32_t written() const { return turns << 5 | kind << 1 | (ends ? 1 : 0); }
};

// How many numbers `write_turns` may write, and how many of them are the table: 0 where rows have too little in common.
int64_t turn_table_room(const Rows& graph);
int64_t write_turns(const Rows& graph, int32_t* table, int64_t room);
bool check_turns(const Rows& graph, const int32_t* table);

}  // namespace xn
