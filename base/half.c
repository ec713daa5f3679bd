#include "base/half.h"

uint16_t dc_f32_to_bf16(float f)
{
    uint32_t u = dc_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u); /* NaN stays NaN */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

float dc_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
    if (exponent == 31) return dc_bits_f32(sign | 0x7f800000u | (mantissa << 13));
    if (exponent) return dc_bits_f32(sign | ((exponent + 112u) << 23) | (mantissa << 13));
    float tiny = (float)mantissa * 0x1p-24f; /* subnormal, exact */
    return sign ? -tiny : tiny;
}

uint16_t dc_f32_to_f16(float f)
{
    uint32_t u = dc_f32_bits(f), sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | ((a >> 13) & 0x3ffu)); /* NaN */
    if (a >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);                       /* 65536 and above */
    if (a < 0x38800000u) {                                                         /* below the smallest normal: adding 0.5 rounds at 2^-24 */
        uint32_t r = dc_f32_bits(dc_bits_f32(a) + 0.5f) - 0x3f000000u;
        return (uint16_t)(sign | r);
    }
    uint32_t odd = (a >> 13) & 1u;
    return (uint16_t)(sign | ((a - 0x38000000u + 0xfffu + odd) >> 13));
}

float dc_f8_e4m3_to_f32(uint8_t v)
{
    uint32_t sign = (uint32_t)(v & 0x80u) << 24, exponent = (v >> 3) & 15u, mantissa = v & 7u;
    if ((v & 0x7fu) == 0x7fu) return dc_bits_f32(sign | 0x7fc00000u);
    if (exponent) return dc_bits_f32(sign | ((exponent + 120u) << 23) | (mantissa << 20));
    float tiny = (float)mantissa * 0x1p-9f;
    return sign ? -tiny : tiny;
}

float dc_f8_e5m2_to_f32(uint8_t v) { return dc_f16_to_f32((uint16_t)(v << 8)); } /* the upper half of an f16 */
