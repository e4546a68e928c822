"""Numbers as people read them."""

GIB = 2**30


def gib(size: float) -> str:
    """Bytes as 23.4 GiB."""
    return f"{size / GIB:,.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:,.0f} MiB"


def short(number: float) -> str:
    """In three digits: 950, 3.46 M, 2.5 B."""
    for unit, each in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= each:
            return f"{number / each:.3g} {unit}"
    return f"{number:.3g}"
