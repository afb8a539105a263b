#include "layout.h"

#include <algorithm>

namespace xn {
namespace {

int32_t floor_div(int32_t a, int32_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }
int32_t ceil_div(int32_t a, int32_t b) { return -floor_div(-a, b); }

Strided channels_first(const Int3& extent, int32_t batch, int32_t channels, int64_t image = 0) {
  const int64_t plane = int64_t{extent[1]} * extent[2], channel = extent[0] * plane;
  if (image == 0 || batch <= 1) image = channel * channels;
  const int64_t total = batch ? (batch - 1) * image + channel * channels : 0;
  return {extent, {plane, extent[2], 1}, channel, image, total};
}

// Copies for each column are cheap while they are few.
constexpr size_t most_columns = 4;

// A tap of one axis: its number, and the input pixel it reads at output pixel 0.
struct AxisTap {
  int32_t tap, first;
};

// The least pitch that holds `width` pixels and keeps most rows aligned, if that wastes little.
int64_t aligned_pitch(int64_t width) {
  for (int64_t unit : {16, 8, 4}) {
    const int64_t pitch = (width + unit - 1) / unit * unit;
    if (pitch * 5 <= width * 6) return pitch;
  }
  return (width + 3) / 4 * 4;
}

// Small images of a batch follow one another along the flat axis, taking the place of the depth, where that fills the
// vectors better. The zeros below one image serve as those above the next.
void join_images(Layout& layout, const Int3& kernel, int64_t padding) {
  const bool flat_depth = kernel[0] == 1 && layout.source.extent[0] == 1 && layout.out[0] == 1 &&
                          layout.source_step[0] == 1 && layout.target_step[0] == 1;
  if (layout.images < 2 || !flat_depth || layout.empty()) return;
  const int64_t flat = layout.pitch[1] * layout.out[1], alone = (flat + 15) / 16 * 16;
  const int64_t span = layout.pitch[0] / layout.pitch[1] - layout.out[1];
  const int64_t shared = std::max<int64_t>(0, std::min(padding, span));
  const int64_t joined = layout.pitch[0] - shared * layout.pitch[1];
  if (layout.images * joined > INT32_MAX || joined * 16 > alone * 15) return;
  const int32_t images = static_cast<int32_t>(layout.images);
  layout.pitch[0] = joined;
  layout.out[0] = layout.source.extent[0] = layout.target.extent[0] = images;
  layout.source.stride[0] = layout.source.image;
  layout.target.stride[0] = layout.target.image;
  layout.length += (layout.images - 1) * joined;
  layout.images = 1;
}

// Sets pitch, planes and taps from the taps of each axis. Expects out, images, source, target and steps.
void arrange(Layout& layout, const std::array<std::vector<AxisTap>, 3>& axes, const Int3& kernel, Columns columns) {
  if (axes[2].size() > most_columns) columns = Columns::shifted;
  Int3 low{}, span{};
  for (int a = 0; a < 3; ++a) {
    if (axes[a].empty()) continue;
    int32_t least = INT32_MAX, most = INT32_MIN;
    for (const AxisTap& t : axes[a]) {
      least = std::min(least, floor_div(t.first, layout.source_step[a]));
      most = std::max(most, floor_div(t.first, layout.source_step[a]));
    }
    low[a] = least;
    span[a] = most - least;
  }
  const bool per_column = columns != Columns::shifted;
  layout.pitch[2] = 1;
  layout.pitch[1] = columns == Columns::aligned ? aligned_pitch(layout.out[2])
                    : per_column                ? layout.out[2]
                                                : layout.out[2] + span[2];
  layout.pitch[0] = layout.pitch[1] * (layout.out[1] + span[1]);
  layout.length = (layout.out[0] - 1) * layout.pitch[0] + (layout.out[1] - 1) * layout.pitch[1] + layout.out[2];
  layout.halo = 0;
  for (const AxisTap& d : axes[0])
    for (const AxisTap& h : axes[1])
      for (const AxisTap& w : axes[2]) {
        const Int3 first{d.first, h.first, w.first};
        Int3 origin;
        int64_t shift = 0;
        for (int a = 0; a < 3; ++a) {
          const int32_t step = layout.source_step[a], q = floor_div(first[a], step);
          const int32_t base = (per_column && a == 2) ? q : low[a];
          origin[a] = first[a] - (q - base) * step;
          shift += (q - base) * layout.pitch[a];
        }
        size_t plane = 0;
        while (plane < layout.planes.size() && layout.planes[plane].first != origin) ++plane;
        if (plane == layout.planes.size()) layout.planes.push_back({origin});
        layout.tap.push_back((d.tap * kernel[1] + h.tap) * kernel[2] + w.tap);
        layout.tap_plane.push_back(static_cast<int32_t>(plane));
        layout.tap_shift.push_back(shift);
        layout.halo = std::max(layout.halo, shift);
      }
}

}  // namespace

Int3 output_size(const xn_conv& conv) {
  Int3 size;
  for (int a = 0; a < 3; ++a) {
    const int64_t room = int64_t{conv.input[a]} + 2 * int64_t{conv.padding[a]} -
                         int64_t{conv.dilation[a]} * (conv.kernel[a] - 1) - 1;
    size[a] = room < 0 ? 0 : static_cast<int32_t>(room / conv.stride[a] + 1);
  }
  return size;
}

Layout forward_layout(const xn_conv& conv, int32_t num_in, int32_t num_out, Columns columns, const Images& images) {
  const Int3 in{conv.input[0], conv.input[1], conv.input[2]}, kernel{conv.kernel[0], conv.kernel[1], conv.kernel[2]};
  Layout layout{};
  layout.out = output_size(conv);
  layout.images = conv.batch;
  layout.source = channels_first(in, conv.batch, num_in, images.source);
  layout.target = channels_first(layout.out, conv.batch, num_out, images.target);
  layout.source_step = {conv.stride[0], conv.stride[1], conv.stride[2]};
  layout.target_step = {1, 1, 1};
  std::array<std::vector<AxisTap>, 3> axes;
  bool identity = true;
  for (int a = 0; a < 3; ++a) {
    identity &= kernel[a] == 1 && conv.stride[a] == 1 && conv.padding[a] == 0;
    for (int32_t k = 0; k < kernel[a]; ++k) axes[a].push_back({k, k * conv.dilation[a] - conv.padding[a]});
  }
  if (identity) {
    const int32_t pixels = static_cast<int32_t>(layout.source.channel);
    // Small images are joined to one run of pixels, so that they fill the vectors too.
    const bool join = images.join && (pixels + 15) / 16 * 16 > pixels + pixels / 12;
    layout.out = {join ? conv.batch : 1, 1, pixels};
    if (join) layout.images = 1;
    layout.source = {layout.out, {layout.source.image, 0, 1}, pixels, layout.source.image, layout.source.total};
    layout.target = {layout.out, {layout.target.image, 0, 1}, pixels, layout.target.image, layout.target.total};
    columns = Columns::shifted;
  }
  arrange(layout, axes, kernel, columns);
  if (images.join && conv.stride[1] == 1) join_images(layout, kernel, conv.padding[1]);
  return layout;
}

int64_t grad_input_phases(const xn_conv& conv) {
  return int64_t{conv.stride[0]} * conv.stride[1] * conv.stride[2];
}

Layout grad_input_layout(const xn_conv& conv, int32_t num_in, int32_t num_out, int64_t phase, Columns columns) {
  const Int3 in{conv.input[0], conv.input[1], conv.input[2]}, kernel{conv.kernel[0], conv.kernel[1], conv.kernel[2]};
  if (grad_input_phases(conv) == 1) {
    bool identity = true;
    for (int a = 0; a < 3; ++a) identity &= kernel[a] == 1 && conv.padding[a] == 0;
    if (identity) return forward_layout(conv, num_out, num_in, columns);
  }
  Layout layout{};
  layout.images = conv.batch;
  layout.source = channels_first(output_size(conv), conv.batch, num_out);
  layout.target = channels_first(in, conv.batch, num_in);
  layout.source_step = {1, 1, 1};
  std::array<std::vector<AxisTap>, 3> axes;
  for (int a = 2; a >= 0; --a) {
    const int32_t stride = conv.stride[a], r = static_cast<int32_t>(phase % stride);
    phase /= stride;
    layout.target_step[a] = stride;
    layout.target_origin[a] = r;
    layout.out[a] = r < in[a] ? (in[a] - r + stride - 1) / stride : 0;
    // Input pixel o * stride + r meets tap k of output pixel o + (r + padding - k * dilation) / stride.
    for (int32_t k = 0; k < kernel[a]; ++k) {
      const int32_t reach = r + conv.padding[a] - k * conv.dilation[a];
      if (reach % stride == 0) axes[a].push_back({k, reach / stride});
    }
  }
  arrange(layout, axes, kernel, columns);
  const int64_t reach = int64_t{conv.dilation[1]} * (kernel[1] - 1) - conv.padding[1];
  if (grad_input_phases(conv) == 1) join_images(layout, kernel, reach);
  return layout;
}

Layout rows_layout(int64_t rows, int32_t num_in, int32_t num_out, const Images& images) {
  const int64_t source = images.source ? images.source : num_in, target = images.target ? images.target : num_out;
  Layout layout{};
  layout.by_feature = true;
  layout.out = {1, 1, static_cast<int32_t>(rows)};
  layout.images = 1;
  layout.source = {layout.out, {0, 0, source}, 1, 0, rows ? (rows - 1) * source + num_in : 0};
  layout.target = {layout.out, {0, 0, target}, 1, 0, rows ? (rows - 1) * target + num_out : 0};
  layout.source_step = layout.target_step = {1, 1, 1};
  std::array<std::vector<AxisTap>, 3> axes;
  for (auto& axis : axes) axis.push_back({0, 0});
  arrange(layout, axes, {1, 1, 1}, Columns::shifted);
  return layout;
}

int32_t Layout::num_planes() const { return static_cast<int32_t>(planes.size()); }
int32_t Layout::num_taps() const { return static_cast<int32_t>(tap.size()); }
const int32_t* Layout::taps() const { return tap.data(); }
int64_t Layout::tap_at(int32_t t, int64_t plane_ld) const { return tap_plane[t] * plane_ld + tap_shift[t]; }
bool Layout::empty() const { return images == 0 || out[0] == 0 || out[1] == 0 || out[2] == 0; }
bool Layout::idle() const { return empty() || num_taps() == 0; }
bool Layout::pointwise() const { return tap.size() == 1 && tap[0] == 0 && planes.size() == 1 && halo == 0; }
bool Layout::same_as_source() const {
  return !by_feature && pointwise() && planes[0].first == Int3{} && source_step == Int3{1, 1, 1} && out == source.extent &&
         out[0] == 1 && source.stride[2] == 1 && (out[1] == 1 || pitch[1] == source.stride[1]);
}
int64_t Layout::most_segments(int64_t count) const { return count / pitch[1] + 3; }

int64_t Layout::pack_segments(int32_t plane, int64_t begin, int64_t count, Segment* to) const {
  const Int3& first = planes[plane].first;
  const int64_t end = begin + count;
  const int64_t rows = pitch[0] / pitch[1];
  // Positions w of a row that lie inside the image: 0 <= first + w * step < extent.
  const int64_t left = std::max(0, ceil_div(-first[2], source_step[2]));
  const int64_t right = std::min<int64_t>(pitch[1], std::max(0, ceil_div(source.extent[2] - first[2], source_step[2])));
  int64_t done = begin, n = 0;  // everything before `done` is covered
  to[n++] = {0, 0, 0, 0};
  for (int64_t row = begin / pitch[1]; row * pitch[1] < end && left < right; ++row) {
    const int64_t d = first[0] + row / rows * source_step[0], h = first[1] + row % rows * source_step[1];
    if (d < 0 || d >= source.extent[0] || h < 0 || h >= source.extent[1]) continue;
    const int64_t from = std::max(begin, row * pitch[1] + left), until = std::min(end, row * pitch[1] + right);
    if (from >= until) continue;
    const int64_t w = first[2] + (from - row * pitch[1]) * source_step[2];
    to[n - 1].gap = static_cast<int32_t>(from - done);
    to[n++] = {d * source.stride[0] + h * source.stride[1] + w * source.stride[2],
               static_cast<int32_t>(from - begin), static_cast<int32_t>(until - from), 0};
    done = until;
  }
  to[n - 1].gap = static_cast<int32_t>(end - done);
  return n;
}

int64_t Layout::store_segments(int64_t begin, int64_t count, Segment* to) const {
  const int64_t end = std::min(begin + count, length);
  const int64_t rows = pitch[0] / pitch[1];
  int64_t n = 0;
  const bool same_rows = target_step[2] == 1 && target_step[1] == 1 && pitch[1] == out[2] && out[2] == target.extent[2];
  // Images that were joined have gaps between them, which must not pass for their distance in the target.
  const bool whole_planes = pitch[0] == pitch[1] * out[1] && pitch[0] == target.stride[0];
  const bool same_planes = out[0] == 1 || (target_step[0] == 1 && whole_planes);
  if (same_rows && same_planes) {  // the flat axis is the target's own order
    to[n++] = {begin + target_origin[0] * target.stride[0], 0, static_cast<int32_t>(end - begin), 0};
    return n;
  }
  for (int64_t row = begin / pitch[1]; row * pitch[1] < end; ++row) {
    const int64_t d = row / rows, h = row % rows;
    if (h >= out[1]) continue;
    const int64_t from = std::max(begin, row * pitch[1]), until = std::min(end, row * pitch[1] + out[2]);
    if (from >= until) continue;
    const int64_t w = from - row * pitch[1];
    const int64_t far = (d * target_step[0] + target_origin[0]) * target.stride[0] +
                        (h * target_step[1] + target_origin[1]) * target.stride[1] +
                        (w * target_step[2] + target_origin[2]) * target.stride[2];
    const bool goes_on = n && target_step[2] == 1 && to[n - 1].at + to[n - 1].length == from - begin &&
                         to[n - 1].far + to[n - 1].length == far;
    if (goes_on)
      to[n - 1].length += static_cast<int32_t>(until - from);
    else
      to[n++] = {far, static_cast<int32_t>(from - begin), static_cast<int32_t>(until - from), 0};
  }
  return n;
}

}  // namespace xn
