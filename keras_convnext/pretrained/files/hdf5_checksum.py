"""Computes the checksum of HDF5's newer structures: Bob Jenkins' lookup3 (public domain)."""

MASK = 0xFFFFFFFF
MIXING = ((4, 0, 2, 1), (6, 1, 0, 2), (8, 2, 1, 0), (16, 0, 2, 1), (19, 1, 0, 2), (4, 2, 1, 0))
LAST = ((2, 1, 14), (0, 2, 11), (1, 0, 25), (2, 1, 16), (0, 2, 4), (1, 0, 14), (2, 1, 24))


def lookup3(data):
    """Returns the 32-bit hash of some bytes, `hashlittle(data, len(data), 0)` of the original."""
    state = [(0xDEADBEEF + len(data)) & MASK] * 3
    whole = max(0, (len(data) - 1) // 12) * 12
    for start in range(0, whole, 12):
        _add(state, data[start : start + 12])
        _mix(state)
    if len(data) > whole:
        _add(state, data[whole:])
        for target, source, bits in LAST:
            state[target] ^= state[source]
            state[target] = (state[target] - _rotated(state[source], bits)) & MASK
    return state[2]


def _add(state, part):
    part = part.ljust(12, b"\0")
    for number in range(3):
        word = int.from_bytes(part[4 * number : 4 * number + 4], "little")
        state[number] = (state[number] + word) & MASK


def _mix(state):
    for bits, target, source, grown in MIXING:
        state[target] = (state[target] - state[source]) & MASK
        state[target] ^= _rotated(state[source], bits)
        state[source] = (state[source] + state[grown]) & MASK


def _rotated(word, bits):
    return (word << bits | word >> (32 - bits)) & MASK
