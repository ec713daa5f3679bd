/* attention.cu - k_attention. */
#include "backends/cuda/views.h"

bool k_attention_takes(const k_attention_args *) { return false; }
dc_status k_attention(gpu *, const void *) { return DC_INTERNAL; }
