/* SPDX-License-Identifier: MIT */
/* The board without a debugger: text through a UART at 115200 baud, 8 bits, no parity; a LED.
 *
 * Clocks stay as they are after reset, so that nothing but the registers of board_registers.h is
 * touched; a product will want the PLL and the caches. The picture comes from board_camera_row. */
#include "board.h"
#include "board_camera.h"
#include "board_registers.h"

#define BAUD 115200u

/* Offsets in every GPIO port. */
enum { GPIO_MODER = 0x00, GPIO_AFRH = 0x24, GPIO_BSRR = 0x18, OUTPUT = 1, ALTERNATE = 2 };

static int32_t is_started;

static volatile uint32_t *at(uint32_t address)
{
    return (volatile uint32_t *)(uintptr_t)address;
}

static void enable(uint32_t address, uint32_t bits)
{
    *at(address) |= bits;
    (void)*at(address); /* the clock takes two cycles to arrive */
}

/* Puts `value` into field number `index` of a register of fields of `bits` bits. */
static void set_field(uint32_t address, uint32_t index, uint32_t bits, uint32_t value)
{
    const uint32_t mask = ((1u << bits) - 1u) << (index * bits);
    *at(address) = (*at(address) & ~mask) | value << (index * bits);
}

static void send(char byte)
{
    while ((*at(UART_STATUS) & UART_CAN_SEND) == 0) {
    }
    *at(UART_SEND) = (uint8_t)byte;
}

static void send_text(const char *text)
{
    for (; *text != 0; text++) {
        if (*text == '\n') {
            send('\r');
        }
        send(*text);
    }
}

static void start(void)
{
    if (is_started) {
        return;
    }
    is_started = 1;
    enable(GPIO_CLOCKS, GPIO_CLOCK_BITS);
    enable(UART_CLOCKS, UART_CLOCK_BITS);
    set_field(UART_GPIO + GPIO_AFRH, UART_TX_PIN - 8, 4, UART_FUNCTION);
    set_field(UART_GPIO + GPIO_AFRH, UART_RX_PIN - 8, 4, UART_FUNCTION);
    set_field(UART_GPIO + GPIO_MODER, UART_TX_PIN, 2, ALTERNATE);
    set_field(UART_GPIO + GPIO_MODER, UART_RX_PIN, 2, ALTERNATE);
    set_field(LED_GPIO + GPIO_MODER, LED_PIN, 2, OUTPUT);
    *at(UART_BAUD) = (BOARD_HZ + BAUD / 2) / BAUD;
    *at(UART_CONTROL) = UART_CONTROL_BITS;
    send_text(BOARD_NAME ": running\n");
}

void board_print(const char *text)
{
    start();
    send_text(text);
}

void board_receive(uint8_t *data, int32_t bytes)
{
    for (int32_t i = 0; i < bytes; i++) {
        while ((*at(UART_STATUS) & UART_HAS_BYTE) == 0) {
        }
        data[i] = (uint8_t)*at(UART_RECEIVE);
    }
}

/* A test picture that needs no camera; report.json has the class and checksum it must give. */
__attribute__((weak)) int board_camera_row(int32_t row, uint8_t *rgb, int32_t bytes)
{
    for (int32_t i = 0; i < bytes; i++) {
        rgb[i] = (uint8_t)(((uint32_t)(row * i) >> 4) + 3u * (uint32_t)row);
    }
    return 0;
}

int board_read(uint8_t *rgb, int32_t bytes)
{
    static int32_t row;
    start();
    return board_camera_row(row++, rgb, bytes);
}

static void print_number(uint32_t number, uint32_t base)
{
    char text[11];
    uint32_t first = sizeof text - 1;
    text[first] = 0;
    do {
        text[--first] = "0123456789abcdef"[number % base];
        number /= base;
    } while (number != 0);
    board_print(text + first);
}

/* CRC-32 as in zip, PNG and Python's zlib.crc32. */
static uint32_t checksum(const uint8_t *data, int32_t bytes)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (int32_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int32_t bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1u)));
        }
    }
    return ~crc;
}

/* The class with the largest score, and a checksum of all scores. */
int board_write(const void *data, int32_t bytes)
{
    const int16_t *scores = data;
    const int32_t count = bytes / 2;
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    board_print(BOARD_NAME ": class ");
    print_number((uint32_t)best, 10);
    board_print(" of ");
    print_number((uint32_t)count, 10);
    board_print(scores[best] < 0 ? ", score -" : ", score ");
    print_number((uint32_t)(scores[best] < 0 ? -scores[best] : scores[best]), 10);
    board_print(", checksum ");
    print_number(checksum(data, bytes), 16);
    board_print("\n");
    return 0;
}

static void wait(uint32_t turns)
{
    for (volatile uint32_t i = 0; i < turns; i++) {
    }
}

/* The LED blinks slowly after success, quickly after failure. */
__attribute__((noreturn)) void board_exit(int status)
{
    const uint32_t turns = status == 0 ? BOARD_HZ / 16u : BOARD_HZ / 128u;
    start();
    for (;;) {
        *at(LED_GPIO + GPIO_BSRR) = 1u << LED_PIN;
        wait(turns);
        *at(LED_GPIO + GPIO_BSRR) = 1u << (LED_PIN + 16);
        wait(turns);
    }
}
