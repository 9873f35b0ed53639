/* SPDX-License-Identifier: MIT */
/* The order of work and the memory of tensors, driven by the tables of the generated source.
 *
 * Internal header of the generated library, included once, after ETN_TENSORS (count of tensors),
 * ETN_WINDOW (most row pointers a kernel takes), ETN_REGIONS (pieces of memory of the arena),
 * ETN_STRIPS (1 if operators work in strips), ETN_WIDE_PLACES and ETN_WIDE_ROWS (1 if 16 bits do
 * not hold every place, or every index of the table of places) are defined.
 *
 * Picture rows are pushed: after each of them the deepest operator that can work does, until none
 * can. The generator has simulated this loop; the places of rows hold for no other.
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

/* Whether an unsigned or signed `field` of `type` holds numbers up to `most`, from `least` on. */
#define ETN_MOST(type, field) (0xFFFFFFFFu >> (32u - 8u * sizeof(((type *)0)->field)))
#define ETN_HOLDS(type, field, most) ((most) <= ETN_MOST(type, field))
#define ETN_HOLDS_SIGNED(type, field, least, most)                           \
    ((most) <= (int32_t)(ETN_MOST(type, field) / 2u) &&                      \
     (least) >= -(int32_t)(ETN_MOST(type, field) / 2u) - 1)

/* Places in the arena are counted in this many bytes. */
#define ETN_PLACE_BYTES 16u
#if ETN_WIDE_PLACES
typedef uint32_t etn_place;
#define ETN_NOWHERE 0xFFFFFFFFu
#else
typedef uint16_t etn_place;
#define ETN_NOWHERE 0xFFFFu
#endif

/* Rows of all tensors together, as they are numbered in the table of places. */
#if ETN_WIDE_ROWS
typedef uint32_t etn_index;
#else
typedef uint16_t etn_index;
#endif

/* Row r of a tensor lies at places[first + r % period]. `start`: bytes before pixel 0; where there
 * are any, rows are filled with `fill` before they are written. */
typedef struct {
    uint32_t row_bytes;
    etn_index first;
    uint16_t period;
    uint16_t height;
    int8_t fill;
    uint8_t start;
} etn_tensor;

/* One call of an operator. `in` points at the starts of the rows of the window (NULL: above or
 * below the picture, where there is no pad row), out and residual at pixel 0 of the first of `rows`
 * rows. In strips, outputs `first` .. `first + pixels - 1` are made. `fill`: the input's zero
 * point. */
typedef struct {
    const int8_t *in[ETN_WINDOW];
    void *out;
    void *residual;
    void *scratch;
    int32_t rows;
    int32_t first;
    int32_t pixels;
    int32_t fill;
} etn_call;

/* An operator: tensors by index (residual -1: none), `rows` rows a call from `kernel` input rows;
 * `window` of these get a pointer. A barrier waits for the complete input. `last` is the last
 * operator that reads the output. `before`: the operator (-1: none) that makes the input in the
 * same call, `strip` of `width` pixels at a time, at place `handed`; that operator has `rows` 0 and
 * the window is its own. `scratch`, `pad` and `handed` are places or ETN_NOWHERE. */
typedef struct {
    void (*run)(const etn_call *call);
    etn_place scratch;
    etn_place pad;
    uint16_t kernel;
    uint16_t rows;
    int16_t input;
    int16_t output;
    int16_t residual;
    int16_t last;
    int16_t before;
    etn_place handed;
    uint16_t width;
    uint8_t strip;
    uint8_t window;
    uint8_t stride;
    uint8_t padding;
    uint8_t barrier;
} etn_operator;

/* What does not change during a run; `arena` has the pieces of memory in order. */
typedef struct {
    const etn_operator *ops;
    const etn_tensor *tensors;
    const etn_place *places;
    const etn_place *regions;
    uint8_t *arena[ETN_REGIONS];
} etn_network;

#ifdef ETN_TRACE
extern void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data);
#endif

static uint8_t *etn_at(const etn_network *net, uint32_t place)
{
    uint8_t *base = net->arena[0];
#if ETN_REGIONS > 1
    for (int32_t i = 1; i < ETN_REGIONS && place >= net->regions[i]; i++) {
        base = net->arena[i] - net->regions[i] * ETN_PLACE_BYTES;
    }
#endif
    return base + place * ETN_PLACE_BYTES;
}

static uint8_t *etn_row(const etn_network *net, const etn_tensor *tensor, int32_t row)
{
    return etn_at(net, net->places[tensor->first + (uint32_t)row % tensor->period]);
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

#if ETN_STRIPS
/* The call in strips: the operator before makes each strip of the input, `op` the outputs. */
static void etn_work_in_strips(const etn_network *net, const etn_operator *op, etn_call *call,
                               int32_t row)
{
    const etn_operator *before = &net->ops[op->before];
    uint8_t *strip = etn_at(net, op->handed);
    void *const scratch = call->scratch;
    void *const out = call->out;
    const int8_t *const top = call->in[0];
    for (int32_t x = 0; x < op->width; x += op->strip) {
        const int32_t left = op->width - x;
        call->first = x;
        call->pixels = left < op->strip ? left : op->strip;
        call->in[0] = top;
        call->out = strip;
        call->scratch = etn_at(net, before->scratch);
        before->run(call);
#ifdef ETN_TRACE
        etn_trace(op->before, row * ((op->width + op->strip - 1) / op->strip) + x / op->strip, 1,
                  strip);
#endif
        call->in[0] = (const int8_t *)strip;
        call->out = out;
        call->scratch = scratch;
        op->run(call);
    }
    (void)row;
}
#endif

/* Make `rows` rows of the output of `op`, the first of them `row`, at `out`. */
static void etn_work(const etn_network *net, const etn_operator *op, int32_t row, int32_t rows,
                     uint8_t *out)
{
    const etn_tensor *in = &net->tensors[op->input];
    const etn_tensor *result = &net->tensors[op->output];
    etn_call call;
    for (int32_t i = 0; i < op->window; i++) {
        const int32_t source = row * op->stride - op->padding + i;
        uint8_t *address = NULL;
        if (source >= 0 && source < in->height) {
            address = etn_row(net, in, source);
        } else if (op->pad != ETN_NOWHERE) {
            address = etn_at(net, op->pad);
            (void)memset(address, in->fill, in->row_bytes);
        } else {
            /* NULL: the kernel knows that the row is not there */
        }
        call.in[i] = (const int8_t *)address;
    }
    if (result->start > 0) {
        (void)memset(out, result->fill, (uint32_t)rows * result->row_bytes);
    }
    call.out = out + result->start;
    call.residual = NULL;
    if (op->residual >= 0) {
        const etn_tensor *shortcut = &net->tensors[op->residual];
        call.residual = etn_row(net, shortcut, row) + shortcut->start;
    }
    call.scratch = etn_at(net, op->scratch != ETN_NOWHERE ? op->scratch : 0);
    call.rows = rows;
    call.fill = in->fill;
#if ETN_STRIPS
    if (op->before >= 0) {
        etn_work_in_strips(net, op, &call, row);
        return;
    }
#endif
    op->run(&call);
}

/* Do all work that has become possible, from operator `position` on; the last of `count`
 * operators writes to `scores`. */
ETN_NOINLINE void etn_push(const etn_network *net, uint16_t *made, int32_t position, int32_t count,
                           int16_t *scores)
{
    while (position >= 0) {
        const etn_operator *op = &net->ops[position];
        const int32_t row = made[op->output];
        const int32_t rows = etn_ready(op, net->tensors, made);
        uint8_t *out = (uint8_t *)scores;
        if (rows == 0) {
            position--;
            continue;
        }
        if (position < count - 1) {
            out = etn_row(net, &net->tensors[op->output], row);
        }
        etn_work(net, op, row, rows, out);
#ifdef ETN_TRACE
        etn_trace(position, row, rows, out);
#endif
        made[op->output] = (uint16_t)(row + rows);
        position = op->last;
    }
}

#endif
