/* The order of work and the memory of tensors, driven by the tables of the generated source.
 *
 * Internal header of the generated library, included once, after ETN_TENSORS (count of tensors)
 * and ETN_WINDOW (most row pointers a kernel takes) are defined.
 *
 * Picture rows are pushed: after each of them the deepest operator that can work does, until none
 * can. The generator has simulated this loop; ring sizes and arena offsets hold for no other.
 */
#ifndef ETN_SCHEDULE_H
#define ETN_SCHEDULE_H

#include "etn_types.h"

#if defined(__GNUC__)
#define ETN_NOINLINE static __attribute__((noinline))
typedef uint32_t __attribute__((may_alias)) etn_word; /* a word of memory of any type */
#else
#define ETN_NOINLINE static
typedef uint32_t etn_word;
#endif

/* Fails to compile where `condition` is false: the static assertion of C99. */
#define ETN_ASSERT(name, condition) typedef char etn_assert_##name[(condition) ? 1 : -1]

/* Row r of a tensor lies at offset + (r + phase) % ring * row_bytes of the arena. `start`: bytes
 * before pixel 0; where there are any, rows are filled with `fill` before they are written. */
typedef struct {
    uint32_t offset;
    uint32_t row_bytes;
    uint16_t height;
    uint16_t ring;
    uint16_t phase;
    int8_t fill;
    uint8_t start;
} etn_tensor;

/* One call of an operator. `in` points at the starts of the rows of the window, out and residual
 * at pixel 0 of the first of `rows` rows. */
typedef struct {
    const int8_t *in[ETN_WINDOW];
    void *out;
    void *residual;
    void *scratch;
    int32_t rows;
} etn_call;

/* An operator: tensors by index (residual -1: none), `rows` rows a call from `kernel` input rows;
 * `window` of these get a pointer. A barrier waits for the complete input. `last` is the last
 * operator that reads the output. */
typedef struct {
    void (*run)(const etn_call *call);
    uint32_t scratch;
    uint32_t pad;
    int16_t input;
    int16_t output;
    int16_t residual;
    int16_t last;
    uint16_t kernel;
    uint16_t rows;
    uint8_t window;
    uint8_t stride;
    uint8_t padding;
    uint8_t barrier;
} etn_operator;

#ifdef ETN_TRACE
extern void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data);
#endif

static uint8_t *etn_row(uint8_t *arena, const etn_tensor *tensor, int32_t row)
{
    const uint32_t slot = ((uint32_t)row + tensor->phase) % tensor->ring;
    return arena + tensor->offset + slot * tensor->row_bytes;
}

/* Rows that the next call of `op` makes; 0 where something is missing or all is done. */
static int32_t etn_ready(const etn_operator *op, const etn_tensor *tensors, const uint16_t *made)
{
    const int32_t in_height = tensors[op->input].height;
    const int32_t row = made[op->output];
    const int32_t left = tensors[op->output].height - row;
    const int32_t rows = op->rows < left ? op->rows : left;
    int32_t needed = (row + rows - 1) * op->stride - op->padding + op->kernel;
    if (op->barrier || needed > in_height) {
        needed = in_height;
    }
    if (made[op->input] < needed || (op->residual >= 0 && made[op->residual] < row + rows)) {
        return 0;
    }
    return rows;
}

/* Make `rows` rows of the output of `op`, the first of them `row`, at `out`. */
static void etn_work(uint8_t *arena, const etn_operator *op, const etn_tensor *tensors,
                     int32_t row, int32_t rows, uint8_t *out)
{
    const etn_tensor *in = &tensors[op->input];
    const etn_tensor *result = &tensors[op->output];
    etn_call call;
    for (int32_t i = 0; i < op->window; i++) {
        const int32_t source = row * op->stride - op->padding + i;
        uint8_t *address = arena + op->pad;
        if (source >= 0 && source < in->height) {
            address = etn_row(arena, in, source);
        } else {
            memset(address, in->fill, in->row_bytes);
        }
        call.in[i] = (const int8_t *)address;
    }
    if (result->start > 0) {
        memset(out, result->fill, (uint32_t)rows * result->row_bytes);
    }
    call.out = out + result->start;
    call.residual = NULL;
    if (op->residual >= 0) {
        const etn_tensor *shortcut = &tensors[op->residual];
        call.residual = etn_row(arena, shortcut, row) + shortcut->start;
    }
    call.scratch = arena + op->scratch;
    call.rows = rows;
    op->run(&call);
}

/* Do all work that has become possible, from operator `position` on; the last of `count`
 * operators writes to `scores`. */
ETN_NOINLINE void etn_push(uint8_t *arena, const etn_operator *ops, const etn_tensor *tensors,
                           uint16_t *made, int32_t position, int32_t count, int16_t *scores)
{
    while (position >= 0) {
        const etn_operator *op = &ops[position];
        const int32_t row = made[op->output];
        const int32_t rows = etn_ready(op, tensors, made);
        uint8_t *out = (uint8_t *)scores;
        if (rows == 0) {
            position--;
            continue;
        }
        if (position < count - 1) {
            out = etn_row(arena, &tensors[op->output], row);
        }
        etn_work(arena, op, tensors, row, rows, out);
#ifdef ETN_TRACE
        etn_trace(position, row, rows, out);
#endif
        made[op->output] = (uint16_t)(row + rows);
        position = op->last;
    }
}

#endif
