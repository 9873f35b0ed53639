/* Runs many generated libraries in turn, each on COUNT pictures from standard input. Records go to
 * standard output: operator (-1: scores), first row or status, rows, bytes as int32, then the bytes.
 * libraries.h lists them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int (*run)(void *arena, const uint8_t *frame, int16_t *scores);
    size_t arena_bytes;
    size_t picture_bytes;
    size_t scores;
    const int32_t *row_bytes;
} library;

#include "libraries.h"

/* Bytes around the arena that no library may touch. */
#define GUARD 64
#define MARK 0xA5

static const library *current;

static void record(int32_t op, int32_t row, int32_t rows, size_t bytes, const void *data)
{
    const int32_t head[4] = {op, row, rows, (int32_t)bytes};
    fwrite(head, sizeof head, 1, stdout);
    fwrite(data, 1, bytes, stdout);
}

void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data);

void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data)
{
    record(op, row, rows, (size_t)(rows * current->row_bytes[op]), data);
}

static int is_marked(const uint8_t *bytes)
{
    int good = 1;
    for (int i = 0; i < GUARD; i++) {
        good &= bytes[i] == MARK;
    }
    return good;
}

/* 0 if the picture could be read. */
static int run_one(void)
{
    const size_t arena_bytes = current->arena_bytes;
    uint8_t *memory = malloc(arena_bytes + 2 * GUARD);
    uint8_t *frame = malloc(current->picture_bytes);
    int16_t *scores = calloc(current->scores, sizeof *scores);
    int failed = memory == NULL || frame == NULL || scores == NULL;
    if (!failed) {
        memset(memory, MARK, arena_bytes + 2 * GUARD);
        failed = fread(frame, 1, current->picture_bytes, stdin) != current->picture_bytes;
    }
    if (!failed) {
        int status = current->run(memory + GUARD, frame, scores);
        if (!is_marked(memory) || !is_marked(memory + GUARD + arena_bytes)) {
            status = 101;
        }
        record(-1, status, 0, current->scores * sizeof *scores, scores);
    }
    free(memory);
    free(frame);
    free(scores);
    return failed;
}

int main(void)
{
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        current = &libraries[i];
        for (int picture = 0; picture < COUNT; picture++) {
            if (run_one()) {
                return 1;
            }
        }
    }
    return 0;
}
