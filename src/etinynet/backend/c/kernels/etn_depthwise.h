/* SPDX-License-Identifier: MIT */
/* depthwise: convolution of each channel, one output row. etn_depthwise and etn_depthwise_tight do
 * kernel 3, padding 1, stride 1 or 2; etn_depthwise_any does every window, slower.
 *
 * `rows` are three input rows of int8 lines. etn_depthwise wants them padded: channel c at
 * rows[r] + c * line_stride, position 0 the left pad (the value of column x is at x + 1). Read are
 * positions 0 .. stride * width_out + 2 at most, which reaches into the 4 spare bytes that the
 * layout has after the last line. etn_depthwise_tight wants lines of width_in bytes without pads.
 * `residual` is a view of the same shape as `out`, or NULL.
 * `constants->weight`: depthwise bytes of etn_weights.h.
 */
#ifndef ETN_DEPTHWISE_H
#define ETN_DEPTHWISE_H

#include "etn_arithmetic.h"
#include "etn_types.h"
#include "etn_weights.h"

#if ETN_DSP
#include "etn_depthwise_dsp.h"
#else

/* Weights of one channel in order of rows. */
typedef struct {
    int32_t tap[9];
} etn_taps;

ETN_INLINE etn_taps etn_taps_of(const etn_constants *constants, int32_t weight_bits, int32_t c)
{
    etn_taps taps;
    for (int32_t tap = 0; tap < 9; tap++) {
        taps.tap[tap] = etn_depthwise_weight(constants->weight, weight_bits, c, tap);
    }
    return taps;
}

ETN_INLINE void etn_copy_bytes(int8_t *to, const int8_t *from, int32_t bytes)
{
    for (int32_t i = 0; i < bytes; i++) {
        to[i] = from[i];
    }
}

/* One output row of one channel; line[r] is the left pad of input row r. */
ETN_INLINE void etn_depthwise_line(
    const int8_t *line[3], const etn_taps *taps, const etn_channel *channel, etn_rule rule,
    const etn_view *out, const etn_view *residual, int32_t width, int32_t stride, int32_t c)
{
    for (int32_t x = 0; x < width; x++) {
        int32_t accumulator = channel->bias;
        for (int32_t tap = 0; tap < 9; tap++) {
            accumulator += taps->tap[tap] * line[tap / 3][x * stride + tap % 3];
        }
        etn_finish_element(accumulator, channel, rule, out, residual, 0, x, c);
    }
}

#endif

ETN_INLINE void etn_depthwise(
    const int8_t *const rows[3], int32_t line_stride, const etn_view *out,
    const etn_view *residual, int32_t width_out, int32_t channels, int32_t stride,
    int32_t weight_bits, const etn_constants *constants, etn_rule rule)
{
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        const etn_taps taps = etn_taps_of(constants, weight_bits, c);
        const int8_t *line[3] = {rows[0] + c * line_stride, rows[1] + c * line_stride,
                                 rows[2] + c * line_stride};
        etn_depthwise_line(
            line, &taps, &channel, rule, out, residual, width_out, stride, c);
    }
}

/* `sum` and the products of `kernel` taps with the values from column `first` of a line of `width`,
 * or with zero points. */
ETN_INLINE int32_t etn_window_product(
    int32_t sum, const int8_t *taps, const int8_t *line, int32_t width, int32_t first,
    int32_t kernel, int32_t zero_point)
{
    if (line != NULL && first >= 0 && first + kernel <= width) {
        for (int32_t i = 0; i < kernel; i++) {
            sum += taps[i] * line[first + i];
        }
    } else {
        for (int32_t i = 0; i < kernel; i++) {
            const int32_t x = first + i;
            sum += taps[i] * (line != NULL && x >= 0 && x < width ? line[x] : zero_point);
        }
    }
    return sum;
}

/* Any window of up to 7 x 7, on lines without pads, channel c at rows[r] + c * line_stride. A row
 * above or below the picture is NULL or one full of zero_point, which is also read left and right
 * of the picture. */
ETN_INLINE void etn_depthwise_any(
    const int8_t *const rows[], int32_t line_stride, const etn_view *out, const etn_view *residual,
    int32_t width_in, int32_t width_out, int32_t channels, int32_t kernel_height,
    int32_t kernel_width, int32_t stride, int32_t padding, int32_t zero_point,
    int32_t weight_bits, const etn_constants *constants, etn_rule rule)
{
    const int32_t count = kernel_height * kernel_width;
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        int8_t taps[49];
        for (int32_t tap = 0; tap < count; tap++) {
            taps[tap] = (int8_t)etn_depthwise_any_weight(
                constants->weight, weight_bits, count, c, tap);
        }
        for (int32_t x = 0; x < width_out; x++) {
            int32_t accumulator = channel.bias;
            for (int32_t row = 0; row < kernel_height; row++) {
                const int8_t *line = rows[row] != NULL ? rows[row] + c * line_stride : NULL;
                accumulator = etn_window_product(
                    accumulator, taps + row * kernel_width, line, width_in,
                    x * stride - padding, kernel_width, zero_point);
            }
            etn_finish_element(accumulator, &channel, rule, out, residual, 0, x, c);
        }
    }
}

/* Columns of the input that are copied at one time for `most` outputs of a row of width_in: all, or
 * as many words as hold their window. */
#define ETN_TIGHT_SPAN(stride, most, width_out, width_in)                    \
    ((most) < (width_out) ? ((stride) * (most) + 5) / 4 * 4 : (width_in))

/* Bytes of scratch for a line of `span` columns with pads on both sides: 5 bytes before, one of them
 * read, and 3 behind. */
#define ETN_TIGHT_LINE(span) (((span) + 8 + 3) / 4 * 4)

/* The same on lines without pads: outputs `first` .. `first + pixels - 1` of a row of width_out;
 * `out` and `residual` begin at output `first`. A row above or below the picture is NULL.
 *
 * The three lines of a channel are copied to `scratch` between pads before its outputs are
 * written, so that `out` may be one of the rows if its lines have equal bytes. If a row is made in
 * parts of up to `most` outputs, in order, then the row on top alone: the column left of the next
 * part is kept. `scratch`: three lines of ETN_TIGHT_LINE bytes, 4-byte aligned, and if most is below
 * width_out a byte for each channel, kept from part to part; ETN_TIGHT_SPAN is at most width_in. */
ETN_INLINE void etn_depthwise_tight(
    const int8_t *const rows[3], const etn_view *out, const etn_view *residual, int32_t first,
    int32_t pixels, int32_t most, int32_t width_in, int32_t width_out, int32_t channels,
    int32_t stride, int32_t zero_point, int32_t weight_bits, const etn_constants *constants,
    etn_rule rule, void *scratch)
{
    const int32_t span = ETN_TIGHT_SPAN(stride, most, width_out, width_in);
    const int32_t line_bytes = ETN_TIGHT_LINE(span);
    int8_t *lines = (int8_t *)scratch;
    int8_t *column = lines + 3 * line_bytes;
    const int32_t start = first * stride - 1;
    const int32_t from = start < 0 ? 0 : start > width_in - span ? width_in - span : start;
    const int8_t *source[3];
    int32_t step[3];
    for (int32_t i = 0; i < 3 * line_bytes; i++) {
        lines[i] = (int8_t)zero_point;
    }
    for (int32_t r = 0; r < 3; r++) {
        /* for a row that is not there the line is copied to itself */
        source[r] = rows[r] != NULL ? rows[r] + from : lines + r * line_bytes + 5;
        step[r] = rows[r] != NULL ? width_in : 0;
    }
    for (int32_t c = 0; c < channels; c++) {
        const etn_channel channel = etn_channel_of(constants, rule, c);
        const etn_taps taps = etn_taps_of(constants, weight_bits, c);
        /* pixel `from` is at 5 of a line, so that loads from pad 4 on are aligned */
        int8_t *window = lines + 5 + start - from;
        const int8_t *line[3] = {window, window + line_bytes, window + 2 * line_bytes};
        for (int32_t r = 0; r < 3; r++) {
            etn_copy_bytes(lines + r * line_bytes + 5, source[r], span);
            source[r] += step[r];
        }
        if (most < width_out) {
            if (first > 0 && step[0] > 0) {
                window[0] = column[c];
            }
            column[c] = window[pixels * stride];
        }
        etn_depthwise_line(line, &taps, &channel, rule, out, residual, pixels, stride, c);
    }
}

#endif
