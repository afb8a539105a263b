// Copies between the caller's arrays and the panels and tiles that the inner loops read and write.
#pragma once

#include "act.h"

namespace xn::XN_ISA {

// Numbers 0, 2, 4 and so on of two vectors.
XN_INLINE Vec load_even(const float* from) {
  return every_other<0>(load(from), load(from + lanes));
}

// Every other number, up to the last one that is asked for.
XN_INLINE void copy_even(float* to, const float* from, int64_t count) {
  int64_t i = 0;
  for (; i + lanes < count; i += lanes) store(to + i, load_even(from + 2 * i));
  for (; i < count; ++i) to[i] = from[2 * i];
}

// One channel of a plane, exactly.
XN_INLINE void pack_exactly(float* to, const float* from, const Segment* segments, int64_t count, int64_t step) {
  for (int64_t s = 0; s < count; ++s) {
    const Segment& segment = segments[s];
    float* out = to + segment.at;
    const float* in = from + segment.far;
    if (step == 1)
      copy(out, in, segment.length);
    else if (step == 2)
      copy_even(out, in, segment.length);
    else
      for (int64_t i = 0; i < segment.length; ++i) out[i] = in[i * step];
    zero(out + segment.length, segment.gap);
  }
}

// One channel of a plane by whole vectors, which read and write a little too far. What they spoil to the right is
// written afterwards: by the next segment, or by the next channel.
template <int step = 1>
XN_INLINE void pack_roughly(float* to, const float* from, const Segment* segments, int64_t count) {
  for (int64_t s = 0; s < count; ++s) {
    const Segment& segment = segments[s];
    if constexpr (step == 1)
      copy_whole_vectors(to + segment.at, from + segment.far, segment.length);
    else
      for (int64_t i = 0; i < segment.length; i += lanes)
        store(to + segment.at + i, load_even(from + segment.far + 2 * i));
    zero_whole_vectors(to + segment.at + segment.length, segment.gap);
  }
}

// The same where the segments lie as in the source, and only the pixels of the gaps differ: one long copy, then the
// gaps.
XN_INLINE void pack_punched(float* to, const float* from, const Segment* segments, int64_t count) {
  zero_whole_vectors(to, segments[0].gap);
  const Segment& last = segments[count - 1];
  copy_whole_vectors(to + segments[1].at, from + segments[1].far, last.at + last.length - segments[1].at);
  for (int64_t s = 1; s < count - 1; ++s)
    for (int32_t i = 0; i < segments[s].gap; ++i) to[segments[s].at + segments[s].length + i] = 0;
  zero_whole_vectors(to + last.at + last.length, last.gap);
}

XN_INLINE bool is_punched(const Segment* segments, int64_t count, int64_t step) {
  if (count < 3 || step != 1) return false;
  for (int64_t s = 1; s < count - 1; ++s)
    if (segments[s].gap > 4 || segments[s + 1].far - segments[s].far != segments[s + 1].at - segments[s].at)
      return false;
  return true;
}

// The rows of a tile, (rows, tile_ld), to their channels of the target. What is finished on the way has step 1.
XN_INLINE void store_rows(const float* tile, int64_t tile_ld, int rows, float* to, int64_t channel,
                          const Segment* segments, int64_t count, int64_t step, const Finish* finish,
                          const float* residual) {
  for (int r = 0; r < rows; ++r)
    for (int64_t s = 0; s < count; ++s) {
      if (finish) {
        const int64_t at = r * channel + segments[s].far;
        map_run(to + at, tile + r * tile_ld + segments[s].at, residual ? residual + at : nullptr, segments[s].length,
                1.0f, 0.0f, finish->act);
        continue;
      }
      float* out = to + r * channel + segments[s].far;
      const float* in = tile + r * tile_ld + segments[s].at;
      if (step == 1)
        copy(out, in, segments[s].length);
      else
        for (int64_t i = 0; i < segments[s].length; ++i) out[i * step] = in[i];
    }
}

// to[j][i] = from[i][j] for i < rows, j < columns.
static void transpose(const float* from, int64_t from_ld, int64_t rows, int64_t columns, float* to, int64_t to_ld) {
  int64_t i = 0;
  for (; i + lanes <= rows; i += lanes) {
    int64_t j = 0;
    for (; j + lanes <= columns; j += lanes) {
      Vec v[lanes];
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) v[r] = load(from + (i + r) * from_ld + j);
      transpose_registers(v);
#pragma GCC unroll 16
      for (int r = 0; r < lanes; ++r) store(to + (j + r) * to_ld + i, v[r]);
    }
    for (; j < columns; ++j)
      for (int r = 0; r < lanes; ++r) to[j * to_ld + i + r] = from[(i + r) * from_ld + j];
  }
  for (; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) to[j * to_ld + i] = from[i * from_ld + j];
}

// Asks for the lines of `count` numbers, to read or to write.
template <int write>
XN_INLINE void prefetch(const float* p, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(p + i, write, 2 + write);
}

// A tile of every channel: (channels, planes, plane_ld). Positions beyond the image hold zeros.
struct Panel {
  const float* data;
  float* own;
  int64_t plane_ld, channel_ld, size;
  Segment* segments;  // (planes, most)
  int64_t* counts;
  bool* punched;
  int64_t most_segments;
  float* mapped;  // what all planes need of one channel, prepared
  int64_t mapped_size;

  static int64_t plane_length(const Layout& layout, int64_t tile) { return round_up(tile + layout.halo, lanes); }

  Panel(Arena& arena, const Layout& layout, int64_t tile, int32_t channels, bool prepared = false) {
    plane_ld = plane_length(layout, tile);
    channel_ld = plane_ld * layout.num_planes();
    size = channel_ld * channels;
    data = own = arena.take<float>(size);
    most_segments = layout.most_segments(plane_ld);
    segments = arena.take<Segment>(most_segments * layout.num_planes());
    counts = arena.take<int64_t>(layout.num_planes());
    punched = arena.take<bool>(layout.num_planes());
    mapped_size = prepared ? least(layout.source.total, int64_t{4096}) : 0;
    mapped = arena.take<float>(prepared ? mapped_size + 2 * lanes : 0);
  }

  // Reads the source itself instead.
  void borrow(const float* source, int64_t channel) {
    data = source;
    channel_ld = channel;
  }

  // Channels [first, first + channels) of `source`, from flat position `begin` of an image.
  void pack(const Layout& layout, const float* source, int32_t first, int32_t channels, int64_t image, int64_t begin,
            const Prepare* prepare = nullptr) {
    data = own;
    channel_ld = plane_ld * layout.num_planes();
    if (layout.by_feature) {
      const int64_t rows = least(plane_ld, layout.length - begin), ld = layout.source.stride[2];
      transpose(source + begin * ld + first, ld, rows, channels, own, plane_ld);
      for (int32_t c = 0; rows < plane_ld && c < channels; ++c) zero(own + c * plane_ld + rows, plane_ld - rows);
      return;
    }
    const int32_t planes = layout.num_planes();
    const int64_t step = layout.source_step[2];
    for (int32_t p = 0; p < planes; ++p) {
      counts[p] = layout.pack_segments(p, begin, plane_ld, segments + p * most_segments);
      punched[p] = is_punched(segments + p * most_segments, counts[p], step);
    }
    const float* from = source + image * layout.source.image + first * layout.source.channel;
    const float* from_end = source + layout.source.total;
    if (prepare) return pack_prepared(layout, from, from_end, first, channels, *prepare);
    if (planes == 1 && step == 1 && counts[0] == 2 && segments[1].length == plane_ld) {  // one whole run of pixels
      from += segments[1].far;
      for (int32_t c = 0; c < channels; ++c, from += layout.source.channel)
        copy_whole_vectors(own + c * plane_ld, from, plane_ld);
      return;
    }
    float* to = own;
    const int64_t reach = reach_of(layout);
    for (int32_t c = 0; c < channels; ++c, from += layout.source.channel) {
      // Only the ends of the arrays must be met exactly.
      const bool rough = step <= 2 && c + 1 < channels && from_end - from >= reach + 2 * lanes;
      for (int32_t p = 0; p < planes; ++p, to += plane_ld) pack_plane(to, from, p, step, rough);
    }
  }

  // From the first pixel of a channel to its last.
  static int64_t reach_of(const Layout& layout) {
    int64_t reach = 1;
    for (int a = 0; a < 3; ++a) reach += (layout.source.extent[a] - 1) * layout.source.stride[a];
    return reach;
  }

  void pack_plane(float* to, const float* from, int32_t p, int64_t step, bool rough) const {
    const Segment* list = segments + p * most_segments;
    if (!rough)
      pack_exactly(to, from, list, counts[p], step);
    else if (step == 2)
      pack_roughly<2>(to, from, list, counts[p]);
    else if (punched[p])
      pack_punched(to, from, list, counts[p]);
    else
      pack_roughly(to, from, list, counts[p]);
  }

  // The same from a source that is prepared on the way: before it is packed, once for all planes, or, where images are
  // joined and so lie far from one another, plane by plane afterwards.
  void pack_prepared(const Layout& layout, const float* from, const float* from_end, int32_t first, int32_t channels,
                     const Prepare& prepare) {
    const int32_t planes = layout.num_planes();
    const int64_t step = layout.source_step[2];
    const bool whole = planes == 1 && step == 1 && counts[0] == 2 && segments[1].length == plane_ld;
    int64_t low = INT64_MAX, high = 0;
    for (int32_t p = 0; p < planes; ++p)
      for (int64_t s = 1; s < counts[p]; ++s) {
        const Segment& segment = segments[p * most_segments + s];
        low = least(low, segment.far);
        high = most(high, segment.far + (segment.length - 1) * step + 1);
      }
    low = least(low, high);
    const int64_t reach = reach_of(layout);
    with_function(prepare.act, [&](auto function) {
      float* to = own;
      for (int32_t c = first; c < first + channels; ++c, from += layout.source.channel) {
        const Vec scale = splat(prepare.scale ? prepare.scale[c] : 1.0f);
        const Vec shift = splat(prepare.shift ? prepare.shift[c] : 0.0f);
        auto map = [&](float* out, const float* in, int64_t count) {
          int64_t i = 0;
          for (; i + lanes <= count; i += lanes) store(out + i, function(load(in + i) * scale + shift));
          if (i == count) return;
          float last[lanes] = {};
          copy_rest(last, in + i, count - i);
          store(last, function(load(last) * scale + shift));
          copy_rest(out + i, last, count - i);
        };
        if (whole) {
          map(to, from + segments[1].far, plane_ld);
          to += plane_ld;
          continue;
        }
        const bool inner = step == 1 && c + 1 < first + channels;
        if (high - low <= mapped_size) {
          map(mapped, from + low, high - low);
          for (int32_t p = 0; p < planes; ++p, to += plane_ld) pack_plane(to, mapped - low, p, step, inner);
          continue;
        }
        const bool rough = inner && from_end - from >= reach + lanes;
        for (int32_t p = 0; p < planes; ++p, to += plane_ld) {
          pack_plane(to, from, p, step, rough);
          map(to, to, plane_ld);  // whole vectors, the gaps too, however short the rows are
          const Segment* list = segments + p * most_segments;
          for (int64_t s = 0; s < counts[p]; ++s)
            if (list[s].gap) zero(to + list[s].at + list[s].length, list[s].gap);
        }
      }
    });
  }
};

}  // namespace xn::XN_ISA
