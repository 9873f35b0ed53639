/* SPDX-License-Identifier: MIT */
/* Registers of the STM32F746 that board_uart.c uses, by the names of RM0385. */
#ifndef BOARD_REGISTERS_H
#define BOARD_REGISTERS_H

#define BOARD_NAME "stm32f746"
/* HSI, which drives core and buses after reset. */
#define BOARD_HZ 16000000u

/* UART: USART3 on PD8 (TX) and PD9 (RX), alternate function 7, as the Nucleo-144 board wires them
 * to its ST-LINK. LED: PB14, LD3 of that board, lit by a high level. */
#define UART_TX_PIN 8
#define UART_RX_PIN 9
#define UART_FUNCTION 7u
#define LED_PIN 14

/* What                     Address            Register */
#define GPIO_CLOCKS         0x40023830u     /* RCC_AHB1ENR */
#define GPIO_CLOCK_BITS     (1u << 1 | 1u << 3) /* GPIOBEN, GPIODEN */
#define UART_CLOCKS         0x40023840u     /* RCC_APB1ENR */
#define UART_CLOCK_BITS     (1u << 18)      /* USART3EN */
#define UART_GPIO           0x40020C00u     /* GPIOD */
#define LED_GPIO            0x40020400u     /* GPIOB */
#define UART_CONTROL        0x40004800u     /* USART3_CR1 */
#define UART_CONTROL_BITS   (1u << 0 | 1u << 3 | 1u << 2) /* UE, TE, RE */
#define UART_BAUD           0x4000480Cu     /* USART3_BRR */
#define UART_STATUS         0x4000481Cu     /* USART3_ISR */
#define UART_CAN_SEND       (1u << 7)       /* TXE */
#define UART_HAS_BYTE       (1u << 5)       /* RXNE */
#define UART_SEND           0x40004828u     /* USART3_TDR */
#define UART_RECEIVE        0x40004824u     /* USART3_RDR */

#endif
