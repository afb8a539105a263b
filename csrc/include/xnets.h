/* The C interface of the xnets CPU kernels: convolutions and linear layers whose connections form a
 * bipartite graph, in fp32.
 *
 * Arrays are contiguous and row-major. Nothing here keeps a pointer after it returns, throws, prints, or
 * changes global state; every function may be called from several threads at once. For a given
 * `num_threads` and `isa` the results are the same bit for bit, call after call.
 */
#ifndef XNETS_H
#define XNETS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define XN_API __attribute__((visibility("default")))

#define XN_ABI_VERSION 4

/* The whole graph is base (x) complete(b_out, b_in): output i * b_out + r is joined to input
 * j * b_in + c for every base edge (i, j), every r < b_out and every c < b_in.
 *
 * Base edges are numbered by output, then by input. The transposed tables are needed only for
 * gradients to the input (they may be NULL elsewhere); xn_transpose fills them.
 */
typedef struct xn_graph {
  int32_t num_in, num_out;  /* of the whole graph */
  int32_t b_out, b_in;      /* the block; divides num_out, num_in */
  const int32_t* indptr;    /* num_out / b_out + 1 */
  const int32_t* indices;   /* base edges: base inputs, increasing within a row */
  const int32_t* t_indptr;  /* num_in / b_in + 1: the same base edges by input ... */
  const int32_t* t_indices; /* base edges: ... their base outputs, increasing within a column ... */
  const int32_t* t_edges;   /* base edges: ... and their number in the order of `indices` */
  const int32_t* turns;     /* may be NULL: what xn_turns wrote for XN_FORWARD, ... */
  const int32_t* t_turns;   /* ... and for XN_GRAD_INPUT */
} xn_graph;

/* One convolution. Arrays are (depth, height, width); put 1, and padding 0, before the dimensions of a
 * 1d or 2d one. x is (batch, num_in, *input), y is (batch, num_out, *output).
 */
typedef struct xn_conv {
  int32_t batch;
  int32_t input[3], kernel[3], stride[3], padding[3], dilation[3];
} xn_conv;

enum { /* instruction sets */
  XN_ISA_AUTO = 0,
  XN_ISA_GENERIC = 1, /* 128-bit vectors of whatever the target has (SSE2, NEON) */
  XN_ISA_AVX2 = 2,    /* AVX2 and FMA */
  XN_ISA_AVX512 = 3   /* AVX-512 F, VL, DQ, BW */
};

/* Added to the instruction set of a call. 3x3 convolutions of stride 1 without dilation, and the gradients to their inputs,
 * go by Winograd's algorithm F(2x2, 3x3) where that is faster: less than half of the multiplications, rounding errors
 * about those of dense layers, but of an infinity may come NaN. XN_DIRECT: never, every sum is as the definition has it.
 * XN_WINOGRAD: wherever it can, depthwise layers excepted, which have kernels of their own. Of both, XN_DIRECT counts.
 */
enum { XN_DIRECT = 256, XN_WINOGRAD = 512 };

enum { /* results */
  XN_OK = 0,
  XN_BAD_ARGUMENT = 1, /* sizes that do not fit each other, a NULL that is needed, an overflow */
  XN_BAD_ISA = 2       /* this machine or this build does not have `isa` */
};

enum { XN_FORWARD = 0, XN_GRAD_INPUT = 1, XN_GRAD_WEIGHT = 2 };

XN_API int32_t xn_abi_version(void);

/* The instruction set that XN_ISA_AUTO stands for, and whether `isa` can be used here (1 or 0). */
XN_API int32_t xn_isa_best(void);
XN_API int32_t xn_isa_usable(int32_t isa);

/* The file name of the OpenMP runtime the kernels run on, or "" where they run on the calling thread
 * alone because the process has no OpenMP runtime. The library never brings its own.
 */
XN_API const char* xn_openmp_path(void);

/* Fill t_indptr (num_in / b_in + 1), t_indices and t_edges (base edges each) from indptr and indices. */
XN_API int32_t xn_transpose(const xn_graph* graph, int32_t* t_indptr, int32_t* t_indices, int32_t* t_edges);

/* A table with which rows that stand alone share what they read, for 1x1 convolutions and linear layers: optional, and
 * the same for every call. `op` is XN_FORWARD or XN_GRAD_INPUT, which needs the transposed tables. xn_turns_room says
 * how many numbers xn_turns may write (for every `isa`), and xn_turns how many of them are the table, which may be
 * moved; 0 where there is nothing to gain (do not use it then), -1 if the arguments are wrong or there is too little
 * room.
 */
XN_API int64_t xn_turns_room(const xn_graph* graph, int32_t op, int32_t isa);
XN_API int64_t xn_turns(const xn_graph* graph, int32_t op, int32_t* table, int64_t room);

/* Check indptr, indices and, where given, the transposed tables: linear time, once per graph. The
 * kernels below trust the tables.
 */
XN_API int32_t xn_check_graph(const xn_graph* graph);

/* Bytes of scratch (any alignment) that the call of kind `op` with the same arguments needs, or -1 if
 * the arguments are wrong. The graph's `turns` and `t_turns` are arguments, too: with them a call may need more.
 * The kernels allocate nothing besides, except tables of some 20 bytes a tap for the layout of the kernel, which
 * has at most 2^20 taps.
 */
XN_API int64_t xn_conv_scratch(const xn_graph* graph, const xn_conv* conv, int32_t op, int32_t num_threads,
                               int32_t isa);
XN_API int64_t xn_linear_scratch(const xn_graph* graph, int64_t rows, int32_t op, int32_t num_threads, int32_t isa);

/* Whether the call of kind `op` with the same arguments goes by Winograd's algorithm (1 or 0); -1 if they are wrong. */
XN_API int32_t xn_conv_is_winograd(const xn_graph* graph, const xn_conv* conv, int32_t op, int32_t num_threads,
                                   int32_t isa);

/* The weights as Winograd's algorithm wants them in forward passes: so many floats, 0 if it would not be faster with them
 * either, -1 if the arguments are wrong; and they. A step of a program that has them does not make them in every run.
 */
XN_API int64_t xn_winograd_size(const xn_graph* graph, const xn_conv* conv, int32_t isa);
XN_API int32_t xn_winograd_weight(const xn_graph* graph, const float* weight, float* to, int32_t num_threads,
                                  int32_t isa);

/* The weight, and the gradient to it, is (edges of the whole graph, kd * kh * kw): edges by output, then
 * by input. Every element of the result is written; scratch and result may hold anything before.
 * `bias` (num_out) may be NULL. `num_threads` is how many threads to use at most (torch.get_num_threads());
 * 0 or less asks the OpenMP runtime.
 */
XN_API int32_t xn_conv_forward(const xn_graph* graph, const xn_conv* conv, const float* x, const float* weight,
                               const float* bias, float* y, void* scratch, int32_t num_threads, int32_t isa);
XN_API int32_t xn_conv_grad_input(const xn_graph* graph, const xn_conv* conv, const float* grad_y, const float* weight,
                                  float* grad_x, void* scratch, int32_t num_threads, int32_t isa);
XN_API int32_t xn_conv_grad_weight(const xn_graph* graph, const xn_conv* conv, const float* x, const float* grad_y,
                                   float* grad_weight, void* scratch, int32_t num_threads, int32_t isa);

/* x is (rows, num_in), y is (rows, num_out), the weight (edges of the whole graph). A 1x1 convolution of
 * stride 1 in channels_last is this with rows = batch * height * width.
 */
XN_API int32_t xn_linear_forward(const xn_graph* graph, int64_t rows, const float* x, const float* weight,
                                 const float* bias, float* y, void* scratch, int32_t num_threads, int32_t isa);
XN_API int32_t xn_linear_grad_input(const xn_graph* graph, int64_t rows, const float* grad_y, const float* weight,
                                    float* grad_x, void* scratch, int32_t num_threads, int32_t isa);
XN_API int32_t xn_linear_grad_weight(const xn_graph* graph, int64_t rows, const float* x, const float* grad_y,
                                     float* grad_weight, void* scratch, int32_t num_threads, int32_t isa);

/* Inference: a list of steps, run by one call. Activations are (batch, channels, depth, height, width); the
 * pixels of an image's channels lie side by side, and only the distance between images is free, so that a
 * tensor can be a range of the channels of a larger one: to concatenate is to write in the right place.
 */
enum { /* activation functions */
  XN_ACT_NONE = 0,
  XN_ACT_CLAMP = 1, /* min(max(v, low), high): ReLU is 0 to infinity, ReLU6 0 to 6 */
  XN_ACT_SILU = 2,
  XN_ACT_HARDSWISH = 3,
  XN_ACT_SIGMOID = 4,
  XN_ACT_HARDSIGMOID = 5,
  XN_ACT_GELU = 6, /* with erf, not its approximation by tanh */
  XN_ACT_TANH = 7,
  XN_ACT_LEAKY = 8 /* v, or v * low below 0 */
};

enum { /* kinds of steps */
  XN_STEP_CONV = 0,      /* y = act(convolution(x') + bias + residual), x' = in_act(x * scale[c] + shift[c]) */
  XN_STEP_LINEAR = 1,    /* y = act(linear(x) + bias + residual) */
  XN_STEP_MAX_POOL = 2,  /* y = act(maximum); what is padded is -infinity */
  XN_STEP_AVG_POOL = 3,  /* y = act(mean) */
  XN_STEP_POINTWISE = 4, /* y = act(x * scale[c] + shift[c] + residual) */
  XN_STEP_COPY = 5,      /* y = act(channel index[c] of x + residual) */
  XN_STEP_SCALE_BY = 6   /* y = act(x * residual), the residual being one number for each image and channel */
};

/* Where a tensor lies. */
typedef struct xn_tensor {
  int32_t slot; /* which of the arrays given to xn_program_run; -1: there is no such tensor */
  int32_t reserved;
  int64_t offset; /* floats from the beginning of the slot to channel 0 of image 0 */
  int64_t image;  /* floats between images; between rows for LINEAR */
} xn_tensor;

/* What a step does not use is ignored. x and y must not overlap, except that POINTWISE and SCALE_BY may write
 * exactly where they read. The residual has y's shape; it may be y itself, and must not overlap it otherwise.
 */
typedef struct xn_step {
  int32_t kind;
  int32_t act;
  float low, high;
  int32_t in_act;                    /* CONV: of x', on the pixels that exist; what is padded stays 0 */
  float in_low, in_high;
  int32_t channels_in, channels_out; /* without a graph; equal but for COPY with an index */
  int32_t exclude_padding;           /* AVG_POOL: divide by the number of pixels that exist */
  int32_t output[3];                 /* pools: the size of y, for ceil_mode; 0: as many windows as fit */
  const xn_graph* graph;             /* CONV, LINEAR */
  const xn_conv* conv;               /* all but LINEAR; POINTWISE, COPY and SCALE_BY read batch and input only */
  int64_t rows;                      /* LINEAR: x is (rows, num_in), y is (rows, num_out) */
  const float* weight;
  const float* winograd;             /* CONV: from xn_winograd_weight, or NULL; `weight` is needed beside it */
  const float* bias;                 /* or NULL */
  const float* scale;                /* CONV, POINTWISE: for each channel of x; NULL: 1 */
  const float* shift;                /* the same; NULL: 0 */
  const int32_t* index;              /* COPY: channels_out numbers; NULL: the channel itself */
  xn_tensor x, y, residual;
  /* CONV of kernel 1, stride 1 and padding 0, in_act and shift (its bias) being of this instead, scale NULL: x' is the
   * depthwise convolution of x, one output for each input, kernel 3 or 5 and stride 1 or 2 in both axes. */
  const xn_conv* before;             /* or NULL; its output is the input of `conv` */
  const float* before_weight;        /* (num_in, kh, kw) */
} xn_step;

/* Check everything about the steps that does not lie in numbers behind `weight`, `winograd`, `bias`, `scale`, `shift`
 * and `before_weight`: sizes, pointers, the graphs' tables, overlaps, and that every access lies inside its slot, of which
 * there are `num_slots` with `slot_sizes` floats. Once for each list of steps: xn_program_run trusts them.
 */
XN_API int32_t xn_program_check(const xn_step* steps, int32_t num_steps, const int64_t* slot_sizes, int32_t num_slots);

/* Bytes of scratch that the steps need, one after another; -1 if the arguments are wrong. */
XN_API int64_t xn_program_scratch(const xn_step* steps, int32_t num_steps, int32_t num_threads, int32_t isa);

/* Run the steps in order. Slots may change from call to call: inputs and outputs of a network are slots, too. */
XN_API int32_t xn_program_run(const xn_step* steps, int32_t num_steps, float* const* slots, void* scratch,
                              int32_t num_threads, int32_t isa);

#ifdef __cplusplus
}
#endif

#endif
