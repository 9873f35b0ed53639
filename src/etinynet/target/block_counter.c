/* Counts executed Thumb instructions and follows the stack pointer: unicorn calls etn_count_block
 * before each block it runs. */
#include <stdint.h>

/* The block that begins at two bytes of flash, as seen last, and to which counter the code there
 * belongs (0: to its caller's). `stack`: whether it lowers the stack pointer (1), ends with one that
 * only the run can tell (2). */
typedef struct {
    uint16_t bytes;
    uint16_t instructions;
    uint16_t owner;
    uint16_t stack;
} etn_block;

/* `origin` and `length` give the flash in bytes, `code` its content; `blocks` and `below` have an
 * element for each two bytes of it. `below`: how many bytes the code from there on lowers the stack
 * pointer.
 * `times` and `jumps` are absent unless blocks are profiled. They have one row for each counter and
 * in it one element for each two bytes of the first `profiled` of the flash: how often the block
 * that begins there ran, and how often it was left by a jump. `left` is the element of the block
 * that ran last, which ended at `end`; `recut` is set if a block was seen in two lengths.
 * `inspect` is asked once about each block, fills in `stack` and `below`, and answers other than 0 if
 * the block must not run. `lowest` is the lowest stack pointer so far; `is_open`: the block that ran
 * last has ended with a stack pointer that only the run can tell. */
typedef struct {
    const uint8_t *code;
    uint32_t origin;
    uint32_t length;
    etn_block *blocks;
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
    int (*inspect)(uint32_t address, uint32_t size);
    const uint32_t *below;
    int (*read_register)(void *engine, int32_t number, void *value);
    int32_t stack_pointer;
    uint32_t lowest;
    uint32_t is_open;
} etn_counter;

void etn_count_block(void *engine, uint64_t address, uint32_t size, void *user);
void etn_sample_stack(void *engine, uint64_t address, uint32_t size, void *user);

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

void etn_sample_stack(void *engine, uint64_t address, uint32_t size, void *user)
{
    etn_counter *counter = user;
    uint32_t stack_pointer = 0;
    (void)size;
    counter->read_register(engine, counter->stack_pointer, &stack_pointer);
    stack_pointer -= counter->below[(address - counter->origin) / 2];
    counter->lowest = stack_pointer < counter->lowest ? stack_pointer : counter->lowest;
}

void etn_count_block(void *engine, uint64_t address, uint32_t size, void *user)
{
    etn_counter *counter = user;
    const uint64_t offset = address - counter->origin;
    if (address < counter->origin || offset + size > counter->length) {
        return; /* the fetch faults by itself */
    }
    etn_block *block = &counter->blocks[offset / 2];
    if (block->bytes != size) {
        if (counter->inspect((uint32_t)address, size) != 0) {
            counter->stop(engine);
            return;
        }
        counter->recut |= block->bytes != 0;
        block->bytes = (uint16_t)size;
        block->instructions = walk(counter->code + offset, size);
    }
    if (block->stack | counter->is_open) {
        etn_sample_stack(engine, address, size, user);
        counter->is_open = block->stack & 2;
    }
    if (block->owner != 0) {
        counter->owner = block->owner;
    }
    if (counter->times != 0) {
        profile(counter, offset, size);
    }
    counter->counters[counter->owner] += block->instructions;
    counter->total += block->instructions;
    if (counter->total > counter->limit && !counter->is_exhausted) {
        counter->is_exhausted = 1;
        counter->stop(engine);
    }
}
