"""The cycle models beside cycles that others measured on chips.

python benchmarks/cycle_model.py SOURCES: folder aes/target of github.com/jnk0le/cortexm-AES
(MIT licence), whose README gives the cycles of one AES block on an STM32F4 without wait states and
on an STM32H7. The functions run on the emulated parts; rows go to results/cycle_model.csv.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from record import append_rows

from etinynet.target.emulator import Machine
from etinynet.target.link import build_firmware
from etinynet.target.parts import Part, get_part
from etinynet.target.profile import model_blocks

__all__ = ["PUBLISHED", "main", "measure"]

#: Part, function, and cycles a block with keys of 128, 192 and 256 bits (10, 12 and 14 rounds).
PUBLISHED = (
    ("stm32f412", "CM3_1T", (669, 793, 917)),
    ("stm32f412", "CM4_DSPsBOX", (884, 1056, 1228)),
    ("stm32h743", "CM7_1T", (302, 358, 414)),
    ("stm32h743", "CM7_DSPsBOX", (411, 491, 571)),
)
#: Time does not depend on the values of the tables, only on where they lie.
_MAIN = """
#include <stdint.h>
#include "board.h"
uint32_t AES_Te2[256] = {1};
uint8_t AES_sbox[256] = {1};
static uint32_t key[64], block[4];
void FUNCTION(void *key, const void *in, void *out, uint32_t rounds);
int main(void)
{
    FUNCTION(key, block, block, ROUNDS);
    return 0;
}
"""


def _row(part: Part, source: str, function: str, rounds: int, published: int) -> dict[str, Any]:
    """Cycles of one call of `function` in the program `source`, modelled and published."""
    firmware = build_firmware({"main.c": source.encode()}, part)
    machine = Machine(part, firmware.image, profile=True)
    symbol = firmware.image.function(function)
    assert symbol is not None
    end = symbol.address + symbol.size
    inside = [b for b in machine.run().blocks if symbol.address <= b.address < end]
    cost = model_blocks(machine, part.cpu, inside)
    return {
        "part": part.name,
        "function": function,
        "rounds": rounds,
        "instructions": cost.instructions,
        "cycles_modelled": cost.cycles,
        "cycles_published": published,
        "error_percent": round(100 * (cost.cycles / published - 1), 1),
    }


def measure(
    sources: Path, part_name: str, form: str, rounds: int, published: int
) -> dict[str, Any]:
    """The row of one AES block."""
    function, part = f"{form}_AES_encrypt", get_part(part_name)
    assembly = (sources / form / f"{function}.S").read_text()
    assembly = re.sub(r"/\*.*?\*/", "", assembly, flags=re.DOTALL)
    # GNU's assembler takes these, the pinned compiler's does not
    assembly = assembly.replace("uxtab.w", "uxtab").replace("ror8", "ror #8")
    lines = [f".cpu {part.cpu.replace('_', '-')}"]  # a firmware is built of C files: text of one
    lines += [line.split("//")[0] for line in assembly.splitlines() if not line.startswith("#")]
    lines += [f".size {function}, .-{function}"]
    quoted = "\n".join(json.dumps(f"{line}\n") for line in lines)
    main = _MAIN.replace("FUNCTION", function).replace("ROUNDS", str(rounds))
    return _row(part, f"{main}\n__asm__({quoted});\n", function, rounds, published)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", type=Path)
    arguments = parser.parse_args()
    rows = [
        measure(arguments.sources, part, form, rounds, cycles)
        for part, form, published in PUBLISHED
        for rounds, cycles in zip((10, 12, 14), published, strict=True)
    ]
    for row in rows:
        print(row)
    append_rows("cycle_model", rows)


if __name__ == "__main__":
    main()
