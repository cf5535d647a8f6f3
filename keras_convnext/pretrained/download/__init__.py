"""Fetch published weight files: verified, cached, safe to interrupt.

`fetch` takes the sources of one checkpoint (a hub repository first, other hosts as fallbacks) and
returns a local file whose bytes have been checked. A file that fails its check is never returned.

A hash that is not known in advance is recorded at first use, once the file could be read, which is
said (`FirstUseNotice`), and compared from then on. A verified file is remembered with its size and
time of modification: while both stay the same it is not read again, and no request is made for it.

Environment variables, all read at the time of the call:

- `KERAS_CONVNEXT_HOME`: our own cache (default `~/.cache/keras_convnext`): `files/` holds what
  came from other hosts, `hub/` hub files that were put there by hand, `hashes.json` the records.
- `KERAS_CONVNEXT_OFFLINE=1`: no request at all, only what is in the caches.
- `KERAS_CONVNEXT_MIRROR=<base url>`: for `Url` sources `<base url>/<filename>` is tried first;
  its bytes are verified like the original's.
- `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN`: as in `huggingface_hub`.
  `HF_HUB_OFFLINE=1` concerns hub files only.
- `HTTP_PROXY`, `HTTPS_PROXY`, `REQUESTS_CA_BUNDLE`: as in `requests`, for `Url` sources.
"""

from keras_convnext.pretrained.download.cache import (
    CacheEntry,
    cache_entries,
    cached,
    clear_cache,
)
from keras_convnext.pretrained.download.failures import (
    DownloadError,
    FirstUseNotice,
    LicenceNotice,
)
from keras_convnext.pretrained.download.fetching import fetch
from keras_convnext.pretrained.download.records import forget, sha256_of
from keras_convnext.pretrained.download.settings import cache_dir
from keras_convnext.pretrained.download.sources import HubFile, Url

__all__ = [
    "CacheEntry",
    "DownloadError",
    "FirstUseNotice",
    "HubFile",
    "LicenceNotice",
    "Url",
    "cache_dir",
    "cache_entries",
    "cached",
    "clear_cache",
    "fetch",
    "forget",
    "sha256_of",
]
