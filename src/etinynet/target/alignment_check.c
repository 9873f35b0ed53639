/* Stops at loads and stores of several words from an address that is not a multiple of 4: the
 * core faults there, unicorn does not. Called before each instruction. */
#include <stdint.h>

/* `code` is the content of the flash from `origin` on; `registers` the emulator's numbers of R0 to
 * R14. `fault_at` becomes the address of the first instruction that faults. */
typedef struct {
    const uint8_t *code;
    uint32_t origin;
    int32_t registers[15];
    int (*read_register)(void *engine, int32_t number, void *value);
    int (*stop)(void *engine);
    uint32_t fault_at;
    uint32_t fault_address;
} etn_alignment;

void etn_check_alignment(void *engine, uint64_t address, uint32_t size, void *user);

/* Whether an instruction is LDM, STM, LDRD or STRD: encodings of the Armv7-M manual, A5.2 and A5.3. */
static int is_of_words(uint32_t half, uint32_t size)
{
    if (size == 2) {
        return (half & 0xF000u) == 0xC000u;
    }
    return (half & 0xFE40u) == 0xE800u || ((half & 0xFE40u) == 0xE840u && (half & 0x0120u) != 0);
}

void etn_check_alignment(void *engine, uint64_t address, uint32_t size, void *user)
{
    etn_alignment *check = user;
    const uint8_t *code = check->code + (address - check->origin);
    const uint32_t half = (uint32_t)code[0] | (uint32_t)code[1] << 8;
    if (!is_of_words(half, size) || check->fault_at != 0) {
        return;
    }
    const uint32_t base = size == 2 ? half >> 8 & 7 : half & 15;
    uint32_t value = 0;
    if (base == 13 || base == 15) {
        return; /* always aligned */
    }
    check->read_register(engine, check->registers[base], &value);
    if (value % 4 != 0) {
        check->fault_at = (uint32_t)address;
        check->fault_address = value;
        check->stop(engine);
    }
}
