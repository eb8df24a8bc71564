// Rearrangements of bytes: nearest upsampling of a row and transposition.
#include "include/CKernels.h"

void ck_repeat_pixels(const void *x, void *y, int64_t width, int64_t pixel_bytes) {
    for (int64_t i = 0; i < width; i++) {
        const char *pixel = (const char *)x + i * pixel_bytes;
        __builtin_memcpy((char *)y + 2 * i * pixel_bytes, pixel, (size_t)pixel_bytes);
        __builtin_memcpy((char *)y + (2 * i + 1) * pixel_bytes, pixel, (size_t)pixel_bytes);
    }
}

#define CK_GATHER(type)                                                                 \
    do {                                                                                \
        const type *from = (const type *)x + start;                                     \
        type *to = (type *)y + row * length;                                            \
        for (int64_t i = 0; i < length; i++) to[i] = from[i * step];                    \
    } while (0)

void ck_permute(
    int64_t element_bytes, const void *x, void *y, int32_t rank, const int64_t *shape, const int64_t *strides,
    int64_t lo, int64_t hi) {
    int64_t length = shape[rank - 1], step = strides[rank - 1], index[8] = {0};
    int64_t start = 0;
    for (int64_t axis = rank - 2, rest = lo; axis >= 0; axis--) {
        index[axis] = rest % shape[axis];
        rest /= shape[axis];
        start += index[axis] * strides[axis];
    }
    for (int64_t row = lo; row < hi; row++) {
        if (step == 1)
            __builtin_memcpy(
                (char *)y + row * length * element_bytes, (const char *)x + start * element_bytes,
                (size_t)(length * element_bytes));
        else if (element_bytes == 4) CK_GATHER(uint32_t);
        else if (element_bytes == 2) CK_GATHER(uint16_t);
        else if (element_bytes == 8) CK_GATHER(uint64_t);
        else CK_GATHER(uint8_t);
        for (int32_t axis = rank - 2; axis >= 0; axis--) {
            start += strides[axis];
            if (++index[axis] < shape[axis]) break;
            start -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
}
