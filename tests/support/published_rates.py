"""Published decode rates that the two-term formula can express, as collected from public pages.

Left out, for want of a fact: rates over several chips or sockets whose number is not said, over
many sequences at once, of models whose size is not said, and of machines whose bandwidth is not.
"""

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Published:
    """A decode of one sequence; bandwidth: of the part measured where it is not the catalog's.

    A source that gives the bandwidth reached instead of tokens per second stands here as one token
    of so many bytes per second: read_bytes / (1 / rate) is that bandwidth.
    """

    device: str
    what: str
    read_bytes: float
    tokens_per_s: float
    source: str
    bandwidth: float | None = None
    size: str = "stated"


def _reached(device: str, what: str, bytes_per_s: float, source: str) -> Published:
    return Published(device, what, bytes_per_s, 1.0, source, size="bandwidth stated")


# Sizes that the sources do not state: those of the files at the time, from memory of the collector.
_R = "recalled"
PUBLISHED = (
    _reached("a100-80gb-sxm", "Llama-2-7B bf16", 1.39731e12, "gptfast"),
    _reached("a100-80gb-sxm", "Llama-2-7B int8", 1.0692e12, "gptfast"),
    _reached("a100-80gb-sxm", "Llama-2-7B int4", 8.6269e11, "gptfast"),
    _reached("a100-80gb-sxm", "Llama-2-70B int8", 1.32258e12, "gptfast"),
    _reached("a100-80gb-sxm", "Llama-2-70B int4", 1.09766e12, "gptfast"),
    Published("rtx-4090", "14B Q4_K_M", 9.0e9, 92.49, "pi5_geer", size=_R),
    Published("rtx-4090", "3B Q4_K_M", 2.02e9, 334.67, "pi5_geer"),
    Published("rtx-5090", "8B Q4_K_M", 5.03e9, 221.7, "cont5090", size=_R),
    Published("rtx-5090", "3B Q4_K_M", 2.02e9, 271.4, "pi5_geer"),
    Published("jetson-orin-nano-super", "8B int4", 4.5e9, 19.14, "orinnano_way", size=_R),
    Published(
        "jetson-orin-nano-super", "8B int4, 68 GB/s", 4.5e9, 14.0, "orinnano_way", 6.8e10, _R
    ),
    Published("m2-ultra", "7B Q8_0", 7.54 * GIB, 79.68, "lcpp_m2u"),
    _reached("m2-ultra", "Gemma 3 4B Q4_0", 3.39e11, "lcpp_m2u"),
    Published("m2-ultra", "14B on M3 Ultra", 9.0e9, 51.85, "pi5_geer", 8.19e11, _R),
    Published("raspberry-pi-5", "3B Q4_K_M, 16 GB", 2.02e9, 4.88, "pi5_geer"),
    Published("raspberry-pi-5", "3B Q4_K_M, 8 GB", 2.02e9, 4.61, "pi5_geer"),
    Published("raspberry-pi-5", "14B Q4_K_M", 9.0e9, 1.2, "pi5_geer", size=_R),
    Published("epyc-turin", "70B f16, 2 sockets", 141e9, 4.31, "lcpp_11744", 8.192e11, _R),
    Published("xeon-6980p", "DeepSeek-R1 Q8_0", 37e9 * 8.5 / 8, 6.6, "ik201", size=_R),
)
