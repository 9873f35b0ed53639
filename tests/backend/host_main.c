/* Runs a generated library on a picture from standard input; records to standard output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include HEADER

static const int32_t row_bytes[] = {ROW_BYTES};
static uint8_t picture[PICTURE_BYTES];
static int32_t next_row;

static void record(int32_t kind, int32_t row, int32_t rows, const void *data, int32_t size)
{
    const int32_t head[4] = {kind, row, rows, size};
    fwrite(head, sizeof head, 1, stdout);
    fwrite(data, 1, (size_t)size, stdout);
}

void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data);

void etn_trace(int32_t op, int32_t row, int32_t rows, const void *data)
{
    record(op, row, rows, data, rows * row_bytes[op]);
}

static int read_row(void *context, int32_t row, uint8_t *rgb)
{
    const int abort_at = *(const int *)context;
    if (row != next_row++) {
        return 99;
    }
    if (abort_at != 0 && row == abort_at - 1) {
        return 7;
    }
    memcpy(rgb, picture + row * ROW_PIXELS, ROW_PIXELS);
    return 0;
}

int main(int argc, char **argv)
{
    /* exactly as large as promised, so that the sanitizer sees a byte too many */
    uint8_t *arena = malloc(ARENA_BYTES);
    int16_t *scores = malloc(2 * SCORES);
    const char *mode = argc > 1 ? argv[1] : "";
    int argument = argc > 2 ? atoi(argv[2]) : 0;
    int status = -2;
    if (arena == NULL || scores == NULL || fread(picture, 1, PICTURE_BYTES, stdin) != PICTURE_BYTES) {
        return 1;
    }
    memset(arena, 0xA5, ARENA_BYTES);
    memset(scores, 0, 2 * SCORES);
    if (strcmp(mode, "rows") == 0) {
        status = RUN(arena, read_row, &argument, scores);
    } else if (strcmp(mode, "frame") == 0) {
        status = RUN_FRAME(arena, picture, scores);
    } else if (strcmp(mode, "misaligned") == 0) {
        status = RUN_FRAME(arena + argument, picture, scores);
    } else if (strcmp(mode, "null") == 0) {
        status = argument == 0   ? RUN(NULL, read_row, &argument, scores)
                 : argument == 1 ? RUN(arena, NULL, &argument, scores)
                 : argument == 2 ? RUN(arena, read_row, &argument, NULL)
                                 : RUN_FRAME(arena, NULL, scores);
    }
    record(-1, status, 0, scores, 2 * SCORES);
    free(arena);
    free(scores);
    return 0;
}
