"""The page that shows what a detector finds: pictures, videos and the camera in, boxes out.

A server detects (`falconet serve`), or the browser does (`falconet export --to web`); `site.json` says which. The
files lie in `static`: HTML, a style sheet and ES modules that a browser runs as they are. There is no framework,
because there is little state and few elements, and no step that builds anything, so that what is read is what runs.
"""

from importlib.resources import files

SITE_FILE = "site.json"
"""Says what detects."""

OFFLINE_FILE = "offline-worker.js"
"""Keeps the site for when there is no network; of the browser's site alone."""


def page_files() -> dict[str, bytes]:
    """The content of each file of the page by its name."""
    folder = files("falconet.webpage").joinpath("static")
    return {one.name: one.read_bytes() for one in sorted(folder.iterdir(), key=lambda one: one.name) if one.is_file()}
