"""What `list` and `info` say of a row of the registry, whatever its task."""

from keras_convnext.pretrained import download, resolve


def where(row):
    """Returns which host has the preferred file of a row, or which repository of the hub."""
    first = row.sources[0]
    return f"hf://{first.repo}" if first.repo else first.url.split("/")[2]


def params(row):
    """Returns the number of parameters of a row, in millions."""
    return f"{row.params / 1e6:.1f}M"


def verified_file(row):
    """Returns where the verified file of the row is, or `None`."""
    sources = (resolve.source_of(source, row) for source in row.sources)
    found = filter(None, map(download.cached, sources))
    return next(map(str, found), None)


def last_facts(row, cached):
    """Yields (field, text) of the licence and the files of a row; `cached` is where its file is."""
    yield "licence", f"{row.licence.name}, {row.licence.url}"
    yield from (("notice", text) for text in _notices(row.licence, row.note))
    yield from (("source", _in_words(source)) for source in row.sources)
    yield "cached", cached or "no"


def _notices(licence, note):
    """Returns what a `Licence` asks to be said, and the note of a row, as a list."""
    words = (licence.notice, licence.remark, note)
    kinds = (
        "non-commercial use only" * licence.non_commercial,
        "gated: its authors ask for a login and the acceptance of the licence" * licence.gated,
    )
    return [text for text in (*kinds, *words) if text]


def _in_words(source):
    place = source.url
    if source.repo:
        revision = f"@{source.revision}" if source.revision else ""
        place = f"hf://{source.repo}{revision}/{source.file}"
    pin = f", sha256 {source.sha256}" if source.sha256 else ", no sha256 published"
    return place + pin + ", without classifier" * (not source.top) + ", gated" * source.gated
