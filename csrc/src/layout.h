// How a convolution becomes sums over shifted rows of numbers.
//
// The output pixels of an image are numbered along a *flat* axis whose rows are padded to a pitch. The input
// is copied into a *panel* with the same pitch, zeros where the convolution pads, so that each kernel tap is
// the whole panel shifted by one constant: output[f] += weight * panel[f + offset of the tap]. The pixels of
// the gap between two rows are computed and dropped. A stride splits the input into one *plane* per residue
// class, each of which is again shifted by constants.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "xnets.h"

namespace xn {

using Int3 = std::array<int32_t, 3>;
using Long3 = std::array<int64_t, 3>;

// A run of `length` numbers, then `gap` zeros. For packing, `at` is in the panel and `far` in a channel of the
// source; for storing, `at` is in the tile and `far` in a channel of the destination.
struct Segment {
  int64_t far;
  int32_t at, length, gap;
};

// An array in memory: extents of an image, and the distance between neighbours along each axis.
struct Strided {
  Int3 extent;
  Long3 stride;
  int64_t channel, image, total;
};

struct Layout {
  Int3 out;            // pixels to compute
  Long3 pitch;         // flat distance between neighbours, by axis
  int64_t length;      // flat positions, from the first pixel to the last
  int64_t halo;        // how far a tap reaches beyond its pixel
  int64_t images;      // independent flat axes
  Strided source, target;
  bool by_feature;     // pixels are rows of features: channels lie side by side, as no image's do
  Int3 source_step;    // input pixels between neighbours of a plane
  Int3 target_step, target_origin;

  struct Plane {
    Int3 first;        // input pixel at flat position 0; may lie outside the image
  };
  std::vector<Plane> planes;
  std::vector<int32_t> tap;        // which taps of the kernel act,
  std::vector<int32_t> tap_plane;  // on which plane,
  std::vector<int64_t> tap_shift;  // and how far along it

  // Out of line, because the kernels of a newer instruction set must not compile a function that others share.
  int32_t num_planes() const;
  int32_t num_taps() const;
  const int32_t* taps() const;
  int64_t tap_at(int32_t t, int64_t plane_ld) const;  // place in a channel's planes
  bool empty() const;
  bool idle() const;  // empty, or pixels that no tap reaches
  bool pointwise() const;
  bool same_as_source() const;  // flat positions are the places in a channel of the source

  // At most so many segments cover `count` flat positions.
  int64_t most_segments(int64_t count) const;
  // Segments of flat positions [begin, begin + count) of one plane, as they lie in a channel of the source.
  int64_t pack_segments(int32_t plane, int64_t begin, int64_t count, Segment* to) const;
  // Segments of the pixels among flat positions [begin, begin + count), as they lie in the target.
  int64_t store_segments(int64_t begin, int64_t count, Segment* to) const;
};

// How the columns of the kernel find their pixels.
enum class Columns {
  shifted,  // all in one copy of the image: unaligned loads, and a gap between its rows
  compact,  // each in a copy of its own, without gaps
  aligned,  // each in a copy of its own, rows at aligned places where that wastes little
};

Int3 output_size(const xn_conv& conv);

// What is not as in contiguous arrays. A residual with strides of its own keeps images from being joined.
struct Images {
  int64_t source = 0, target = 0;  // between images; 0: no gap
  bool join = true;
};
Layout forward_layout(const xn_conv& conv, int32_t num_in, int32_t num_out, Columns columns, const Images& images = {});

// The gradient to the input of stride (s_d, s_h, s_w) is s_d * s_h * s_w convolutions of stride 1, one per
// residue class of the input's pixels.
int64_t grad_input_phases(const xn_conv& conv);
Layout grad_input_layout(const xn_conv& conv, int32_t num_in, int32_t num_out, int64_t phase, Columns columns);

// Rows of a matrix as the pixels of one image: the features lie side by side.
Layout rows_layout(int64_t rows, int32_t num_in, int32_t num_out, const Images& images = {});

}  // namespace xn
