/* What every kernel stands on: numbers and their conversions, elementary functions, rows, stores. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define DIMENSIONS 8
#define JOINED_AS_IS(x, y) x##y
#define JOINED(x, y) JOINED_AS_IS(x, y)

/* One call: `extents` of the row axes; for each slot its data and the strides of its row axes, in entries. */
typedef struct {
  int64_t rows, classes, dimensions, threads, streaming, scratch;
  const int64_t *extents;
  void *const *data;
  const int64_t *strides;
  char *workspace;
} call_t;

static inline void locate(const call_t *call, int64_t row, int64_t *at) {
  for (int64_t d = call->dimensions - 1; d > 0; d--) {
    at[d] = row % call->extents[d];
    row /= call->extents[d];
  }
  at[0] = row;
}

static inline int64_t offset(const call_t *call, int slot, const int64_t *at) {
  const int64_t *strides = call->strides + slot * call->dimensions;
  int64_t sum = 0;
  for (int64_t d = 0; d < call->dimensions; d++) sum += at[d] * strides[d];
  return sum;
}

/* Entries from a row to the next one, 0 from the last. */
static inline int64_t step(const call_t *call, int slot, int64_t row) {
  return row + 1 < call->rows ? call->strides[slot * call->dimensions + call->dimensions - 1] : 0;
}

/* Asks for memory that will be read soon. */
static inline void call_for(const void *start, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)start + at, 0, 2);
}

/* A label as an int; what does not fit is beyond any class. */
static inline int whole(int64_t label) { return label > INT32_MAX ? INT32_MAX : label < -1 ? -1 : (int)label; }

static inline char *scratch_of(const call_t *call) {
#ifdef _OPENMP
  return call->workspace + call->scratch * omp_get_thread_num();
#else
  return call->workspace;
#endif
}

/* ------------------------------------------------------------------ bits and half precision */

typedef float f32_t;
typedef double f64_t;
typedef int64_t i64_t;
typedef uint16_t bf16_t;
typedef uint16_t f16_t;
typedef uint8_t bool_t;

static inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

static inline float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

static inline uint64_t bits_of_d(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

/* Bits that have the order of the absolute value; NaN is beyond infinity. */
static inline uint32_t size_of_f(float x) { return bits_of(x) & 0x7fffffffu; }
static inline uint64_t size_of_d(double x) { return bits_of_d(x) & 0x7fffffffffffffffu; }

static inline float load_bf16(bf16_t x) { return float_of((uint32_t)x << 16); }

static inline bf16_t store_bf16(float x) {
  const uint32_t u = bits_of(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return (bf16_t)((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

static inline float load_f16(f16_t x) {
  const uint32_t magnitude = (uint32_t)(x & 0x7fffu) << 13;
  const uint32_t scaled = bits_of(float_of(magnitude) * 0x1p+112f);
  const uint32_t value = magnitude >= 0x0f800000u ? scaled | 0x7f800000u : scaled;
  return float_of(value | (uint32_t)(x & 0x8000u) << 16);
}

static inline f16_t store_f16(float x) {
  const uint32_t u = bits_of(x), magnitude = u & 0x7fffffffu;
  const uint32_t normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t small = bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u;
  const uint32_t finite = magnitude < 0x38800000u ? small : normal;
  const uint32_t huge = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  return (f16_t)((magnitude >= 0x477ff000u ? huge : finite) | ((u >> 16) & 0x8000u));
}

/* 16-bit floats as integers of the same order; NaN is beyond the infinities. */
static inline int16_t order_of(uint16_t x) { return (int16_t)(x ^ (uint16_t)((int16_t)x >> 15 & 0x7fff)); }
#define from_order_bf16(order) load_bf16((bf16_t)order_of((uint16_t)(order)))
#define from_order_f16(order) load_f16((f16_t)order_of((uint16_t)(order)))

#define load_f32(x) ((float)(x))
#define load_f64(x) ((double)(x))
#define load_bool(x) ((int)((x) != 0))
#define load_i64(x) ((int)(x))

/* ------------------------------------------------------------------ elementary functions, single precision */
/* Branch-free, so that loops over them become SIMD code; NaN gives NaN, and infinities what the mathematics gives. */

/* By a mask: the compiler follows a constant 0 into what is worked out from it, a branch that keeps the loop from being SIMD. */
static inline float zero_where(int condition, float x) { return float_of(bits_of(x) & ((uint32_t)condition - 1u)); }

/* exp x = 2^k 2^f with k the nearest integer to x log2 e, below 2^-125 it is 0. */
static inline float exponential_f(float x) {
  const float bounded = x > 89.0f ? 89.0f : x;
  const float shifted = bounded * 1.44269504f + 12583039.0f;
  const float k = shifted - 12583039.0f;
  const float f = bounded * 1.44269504f - k;
  float p = 0.001326472731307149f;
  p = p * f + 0.009671512991189957f;
  p = p * f + 0.05550733581185341f;
  p = p * f + 0.24022242426872253f;
  p = p * f + 0.6931470036506653f;
  p = p * f + 1.0f;
  return zero_where(x < -86.6f, p * float_of(bits_of(shifted) << 23));
}

/* The same for x <= 0. */
static inline float exponential_negative_f(float x) {
  const float shifted = x * 1.44269504f + 12583039.0f;
  const float k = shifted - 12583039.0f;
  const float f = x * 1.44269504f - k;
  float p = 0.001326472731307149f;
  p = p * f + 0.009671512991189957f;
  p = p * f + 0.05550733581185341f;
  p = p * f + 0.24022242426872253f;
  p = p * f + 0.6931470036506653f;
  p = p * f + 1.0f;
  return zero_where(x < -86.6f, p * float_of(bits_of(shifted) << 23));
}

/* The same for -80 <= x <= 0. */
static inline float exponential_bounded_f(float x) {
  const float shifted = x * 1.44269504f + 12583039.0f;
  const float k = shifted - 12583039.0f;
  const float f = x * 1.44269504f - k;
  float p = 0.001326472731307149f;
  p = p * f + 0.009671512991189957f;
  p = p * f + 0.05550733581185341f;
  p = p * f + 0.24022242426872253f;
  p = p * f + 0.6931470036506653f;
  p = p * f + 1.0f;
  return p * float_of(bits_of(shifted) << 23);
}

/* The same to 3e-6 of its value, for exponents that are known to 16 bits; exact at 0. */
static inline float exponential_brief_f(float x) {
  const float shifted = x * 1.44269504f + 12583039.0f;
  const float k = shifted - 12583039.0f;
  const float f = x * 1.44269504f - k;
  float p = 0.009582852944731712f;
  p = p * f + 0.055906426161527634f;
  p = p * f + 0.24024099111557007f;
  p = p * f + 0.6931241750717163f;
  p = p * f + 1.0f;
  return p * float_of(bits_of(shifted) << 23);
}

/* log x = log m + k log 2 with m in [sqrt 1/2, sqrt 2). */
static inline float logarithm_f(float x) {
  const int tiny = x < 0x1p-126f;
  const uint32_t u = bits_of(tiny ? x * 0x1p+32f : x);
  const uint32_t moved = u - 0x3f3504f3u;
  const float k = (float)((int32_t)moved >> 23) - (tiny ? 32.0f : 0.0f);
  const float m = float_of((moved & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  float p = 7.0376836292e-2f;
  p = p * m - 1.1514610310e-1f;
  p = p * m + 1.1676998740e-1f;
  p = p * m - 1.2420140846e-1f;
  p = p * m + 1.4249322787e-1f;
  p = p * m - 1.6668057665e-1f;
  p = p * m + 2.0000714765e-1f;
  p = p * m - 2.4999993993e-1f;
  p = p * m + 3.3333331174e-1f;
  const float square = m * m;
  const float low = p * m * square - k * 2.12194440e-4f - 0.5f * square;
  const float value = m + low + k * 0.693359375f;
  const float special = x == 0.0f ? -INFINITY : x < 0.0f ? NAN : x;
  return x > 0.0f && x < INFINITY ? value : special;
}

/* log(1 + x) = log u + (what u lost) / u with u = 1 + x rounded, without a branch: one keeps a loop from being vectorised. */
static inline float log1p_f(float x) {
  const float u = 1.0f + x;
  const int inside = (u > 0.0f) & (u < INFINITY);
  const float lost = inside ? x - (u - 1.0f) : 0.0f;
  return logarithm_f(u) + lost / (inside ? u : 1.0f);
}

/* The same for x from 0 to 1, and NaN: one polynomial, which gives log 2 at 1. */
static inline float log1p_unit_f(float x) {
  float p = -0.00331847183406353f;
  p = p * x + 0.020204585045576096f;
  p = p * x - 0.05766443535685539f;
  p = p * x + 0.10680554062128067f;
  p = p * x - 0.15355397760868073f;
  p = p * x + 0.19695399701595306f;
  p = p * x - 0.2495858371257782f;
  p = p * x + 0.33330515027046204f;
  p = p * x - 0.49999937415122986f;
  return p * x * x + x;
}

static inline float expm1_f(float x) {
  float p = 1.9841270e-4f;
  p = p * x + 1.3888889e-3f;
  p = p * x + 8.3333333e-3f;
  p = p * x + 4.1666667e-2f;
  p = p * x + 1.6666667e-1f;
  p = p * x + 0.5f;
  const float near = p * x * x + x;
  return x > -0.35f && x < 0.35f ? near : exponential_f(x) - 1.0f;
}

/* From one exponential, exp -|x|, which stands once where both are wanted. */
static inline float sigmoid_f(float x) {
  const float e = exponential_negative_f(-__builtin_fabsf(x));
  return (x > 0.0f ? 1.0f : e) / (1.0f + e);
}

static inline float softplus_f(float x) {
  const float above = x > 0.0f ? x : 0.0f;
  return above + log1p_unit_f(exponential_negative_f(-__builtin_fabsf(x)));
}

static inline float logaddexp_f(float x, float y) {
  const float high = x > y ? x : y, low = x > y ? y : x;
  return high + log1p_unit_f(exponential_negative_f(zero_where(low == high, low - high)));
}

static inline float log1mexp_f(float x) {
  const int near = x > -0.6931472f;
  return near ? logarithm_f(-expm1_f(x)) : log1p_f(-exponential_f(x));
}

static inline float tanh_f(float x) {
  const float e = expm1_f(2.0f * (x > 20.0f ? 20.0f : x));
  return e / (e + 2.0f);
}

static inline float power_f(float x, float y) {
  const float size = exponential_f(y * logarithm_f(__builtin_fabsf(x)));
  const float whole = __builtin_floorf(y), half = 0.5f * y;
  const float sign = whole != y ? NAN : half != __builtin_floorf(half) ? -1.0f : 1.0f;
  const float value = x < 0.0f ? sign * size : size;
  return y == 0.0f || x == 1.0f ? 1.0f : x != x || y != y ? x + y : value;
}

/* ------------------------------------------------------------------ packs */
/* As many classes as a register holds. Loops over regular rows take two at a time: `low` and `high` are consecutive, `even`
 * and `odd` those of 16-bit numbers that share 32 bits, which need no widening. */

#if defined __AVX512F__
#define PACK 64
#elif defined __AVX2__
#define PACK 32
#else
#define PACK 16
#endif
#define LANES (PACK / 4)
#define PAIR (2 * LANES)
#define in_place static inline __attribute__((always_inline))

typedef float pack_t __attribute__((vector_size(PACK)));
typedef uint32_t bits_t __attribute__((vector_size(PACK)));

in_place pack_t load_pack(const float *x) {
  pack_t pack;
  memcpy(&pack, x, PACK);
  return pack;
}

in_place void store_pack(float *x, pack_t pack) { memcpy(x, &pack, PACK); }

/* What is the same for all classes as a pack. */
#define as_pack(x) _Generic((x), pack_t: (x), default: (pack_t){0} + (x))

in_place bits_t load_bits(const uint16_t *x) {
  bits_t bits;
  memcpy(&bits, x, PACK);
  return bits;
}

in_place pack_t widened_bf16(const bf16_t *x) {
#ifdef __AVX512F__
  return (pack_t)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x)), 16);
#else
  bits_t bits;
  for (int i = 0; i < LANES; i++) bits[i] = (uint32_t)x[i] << 16;
  return (pack_t)bits;
#endif
}

in_place pack_t widened_f16(const f16_t *x) {
#ifdef __AVX512F__
  return (pack_t)_mm512_cvtph_ps(_mm256_loadu_si256((const void *)x));
#else
  pack_t pack;
  for (int i = 0; i < LANES; i++) pack[i] = load_f16(x[i]);
  return pack;
#endif
}

#define low_f32(x) load_pack(x)
#define high_f32(x) load_pack((x) + LANES)
#define low_bf16(x) widened_bf16(x)
#define high_bf16(x) widened_bf16((x) + LANES)
#define low_f16(x) widened_f16(x)
#define high_f16(x) widened_f16((x) + LANES)
#define even_bf16(x) ((pack_t)(load_bits(x) << 16))
#define odd_bf16(x) ((pack_t)(load_bits(x) & 0xffff0000u))

in_place void put_low_high(float *block, pack_t low, pack_t high) {
  store_pack(block, low);
  store_pack(block + LANES, high);
}

in_place void put_even_odd(float *block, pack_t even, pack_t odd) {
#ifdef __AVX512F__
  const __m512i first = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
  _mm512_storeu_ps(block, _mm512_permutex2var_ps((__m512)even, first, (__m512)odd));
  _mm512_storeu_ps(block + LANES, _mm512_permutex2var_ps((__m512)even, second, (__m512)odd));
#else
  for (int i = 0; i < LANES; i++) {
    block[2 * i] = even[i];
    block[2 * i + 1] = odd[i];
  }
#endif
}

/* Of `count` classes from `first` on those before the pair of packs that has a label, or this pair. */
static inline int apart_from(int label, int first, int count) {
  const int place = (label < 0 ? 0 : label) - first, pair = count < PAIR ? count : PAIR;
  if (place < 0 || place >= count) return count;
  return place < PAIR ? pair : place - place % PAIR;
}

/* Sums of lanes in double precision. */
typedef double wide_t __attribute__((vector_size(2 * PACK)));
#define widened(pack) __builtin_convertvector(pack, wide_t)

in_place double total(const wide_t *sums) {
  double sum = 0.0;
  for (int i = 0; i < LANES; i++) sum += (*sums)[i];
  return sum;
}

/* exp as for single numbers, of which a pack has no NaN: 2^k is added to the bits of 2^f. */
#define pack_of_exponential(x)                 \
  const pack_t shifted = (x) * 1.44269504f + 12582912.0f; \
  const pack_t k = shifted - 12582912.0f;      \
  const pack_t f = (x) * 1.44269504f - k;

in_place pack_t exponential_bounded_p(pack_t x) {
  pack_of_exponential(x);
  pack_t p = 0.001326472731307149f * f + 0.009671512991189957f;
  p = p * f + 0.05550733581185341f;
  p = p * f + 0.24022242426872253f;
  p = p * f + 0.6931470036506653f;
  p = p * f + 1.0f;
  return (pack_t)((bits_t)p + ((bits_t)shifted << 23));
}

in_place pack_t exponential_brief_p(pack_t x) {
  pack_of_exponential(x);
  pack_t p = 0.009582852944731712f * f + 0.055906426161527634f;
  p = p * f + 0.24024099111557007f;
  p = p * f + 0.6931241750717163f;
  p = p * f + 1.0f;
  return (pack_t)((bits_t)p + ((bits_t)shifted << 23));
}

/* ------------------------------------------------------------------ double precision */

static inline double exponential_d(double x) { return exp(x); }
static inline double exponential_negative_d(double x) { return exp(x); }
static inline double exponential_bounded_d(double x) { return exp(x); }
static inline double exponential_brief_d(double x) { return exp(x); }
static inline double logarithm_d(double x) { return log(x); }
static inline double log1p_d(double x) { return log1p(x); }
static inline double expm1_d(double x) { return expm1(x); }
static inline double sigmoid_d(double x) { return 1.0 / (1.0 + exp(-x)); }
static inline double softplus_d(double x) { return (x > 0.0 ? x : 0.0) + log1p(exp(-fabs(x))) + (x != x ? x : 0.0); }
static inline double logaddexp_d(double x, double y) {
  const double high = x > y ? x : y, low = x > y ? y : x;
  return high + log1p(exp(low == high ? 0.0 : low - high));
}
static inline double log1mexp_d(double x) { return x > -0.6931471805599453 ? log(-expm1(x)) : log1p(-exp(x)); }
static inline double tanh_d(double x) { return tanh(x); }
static inline double power_d(double x, double y) { return pow(x, y); }

static inline double normal_distribution(double x) { return 0.5 * erfc(-x * 0.7071067811865476); }

static inline double inverse_erf(double y) {
  if (!(y > -1.0 && y < 1.0)) return y == 1.0 ? INFINITY : y == -1.0 ? -INFINITY : NAN;
  const double w = log(1.0 - y * y), c = 4.330746750799873 + 0.5 * w;
  double x = copysign(sqrt(sqrt(c * c - w / 0.147) - c), y);
  for (int i = 0; i < 3; i++) {
    const double step = (erf(x) - y) * 0.886226925452758 * exp(x * x);
    x -= step / (1.0 + x * step);
  }
  return x;
}

static inline double digamma_of(double x) {
  if (x <= 0.0 && floor(x) == x) return x == 0.0 ? copysign(INFINITY, -x) : NAN;
  if (x < 0.0) return digamma_of(1.0 - x) - 3.141592653589793 / tan(3.141592653589793 * x);
  double sum = 0.0;
  for (; x < 10.0; x += 1.0) sum -= 1.0 / x;
  const double i = 1.0 / (x * x);
  return sum + log(x) - 0.5 / x - i * (1.0 / 12 - i * (1.0 / 120 - i * (1.0 / 252 - i * (1.0 / 240 - i / 132))));
}

static inline double trigamma_of(double x) {
  if (x <= 0.0) return NAN;
  double sum = 0.0;
  for (; x < 12.0; x += 1.0) sum += 1.0 / (x * x);
  const double i = 1.0 / (x * x);
  return sum + 1.0 / x + i / 2 + i / x * (1.0 / 6 - i * (1.0 / 30 - i * (1.0 / 42 - i * (1.0 / 30 - i * 5 / 66))));
}

static inline double log_normcdf_of(double x) {
  if (x > -1.0) return log1p(-0.5 * erfc(x * 0.7071067811865476));
  if (x > -30.0) return log(0.5 * erfc(-x * 0.7071067811865476));
  const double i = 1.0 / (x * x);
  return -0.5 * x * x - log(-x) - 0.9189385332046727 + log1p(-i * (1.0 - i * (3.0 - i * 15.0)));
}

/* ------------------------------------------------------------------ either precision */

#define of_type(name, x) _Generic((x), float: name##_f, double: name##_d)(x)
#define of_type_or_pack(name, x) _Generic((x), float: name##_f, double: name##_d, pack_t: name##_p)(x)
#define exponential(x) of_type(exponential, x)
#define exponential_negative(x) of_type(exponential_negative, x)
#define exponential_bounded(x) of_type_or_pack(exponential_bounded, x)
#define exponential_brief(x) of_type_or_pack(exponential_brief, x)
#define logarithm(x) of_type(logarithm, x)
#define log_1_plus(x) of_type(log1p, x)
#define exp_minus_1(x) of_type(expm1, x)
#define sigmoid(x) of_type(sigmoid, x)
#define softplus(x) of_type(softplus, x)
#define log_1_minus_exp(x) of_type(log1mexp, x)
#define hyperbolic_tangent(x) of_type(tanh, x)
#define power(x, y) _Generic((x), float: power_f, double: power_d)(x, y)
#define square_root(x) _Generic((x), float: sqrtf, double: sqrt)(x)
#define absolute(x) _Generic((x), float: fabsf, double: fabs)(x)
#define round_down(x) _Generic((x), float: floorf, double: floor)(x)
#define round_up(x) _Generic((x), float: ceilf, double: ceil)(x)
#define round_even(x) _Generic((x), float: rintf, double: rint)(x)
#define size_of(x) of_type(size_of, x)
#define log_base_2(x) _Generic((x), float: logarithm_f(x) * 1.44269504f, double: log2(x))
#define by_double(function, x) ((__typeof__(x))function((double)(x)))
#define by_double_2(function, x, y) ((__typeof__(x))function((double)(x), (double)(y)))

/* Keeps the rounding of a product that a sum would otherwise take in unrounded: `unit` is 1, which no compiler can tell. */
#define rounded(x) ((x) * unit)

/* x * log, and 0 where x is 0 whatever the logarithm is. */
#define weigh(x, log) ((x) == 0 ? (x) * 0 : (x) * (log))
#define larger(x, y) (((x) > (y)) | ((x) != (x)) ? (x) : (y))
#define smaller(x, y) (((x) < (y)) | ((x) != (x)) ? (x) : (y))
#define clipped(x, low, high) ((low) > (high) ? (high) : (x) < (low) ? (low) : (x) > (high) ? (high) : (x))
#define rectified(x) ((x) <= 0 ? 0 : (x))
#define sign_of(x) ((x) != (x) ? (x) : (__typeof__(x))(((x) > 0) - ((x) < 0)))
#define x_log_y(x, y) (((x) == 0) & (((y) <= 0) | ((y) == INFINITY)) ? 0 : (x) * logarithm(y))
#define log_add_exp(x, y) _Generic((x), float: logaddexp_f, double: logaddexp_d)(x, y)

/* ------------------------------------------------------------------ stores */
/* A block of a gradient in the type of its stream; past the caches where the whole of it is larger than they are. */

#ifdef __AVX512F__
static inline size_t until_aligned(const void *target, size_t item) {
  return (size_t)(-(uintptr_t)target & 63) / item;
}
#endif

/* A pair of packs straight to its place, which is past the caches and on a line. */
#ifdef __AVX512F__
#define straight_f32(target) (((uintptr_t)(target) & 63) == 0)
in_place void stream_low_high_f32(float *target, pack_t low, pack_t high) {
  _mm512_stream_ps(target, (__m512)low);
  _mm512_stream_ps(target + LANES, (__m512)high);
}
#else
#define straight_f32(target) 0
#define stream_low_high_f32(target, low, high) ((void)0)
#endif

static inline void put_f32(float *target, const float *source, int64_t count, int64_t streaming) {
#ifdef __AVX512F__
  if (streaming) {
    int64_t i = 0, head = (int64_t)until_aligned(target, sizeof *target);
    for (; i < head && i < count; i++) target[i] = source[i];
    for (; i + 16 <= count; i += 16) _mm512_stream_ps(target + i, _mm512_loadu_ps(source + i));
    for (; i < count; i++) target[i] = source[i];
    return;
  }
#endif
  memcpy(target, source, (size_t)count * sizeof *target);
}

static inline void put_f64(double *target, const double *source, int64_t count, int64_t streaming) {
  (void)streaming;
  memcpy(target, source, (size_t)count * sizeof *target);
}

#ifdef __AVX512BF16__
/* Two packs rounded to bf16, `low` first. */
in_place __m512i rounded_bf16(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

/* Whether that lost subnormal numbers, which this conversion takes for 0. */
in_place int lost_subnormal(__m512i packed, __m512 low, __m512 high) {
  if (_kortestz_mask32_u8(_mm512_testn_epi16_mask(packed, _mm512_set1_epi16(0x7fff)), 0)) return 0;
  return !_kortestz_mask16_u8(_mm512_fpclass_ps_mask(low, 0x20), _mm512_fpclass_ps_mask(high, 0x20));
}
#endif

#ifdef __AVX512BF16__
#define straight_bf16(target) (((uintptr_t)(target) & 63) == 0)
in_place void stream_low_high_bf16(bf16_t *target, pack_t low, pack_t high) {
  const __m512i packed = rounded_bf16((__m512)low, (__m512)high);
  if (lost_subnormal(packed, (__m512)low, (__m512)high)) {
    for (int i = 0; i < LANES; i++) target[i] = store_bf16(low[i]), target[i + LANES] = store_bf16(high[i]);
    return;
  }
  _mm512_stream_si512((void *)target, packed);
}

in_place void stream_even_odd_bf16(bf16_t *target, pack_t even, pack_t odd) {
  const __m512i packed = rounded_bf16((__m512)even, (__m512)odd);
  if (lost_subnormal(packed, (__m512)even, (__m512)odd)) {
    for (int i = 0; i < LANES; i++) target[2 * i] = store_bf16(even[i]), target[2 * i + 1] = store_bf16(odd[i]);
    return;
  }
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                         23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  _mm512_stream_si512((void *)target, _mm512_permutexvar_epi16(order, packed));
}
#else
#define straight_bf16(target) 0
#define stream_low_high_bf16(target, low, high) ((void)0)
#define stream_even_odd_bf16(target, even, odd) ((void)0)
#endif
#define straight_f16(target) 0
#define stream_low_high_f16(target, low, high) ((void)0)

static inline void put_bf16(bf16_t *target, const float *source, int64_t count, int64_t streaming) {
  int64_t i = 0;
#ifdef __AVX512BF16__
  int64_t head = streaming ? (int64_t)until_aligned(target, sizeof *target) : 0;
  for (; i < head && i < count; i++) target[i] = store_bf16(source[i]);
  for (; i + 32 <= count; i += 32) {
    const __m512 low = _mm512_loadu_ps(source + i), high = _mm512_loadu_ps(source + i + 16);
    const __m512i packed = rounded_bf16(low, high);
    if (lost_subnormal(packed, low, high)) {
      for (int64_t j = i; j < i + 32; j++) target[j] = store_bf16(source[j]);
      continue;
    }
    if (streaming) _mm512_stream_si512((void *)(target + i), packed);
    else _mm512_storeu_si512((void *)(target + i), packed);
  }
#endif
  for (; i < count; i++) target[i] = store_bf16(source[i]);
  (void)streaming;
}

static inline void put_f16(f16_t *target, const float *source, int64_t count, int64_t streaming) {
  (void)streaming;
#pragma omp simd
  for (int64_t i = 0; i < count; i++) target[i] = store_f16(source[i]);
}

static inline void finish_stores(void) {
#ifdef __AVX512F__
  _mm_sfence();
#endif
}
