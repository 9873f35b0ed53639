/* Counts executed Thumb instructions: unicorn calls etn_count_block before each block it runs. */
#include <stdint.h>

/* `origin` and `length` give the flash in bytes, `code` its content. The next three arrays have
 * one element for each two bytes of flash: instructions and bytes of the block that begins there,
 * as seen last, and to which counter the code there belongs (0: to its caller's).
 * The last two arrays are absent unless blocks are profiled. They have one row for each counter and
 * in it one element for each two bytes of the first `profiled` of the flash: how often the block
 * that begins there ran, and how often it was left by a jump. `left` is the element of the block
 * that ran last, which ended at `end`; `recut` is set if a block was seen in two lengths. */
typedef struct {
    const uint8_t *code;
    uint32_t origin;
    uint32_t length;
    uint16_t *block_instructions;
    uint16_t *block_bytes;
    const uint16_t *owners;
    uint64_t *counters;
    uint64_t total;
    uint64_t limit;
    int (*stop)(void *engine);
    uint32_t owner;
    uint32_t is_exhausted;
    uint64_t *times;
    uint64_t *jumps;
    uint64_t left;
    uint64_t end;
    uint32_t profiled;
    uint32_t recut;
} etn_counter;

void etn_count_block(void *engine, uint64_t address, uint32_t size, void *user);

/* A Thumb instruction has four bytes if its first half begins with 11101, 11110 or 11111. */
static uint16_t walk(const uint8_t *code, uint32_t size)
{
    uint32_t count = 0;
    for (uint32_t at = 0; at + 2 <= size; count++) {
        at += (code[at + 1] >> 3) >= 0x1d ? 4 : 2;
    }
    return (uint16_t)count;
}

static void profile(etn_counter *counter, uint64_t offset, uint32_t size)
{
    if (counter->end != 0 && counter->end != offset) {
        counter->jumps[counter->left]++;
    }
    counter->end = 0;
    if (offset < counter->profiled) {
        counter->left = (uint64_t)counter->owner * (counter->profiled / 2) + offset / 2;
        counter->times[counter->left]++;
        counter->end = offset + size;
    }
}

void etn_count_block(void *engine, uint64_t address, uint32_t size, void *user)
{
    etn_counter *counter = user;
    const uint64_t offset = address - counter->origin;
    if (address < counter->origin || offset + size > counter->length) {
        return; /* the fetch faults by itself */
    }
    const uint64_t index = offset / 2;
    if (counter->block_bytes[index] != size) {
        counter->recut |= counter->block_bytes[index] != 0;
        counter->block_bytes[index] = (uint16_t)size;
        counter->block_instructions[index] = walk(counter->code + offset, size);
    }
    if (counter->owners[index] != 0) {
        counter->owner = counter->owners[index];
    }
    if (counter->times != 0) {
        profile(counter, offset, size);
    }
    const uint16_t count = counter->block_instructions[index];
    counter->counters[counter->owner] += count;
    counter->total += count;
    if (counter->total > counter->limit && !counter->is_exhausted) {
        counter->is_exhausted = 1;
        counter->stop(engine);
    }
}
