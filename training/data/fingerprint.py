"""The fingerprint of a dataset, which a record keeps and a resumed run compares."""

import hashlib


def digest(lines):
    """Returns the SHA-256 of these strings in their order, as 64 hexadecimal digits."""
    content = hashlib.sha256()
    for line in lines:
        content.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return content.hexdigest()


def differences(then, now):
    """Compares two results of `Dataset.fingerprint`.

    Args:
        then: what a record has, as read from JSON.
        now: of the dataset that is there.

    Returns:
        sentences about what differs; an empty list if the data are the same.
    """
    found = []
    if list(then["classes"]) != list(now["classes"]):
        found.append(_of_classes(list(then["classes"]), list(now["classes"])))
    for split in ("train", "validation"):
        before, after = then[split], now[split]
        if before["images"] != after["images"]:
            found.append(
                f"The {split} split had {before['images']} images and has {after['images']}."
            )
        elif before["digest"] != after["digest"]:
            found.append(
                f"The {split} split has as many images as before, but other ones: files were "
                "renamed, moved or changed in size."
            )
    return found


def _of_classes(before, after):
    gone = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    if not gone and not new:
        return "The classes are in another order."
    return f"The classes differ: gone are {gone[:5] or 'none'}, new are {new[:5] or 'none'}."
