/* attention_avx512bf16.c - the attention kernel by pairs of bf16 (flags: levels.cmake). */
#if defined __AVX512BF16__
#define ATTN_LANES 16
#define ATTN_ROWS  8
#define ATTN_PAIRS
#define ATTN_NAME cpu_attn_bf16_avx512
#include "backends/cpu/attention_kernel.h"
#else
typedef int cpu_attn_avx512bf16_unused; /* an empty file is not C */
#endif
