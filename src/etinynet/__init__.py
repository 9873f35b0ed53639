"""etinynet: real vision networks on 20-dollar microcontrollers and small FPGAs."""

from etinynet.threads import wait_passively

__all__ = ["wait_passively"]

wait_passively()
