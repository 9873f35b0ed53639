/* SPDX-License-Identifier: MIT */
/* Registers of the STM32H743 that startup.c and board_uart.c use, by the names of RM0433. */
#ifndef BOARD_REGISTERS_H
#define BOARD_REGISTERS_H

#define BOARD_NAME "stm32h743"
/* HSI, which drives core and buses after reset. */
#define BOARD_HZ 64000000u

/* UART: USART3 on PD8 (TX) and PD9 (RX), alternate function 7, as the Nucleo-144 board wires them
 * to its ST-LINK. LED: PB14, LD3 of that board, lit by a high level. */
#define UART_TX_PIN 8
#define UART_RX_PIN 9
#define UART_FUNCTION 7u
#define LED_PIN 14

/* What                     Address            Register */
#define GPIO_CLOCKS         0x580244E0u     /* RCC_AHB4ENR */
#define GPIO_CLOCK_BITS     (1u << 1 | 1u << 3) /* GPIOBEN, GPIODEN */
#define UART_CLOCKS         0x580244E8u     /* RCC_APB1LENR */
#define UART_CLOCK_BITS     (1u << 18)      /* USART3EN */
#define UART_GPIO           0x58020C00u     /* GPIOD */
#define LED_GPIO            0x58020400u     /* GPIOB */
#define UART_CONTROL        0x40004800u     /* USART3_CR1 */
#define UART_CONTROL_BITS   (1u << 0 | 1u << 3 | 1u << 2) /* UE, TE, RE */
#define UART_BAUD           0x4000480Cu     /* USART3_BRR */
#define UART_STATUS         0x4000481Cu     /* USART3_ISR */
#define UART_CAN_SEND       (1u << 7)       /* TXE */
#define UART_HAS_BYTE       (1u << 5)       /* RXNE */
#define UART_SEND           0x40004828u     /* USART3_TDR */
#define UART_RECEIVE        0x40004824u     /* USART3_RDR */

/* After power-on the part is in Run* mode, where RAM must not be written and clocks must not be
 * raised. It ends when the supply is configured, which can be done once until the next power-on, and
 * the voltage is valid. LDOEN: VCORE comes from the LDO, as on the Nucleo-144 board and by default; on
 * a board that feeds VCORE from outside it has to be BYPASS, 1u << 0. */
#define POWER_SUPPLY        0x5802480Cu     /* PWR_CR3 */
#define POWER_SUPPLY_BITS   (1u << 1)       /* LDOEN */
#define POWER_STATUS        0x58024804u     /* PWR_CSR1 */
#define POWER_IS_VALID      (1u << 13)      /* ACTVOSRDY */

/* Chips of revision Y may read wrong data from AXI SRAM unless it has one read at a time (ES0392,
 * 2.2.9); later ones lose a little speed by it. */
#define AXI_SRAM_READS      0x51008108u     /* AXI_TARG7_FN_MOD */
#define AXI_SRAM_READS_BITS (1u << 0)       /* READ_ISS_OVERRIDE */

/* SRAM1 to 3 of domain D2, which an arena in several RAMs uses, have no clock after reset. */
#define RAM_CLOCKS          0x580244DCu     /* RCC_AHB2ENR */
#define RAM_CLOCK_BITS      (7u << 29)      /* SRAM1EN, SRAM2EN, SRAM3EN */

/* What start-up owes, in this order. Reading a register back makes sure that it has arrived. */
#define STARTUP(switch_on)                                                                        \
    switch_on(POWER_SUPPLY, POWER_SUPPLY_BITS, POWER_STATUS, POWER_IS_VALID)                      \
    switch_on(AXI_SRAM_READS, AXI_SRAM_READS_BITS, AXI_SRAM_READS, 0)                             \
    switch_on(RAM_CLOCKS, RAM_CLOCK_BITS, RAM_CLOCKS, RAM_CLOCK_BITS)

#endif
