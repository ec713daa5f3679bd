/* half.h - 16- and 8-bit floating-point formats, exact both ways (round to nearest even towards the narrow one). */
#ifndef DC_BASE_HALF_H
#define DC_BASE_HALF_H
#include <stdint.h>
#include <string.h>

static inline float dc_bits_f32(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
static inline uint32_t dc_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float dc_bf16_to_f32(uint16_t h) { return dc_bits_f32((uint32_t)h << 16); }
uint16_t dc_f32_to_bf16(float f);
float dc_f16_to_f32(uint16_t h);
uint16_t dc_f32_to_f16(float f);
float dc_f8_e4m3_to_f32(uint8_t v); /* the "fn" kind: no infinity, 0x7f and 0xff are NaN */
float dc_f8_e5m2_to_f32(uint8_t v);

#endif
