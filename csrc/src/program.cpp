// Lists of steps: each is checked, laid out and given to the kernels.
#include <algorithm>
#include <cstdint>

#include "call.h"

namespace {

using xn::Activation;
using xn::Call;
using xn::Int3;

bool has_graph(const xn_step& s) { return s.kind == XN_STEP_CONV || s.kind == XN_STEP_LINEAR; }
bool is_pool(const xn_step& s) { return s.kind == XN_STEP_MAX_POOL || s.kind == XN_STEP_AVG_POOL; }
bool is_prepared(const xn_step& s) {
  return s.kind == XN_STEP_CONV && !s.before && (s.scale || s.shift || s.in_act != XN_ACT_NONE);
}

int64_t product(const int32_t* size) { return int64_t{size[0]} * size[1] * size[2]; }
int64_t images_of(const xn_step& s) { return s.kind == XN_STEP_LINEAR ? s.rows : s.conv->batch; }
Int3 triple(const int32_t* size) { return {size[0], size[1], size[2]}; }

Int3 output_of(const xn_step& s) {
  if (!is_pool(s) && s.kind != XN_STEP_CONV) return triple(s.conv->input);
  Int3 size = xn::output_size(*s.conv);
  if (is_pool(s))
    for (int a = 0; a < 3; ++a)
      if (s.output[a]) size[a] = s.output[a];
  return size;
}

// Numbers of one image, or row, of x and y.
int64_t x_span(const xn_step& s) {
  if (s.kind == XN_STEP_LINEAR) return s.graph->num_in;
  const xn_conv& conv = s.kind == XN_STEP_CONV && s.before ? *s.before : *s.conv;
  return product(conv.input) * (has_graph(s) ? s.graph->num_in : s.channels_in);
}
int64_t y_span(const xn_step& s) {
  if (s.kind == XN_STEP_LINEAR) return s.graph->num_out;
  return product(output_of(s).data()) * (has_graph(s) ? s.graph->num_out : s.channels_out);
}
int64_t residual_span(const xn_step& s) { return s.kind == XN_STEP_SCALE_BY ? s.channels_in : y_span(s); }

// Of a depthwise convolution before a 1x1 one.
bool check_before(const xn_step& s) {
  const xn_conv &b = *s.before, &c = *s.conv;
  if (s.scale || !s.before_weight || !xn::check_geometry(b) || !xn::has_windows(b) || b.batch != c.batch) return false;
  for (int a = 0; a < 3; ++a)
    if (c.kernel[a] != 1 || c.stride[a] != 1 || c.padding[a] != 0) return false;
  return xn::output_size(b) == triple(c.input);
}

// All that can be said in constant time.
bool check_step(const xn_step& s) {
  if (s.kind < XN_STEP_CONV || s.kind > XN_STEP_SCALE_BY) return false;
  if (s.act < XN_ACT_NONE || s.act > XN_ACT_LEAKY) return false;
  if (s.x.slot < 0 || s.y.slot < 0 || s.x.offset < 0 || s.y.offset < 0 || s.x.image < 0 || s.y.image < 0) return false;
  if (s.residual.slot >= 0 && (s.residual.offset < 0 || s.residual.image < 0 || is_pool(s))) return false;
  if (has_graph(s) && (!s.graph || !xn::check_graph(*s.graph) || (!s.weight && xn::num_edges(*s.graph)))) return false;
  if (s.kind == XN_STEP_LINEAR) return xn::check_rows(s.rows);
  if (!s.conv || s.conv->batch < 0) return false;
  if (s.kind == XN_STEP_CONV)
    return s.in_act >= XN_ACT_NONE && s.in_act <= XN_ACT_LEAKY && xn::check_conv(*s.conv, *s.graph) &&
           (!s.before || check_before(s));
  if (s.channels_in < 1 || s.channels_out < 1) return false;
  if (s.channels_in != s.channels_out && !(s.kind == XN_STEP_COPY && s.index)) return false;
  if (s.kind == XN_STEP_SCALE_BY && s.residual.slot < 0) return false;
  if (is_pool(s)) {
    const xn_conv& c = *s.conv;
    if (!xn::check_geometry(c)) return false;
    for (int a = 0; a < 3; ++a) {
      if (s.kind == XN_STEP_AVG_POOL && c.dilation[a] != 1) return false;
      // The last window begins in the image or before it, as in torch.
      if (s.output[a] < 0 || (int64_t{s.output[a]} - 1) * c.stride[a] - c.padding[a] >= c.input[a]) return false;
    }
    return true;
  }
  int64_t input = std::max(s.conv->batch, 1);
  for (int a = 0; a < 3; ++a) {
    if (s.conv->input[a] < 0) return false;
    input *= std::max(s.conv->input[a], 1);
    if (input > xn::most_int) return false;
  }
  return true;
}

bool fits(const xn_tensor& t, int64_t images, int64_t span, const int64_t* sizes, int32_t slots) {
  if (t.slot < 0 || t.slot >= slots) return false;
  if (images == 0 || span == 0) return true;
  const int64_t room = sizes[t.slot] - t.offset;  // both are at least 0
  if (span > room) return false;
  return images == 1 || (t.image >= span && t.image <= (room - span) / (images - 1));
}

// Whether any number of `a` is one of `b`, or could be.
bool overlap(const xn_tensor& a, int64_t a_span, const xn_tensor& b, int64_t b_span, int64_t images) {
  if (a.slot != b.slot || images == 0 || a_span == 0 || b_span == 0) return false;
  const int64_t from = b.offset - a.offset;
  if (images == 1) return from < a_span && from > -b_span;
  if (a.image != b.image)
    return from < (images - 1) * a.image + a_span && from > -((images - 1) * b.image + b_span);
  // Image i of `a` meets image i + k of `b` for the least k after which `b` does not end before `a` begins.
  const int64_t numerator = -b_span - from;
  int64_t k = numerator / a.image + 1;
  if (numerator % a.image < 0) --k;
  k = std::max(k, 1 - images);
  return k < images && from + k * a.image < a_span;
}

bool same_place(const xn_tensor& a, const xn_tensor& b, int64_t images) {
  return a.slot == b.slot && a.offset == b.offset && (a.image == b.image || images <= 1);
}

bool check_places(const xn_step& s, const int64_t* sizes, int32_t slots) {
  const int64_t images = images_of(s), xs = x_span(s), ys = y_span(s), rs = residual_span(s);
  if (!fits(s.x, images, xs, sizes, slots) || !fits(s.y, images, ys, sizes, slots)) return false;
  const bool may_be_in_place = s.kind == XN_STEP_POINTWISE || s.kind == XN_STEP_SCALE_BY;
  if (overlap(s.x, xs, s.y, ys, images) && !(may_be_in_place && same_place(s.x, s.y, images))) return false;
  if (s.residual.slot < 0) return true;
  if (!fits(s.residual, images, rs, sizes, slots)) return false;
  const bool is_y = s.kind != XN_STEP_SCALE_BY && same_place(s.residual, s.y, images);
  return is_y || !overlap(s.residual, rs, s.y, ys, images);
}

bool check_tables(const xn_step& s) {
  if (has_graph(s)) {  // the tables first: other checks count their edges
    if (!s.graph || !xn::check_graph(*s.graph)) return false;
    xn_graph forward = *s.graph;
    forward.t_indptr = nullptr, forward.t_turns = nullptr;
    return xn::check_tables(forward);
  }
  if (s.kind == XN_STEP_COPY && s.index)
    for (int32_t c = 0; c < s.channels_out; ++c)
      if (s.index[c] < 0 || s.index[c] >= s.channels_in) return false;
  return true;
}

// What a step becomes. Without slots, only its scratch is asked for.
struct Step {
  const xn_step& step;
  Call call;
  float* const* slots;
  Activation act;
  xn::Finish finish;
  xn::Prepare prepare;
  xn::Depthwise before{};

  Step(const xn_step& s, float* const* memory, void* scratch, int32_t num_threads, int32_t isa)
      : step(s),
        call(s.graph, scratch, num_threads, isa),
        slots(memory),
        act{s.act, s.low, s.high},
        finish{place(s.residual), s.residual.image, act},
        prepare{s.scale, s.shift, {s.in_act, s.in_low, s.in_high}} {
    if (s.kind != XN_STEP_CONV || !s.before) return;
    const xn_conv &b = *s.before, &c = *s.conv;
    const int32_t channels = s.graph->num_in;
    before = {b.batch,     channels,     channels,       b.input[1], b.input[2],  c.input[1],   c.input[2], b.kernel[2],
              b.stride[2], b.padding[2], nullptr,        s.before_weight, s.shift, place(s.x), nullptr,    nullptr,
              s.x.image,   0,            0,              prepare.act, nullptr,    nullptr,      1};
  }

  float* place(const xn_tensor& t) const { return slots && t.slot >= 0 ? slots[t.slot] + t.offset : nullptr; }
  const xn::Finish* finish_or_null() const { return finish.residual || act.kind != XN_ACT_NONE ? &finish : nullptr; }

  xn::Layout layout() const {
    const xn::Rows rows = xn::forward_rows(*step.graph);
    xn::Images images{step.x.image, step.y.image};
    if (step.kind == XN_STEP_LINEAR) return xn::rows_layout(step.rows, rows.num_in, rows.num_out, images);
    images.join = !step.before && (step.residual.slot < 0 || step.residual.image == step.y.image);
    return xn::forward_layout(*step.conv, rows.num_in, rows.num_out, xn::columns_for(rows), images);
  }

  xn::Apply apply(const xn::Layout& layout) const {
    xn::Apply apply = call.forward(layout, step.kind == XN_STEP_CONV ? xn::kernel_taps(*step.conv) : 1);
    apply.weight = step.weight, apply.bias = step.bias;
    apply.source = place(step.x), apply.target = place(step.y);
    apply.finish = finish_or_null();
    if (is_prepared(step)) apply.prepare = &prepare;
    if (step.kind == XN_STEP_CONV && step.before) apply.before = &before;
    return apply;
  }

  xn::Few few() const {
    xn::Few few = call.few(step.rows);
    few.weight = step.weight, few.bias = step.bias, few.x = place(step.x), few.result = place(step.y);
    few.x_ld = step.x.image, few.result_ld = step.y.image;
    few.finish = finish_or_null();
    return few;
  }

  xn::Depthwise depthwise() const {
    xn::Depthwise d = call.depthwise(*step.conv);
    d.weight = step.weight, d.bias = step.bias, d.act = act;
    d.x = place(step.x), d.y = place(step.y), d.residual = finish.residual;
    d.x_image = step.x.image, d.y_image = step.y.image, d.residual_image = step.residual.image;
    if (is_prepared(step)) d.prepare = &prepare;
    return d;
  }

  xn::Pool pool() const {
    const xn_conv& c = *step.conv;
    return {c.batch, step.channels_in, triple(c.input), triple(c.kernel), triple(c.stride), triple(c.padding),
            triple(c.dilation), output_of(step), place(step.x), place(step.y), step.x.image, step.y.image,
            step.kind == XN_STEP_AVG_POOL, step.exclude_padding != 0, act, call.scratch, call.threads};
  }

  xn::Map map() const {
    xn::Map map{step.conv->batch, step.channels_out, product(step.conv->input), place(step.x), place(step.y), nullptr,
                step.x.image, step.y.image, step.residual.image, nullptr, nullptr, 0, nullptr, act, call.threads};
    if (step.kind == XN_STEP_SCALE_BY) {
      map.scale = place(step.residual), map.scale_image = step.residual.image;
      return map;
    }
    map.residual = place(step.residual);
    if (step.kind == XN_STEP_POINTWISE) map.scale = step.scale, map.shift = step.shift;
    if (step.kind == XN_STEP_COPY) map.index = step.index;
    return map;
  }

  xn::Winograd winograd() const {
    xn::Winograd w = call.winograd(*step.conv, xn::Way::forward, step.winograd);
    w.bias = step.bias, w.source = place(step.x), w.target = place(step.y);
    w.source_image = step.x.image, w.target_image = step.y.image;
    w.finish = finish_or_null();
    if (is_prepared(step)) w.prepare = &prepare;
    return w;
  }

  size_t winograd_bytes() const { return step.kind == XN_STEP_CONV ? call.winograd_bytes(winograd(), *step.conv) : 0; }

  bool uses_few() const { return step.kind == XN_STEP_LINEAR && step.rows <= xn::few_rows; }

  bool uses_depthwise() const { return step.kind == XN_STEP_CONV && xn::is_depthwise(*step.graph, *step.conv); }

  size_t scratch() const {
    if (uses_depthwise()) return call.kernels->depthwise_scratch(depthwise());
    if (const size_t bytes = winograd_bytes()) return bytes;
    if (has_graph(step)) return uses_few() ? 0 : call.kernels->apply_scratch(apply(layout()));
    return is_pool(step) ? call.kernels->pool_scratch(pool()) : 0;
  }

  void run() const {
    if (uses_depthwise()) return call.kernels->depthwise(depthwise());
    if (uses_few()) return call.kernels->few_forward(few());
    if (winograd_bytes()) {
      if (!step.winograd) call.make_points(step.weight, false, reinterpret_cast<float*>(call.scratch));
      return call.kernels->winograd(winograd());
    }
    if (has_graph(step)) return call.kernels->apply(apply(layout()));
    if (is_pool(step)) return call.kernels->pool(pool());
    call.kernels->map(map());
  }
};

}  // namespace

extern "C" {

int32_t xn_program_check(const xn_step* steps, int32_t num_steps, const int64_t* slot_sizes, int32_t num_slots) {
  if (num_steps < 0 || num_slots < 0 || (num_steps && !steps) || (num_slots && !slot_sizes)) return XN_BAD_ARGUMENT;
  for (int32_t i = 0; i < num_slots; ++i)
    if (slot_sizes[i] < 0) return XN_BAD_ARGUMENT;
  for (int32_t i = 0; i < num_steps; ++i)
    if (!check_tables(steps[i]) || !check_step(steps[i]) || !check_places(steps[i], slot_sizes, num_slots))
      return XN_BAD_ARGUMENT;
  return XN_OK;
}

int64_t xn_program_scratch(const xn_step* steps, int32_t num_steps, int32_t num_threads, int32_t isa) {
  if (num_steps < 0 || (num_steps && !steps) || !xn::kernels_for(isa)) return -1;
  size_t bytes = 0;
  for (int32_t i = 0; i < num_steps; ++i) {
    if (!check_step(steps[i])) return -1;
    bytes = std::max(bytes, Step(steps[i], nullptr, nullptr, num_threads, isa).scratch());
  }
  return static_cast<int64_t>(bytes + 64);
}

int32_t xn_program_run(const xn_step* steps, int32_t num_steps, float* const* slots, void* scratch,
                       int32_t num_threads, int32_t isa) {
  if (!xn::kernels_for(isa)) return XN_BAD_ISA;
  if (num_steps < 0 || (num_steps && (!steps || !slots || !scratch))) return XN_BAD_ARGUMENT;
  for (int32_t i = 0; i < num_steps; ++i)
    if (!check_step(steps[i])) return XN_BAD_ARGUMENT;
  for (int32_t i = 0; i < num_steps; ++i) Step(steps[i], slots, scratch, num_threads, isa).run();
  return XN_OK;
}

}  // extern "C"
