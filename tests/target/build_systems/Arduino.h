// What the sketch uses of Arduino, on the host: text goes to stdout, the first delay ends it.
#ifndef ARDUINO_H
#define ARDUINO_H
#include <cstdint>
#include <cstdio>
#include <cstdlib>

struct Port {
    void begin(long) {}
    void print(const char *text) { std::printf("%s", text); }
    void print(int value) { std::printf("%d", value); }
    void println(int value) { std::printf("%d\n", value); }
};
static Port Serial;
inline void delay(unsigned long) { std::exit(0); }
#endif
