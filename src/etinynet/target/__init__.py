"""Where programs run: reference executor, this computer, emulated microcontrollers."""
