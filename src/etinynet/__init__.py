"""etinynet: real vision networks on 20-dollar microcontrollers and small FPGAs."""
