"""Names of generated libraries: which are usable, and how any text becomes one.

A name is that of header, functions, macros, sources and CMake target at once, so that it must not
be that of a file, target or library which compilers and build systems look for.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from etinynet.errors import ConfigError
from etinynet.graph.ir import Graph

__all__ = ["check_library_name", "library_name", "name_fault", "usable_name"]

_MOST = 32
_FORM = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_HASH_DIGITS = 8

_C_KEYWORDS = """auto break case char const continue default do double else enum extern float for
goto if inline int long register restrict return short signed sizeof static struct switch typedef
union unsigned void volatile while bool complex imaginary atomic generic noreturn static_assert
thread_local alignas alignof constexpr nullptr typeof typeof_unqual asm"""
_CPP_KEYWORDS = """and and_eq bitand bitor catch char8_t char16_t char32_t class co_await
co_return co_yield compl concept const_cast consteval constinit decltype delete dynamic_cast
explicit export false final friend import module mutable namespace new noexcept not not_eq
operator or or_eq override private protected public reflexpr reinterpret_cast requires static_cast
template this throw true try typeid typename using virtual wchar_t xor xor_eq"""
#: Of C, POSIX, and what glibc, musl, newlib and compilers have beside.
_SYSTEM_HEADERS = """assert complex ctype errno fenv float inttypes iso646 limits locale math
setjmp signal stdalign stdarg stdatomic stdbit stdbool stdckdint stdcountof stddef stddefer stdint
stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype aio aliases alloca ar argp
argz builtins byteswap cet cpio cpuid crypt devctl dirent dlfcn elf endian envlock envz err error
execinfo expat expat_config fastmath fcntl features ffi ffitarget fmtmsg fnmatch fpregdef
fpu_control fstab fts ftw gconv getopt glob gmp gpgrt grp gshadow iconv ieee754 ieeefp ifaddrs
intrin intrin0 jconfig langinfo lastlog libgen libintl link malloc mcheck memory mm3dnow mm_malloc
mntent monetary mqueue msa ndbm netdb newlib nl_types nss obstack paths picolibc poll printf
proc_service process ptrauth pthread pty pwd re_comp reent regdef regex regexp resolv sched search
semaphore sgidefs sgtty shadow spawn stab stdio_ext strings stropts syscall sysexits syslog tar
termio termios thread_db ttyent ucontext ulimit unctrl unistd unwind utime utmp utmpx vadefs
values varargs wait wordexp xlocale xti yvals yvals_core"""
#: What projects for microcontrollers and Windows have on their paths, or in the folder of main.c.
_PROJECT_HEADERS = """app arduino binary can client cmsis_compiler cmsis_gcc cmsis_os config core
croutine deprecated_definitions device direct eeprom event_groups fatfs freertos freertosconfig
hardwareserial hid i2c interrupt io ipaddress keyboard kernel list lwipopts main message_buffer
mouse mpu_wrappers pins_arduino portable portmacro print printable projdefs queue sd semphr serial
server servo share spi stack_macros stream stream_buffer system task timers udp usart usb usbapi
usb_device usb_host variant wifi windows winsock2 wire wiring wprogram wstring zephyr"""
_CMAKE_TARGETS = """all all_build clean default_target depend edit_cache help install
install_local install_strip list_install_components package package_source preinstall
rebuild_cache run_tests test uninstall zero_check experimental nightly continuous"""
#: Of which -lNAME or a CMake target of that name would take the place.
_SYSTEM_LIBRARIES = """m c g s z gcc gcc_s gcc_eh stdc supc util rt dl nsl anl bsd nosys rdimon
ssp atomic quadmath gomp unwind compiler_rt bfd pthread crypt resolv"""
#: Files of the firmware, of the program on the host, and of the folder itself.
_OWN_FILES = """board board_camera board_registers board_semihosting board_uart camera_uart
firmware_main host_main runtime startup trace string kernel_harness"""
_WINDOWS_DEVICES = re.compile(r"con|prn|aux|nul|(com|lpt)[0-9]")
_FAMILIES = re.compile(
    r".*intr(in)?|altivec|amo|opencl.*|arm_.*|avx.*|core_c[ma].*|esp_.*|hexagon_.*|hvx_.*|riscv_.*|sifive_.*|spirvintrin"
    r"|stm32.*|wasm_.*|amxavx.*|cmake_.*|ext4_.*|vecintrin|velintrin.*|movrs_.*|andes_vector"
)
_WORDS = {
    "a keyword of C": _C_KEYWORDS,
    "a keyword of C++": _CPP_KEYWORDS,
    "a header of the system": _SYSTEM_HEADERS,
    "a header or target of many projects": _PROJECT_HEADERS,
    "a target of CMake's own": _CMAKE_TARGETS,
    "a library of the system": _SYSTEM_LIBRARIES,
    "a file of the firmware or of the library": _OWN_FILES,
}
_TAKEN = {word: why for why, words in reversed(_WORDS.items()) for word in words.split()}
#: Letters that are no base letter with marks.
_LETTERS = {
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O",
    "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ħ": "h",
    "Ħ": "H", "\u0131": "i", "ŋ": "ng", "Ŋ": "Ng", "ŧ": "t", "Ŧ": "T", "ĸ": "k", "ə": "e", "Ə": "E",
}  # fmt: skip


def name_fault(name: str) -> str | None:
    """Why `name` cannot be that of a library, in words that follow it; None where it can.

    Upper and lower case are taken for the same, as some file systems do.
    """
    lower = name.lower()
    if not _FORM.fullmatch(name):
        return "is not letters, digits and single _ between them, a letter first"
    if len(name) > _MOST:
        return f"has {len(name)} characters, more than {_MOST}"
    if lower == "etn" or lower.startswith("etn_"):
        return "belongs to the library's own headers"
    if lower.endswith(("_weights", "_classes")):
        return "ends as a file that belongs to another library"
    if lower in _TAKEN:
        return f"is {_TAKEN[lower]}"
    if _WINDOWS_DEVICES.fullmatch(lower) or _FAMILIES.fullmatch(lower):
        return "is a name of the system or of a compiler"
    return None


def check_library_name(name: str, option: str) -> None:
    """Raises ConfigError, naming the command line's `option`, where `name` is not usable."""
    fault = name_fault(name)
    if fault is not None:
        raise ConfigError(f"{option} is {name!r:.60}, which {fault}; another name is allowed")


def library_name(text: str) -> str:
    """A usable name made of `text`, such as the name of a file; `text` itself where it is one.

    Accents are left off, other signs become _, and a name that is taken gets `net_` or `_net`. A
    long one keeps its beginning and ends with eight digits of the SHA-256 of `text`, so that two
    stay two. Raises ConfigError where letters or digits of other alphabets would be lost.
    """
    if name_fault(text) is None:
        return text
    plain = "".join(map(_plain, unicodedata.normalize("NFC", text)))
    if not plain.isascii():
        raise ConfigError(
            f"name {text!r:.60} has letters other than a to z; give the network a name with --name"
        )
    name = "_".join(re.findall(r"[A-Za-z0-9]+", plain))
    if not name:
        raise ConfigError(
            f"name {text!r:.60} has no letters a to z; give the network a name with --name"
        )
    if not name[0].isalpha():
        name = f"net_{name}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    forms = (("", ""), ("net_", ""), ("", "_net"), ("net_", "_net"))
    made = (
        before + _shortened(name, _MOST - len(before + after), digest) + after
        for before, after in forms
    )
    return next(one for one in made if name_fault(one) is None)


def _shortened(name: str, most: int, digest: str) -> str:
    """`name` itself in up to `most` characters, else its beginning and that of `digest`."""
    if len(name) <= most:
        return name
    return f"{name[: most - _HASH_DIGITS - 1].rstrip('_')}_{digest[:_HASH_DIGITS]}"


def _plain(character: str) -> str:
    """`character` in ASCII; itself where that would lose a letter or digit, "_" for other signs."""
    if character in _LETTERS:
        return _LETTERS[character]
    parts = unicodedata.normalize("NFKD", character)
    kept = "".join(one for one in parts if not unicodedata.combining(one))
    if kept.isascii() and kept:
        return kept
    return character if unicodedata.category(character)[0] in "LNM" else "_"


def usable_name(graph: Graph) -> str:
    """The name of `graph`, or another where that is taken: for programs whose name nobody sees."""
    return graph.name if name_fault(graph.name) is None else "unnamed"
