"""Our docstrings as reStructuredText, which Sphinx reads.

A docstring is made of paragraphs; of code, indented after an empty line; of lists; and of sections,
`Args:`, `Attributes:`, `Fields:`, `Returns:`, `Yields:`, `Raises:` and `Example:`, which is code.
Single backticks mark code.
"""

import re

SECTION = re.compile(r"(Args|Attributes|Fields|Returns|Yields|Raises|Example):$")
ITEM = re.compile(r"([-*]|\d+\.) ")
ENTRY = re.compile(r"([\w*][\w.*, ]*): ?(.*)")
FIELDS = {"Args": "param {}", "Raises": "raises {}", "Returns": "returns", "Yields": "yields"}


def as_rst(lines, links=None):
    """Returns the lines of a docstring as those of reStructuredText.

    Args:
        lines: of the docstring, without the indentation that all of them share.
        links: `{code: full name}` of the code that becomes a link.
    """
    found, links = [], links or {}
    for title, section in _sections(lines):
        if title in ("Args", "Raises"):
            for name, text in _entries(section):
                shown = name.replace("*", r"\*").replace(", ", ",")
                found += _field(FIELDS[title].format(shown), _blocks(text, links))
        elif title in ("Attributes", "Fields"):
            found += [".. rubric:: Attributes", ""]
            for name, text in _entries(section):
                found += _hanging(f"* ``{name}``: ", _blocks(text, links))
            found.append("")
        elif title in ("Returns", "Yields"):
            found += _field(FIELDS[title], _blocks(section, links))
        elif title == "Example":
            found += [".. rubric:: Example", "", *_code(section)]
        else:
            found += _blocks(section, links)
    return found


def example(docstring):
    """Returns the code of the section `Example:` of a docstring, or `None`."""
    found = [lines for title, lines in _sections(docstring.splitlines()) if title == "Example"]
    return "\n".join(found[0]).strip() if found else None


def _sections(lines):
    """Yields (title or None, lines without their indentation)."""
    title, section = None, []
    for line in [*lines, None]:
        ends = line is None or SECTION.match(line) or (title and line and line[0] != " ")
        if not ends:
            section.append(line)
            continue
        if title or any(section):
            yield title, _dedented(section)
        match = line and SECTION.match(line)
        title, section = (match[1], []) if match else (None, [line] if line else [])


def _entries(lines):
    """Yields (name, lines) of the entries of a section."""
    name, text = None, []
    for line in lines:
        match = ENTRY.match(line)
        if match:
            if name:
                yield name, text
            name, text = match[1], [match[2]]
        else:
            text.append(line.strip())  # what is indented further continues the sentence
    if name:
        yield name, text


def _blocks(lines, links):
    """Returns paragraphs on one line each, lists and code."""
    found, paragraph, before = [], [], ""

    def end():
        if paragraph:
            found.extend([_inline(" ".join(paragraph), links), ""])
            paragraph.clear()

    in_code = False
    for line in lines:
        if in_code and (not line or line[0] == " "):
            found.append(line)
            continue
        in_code = line.startswith("    ") and not before and not paragraph
        if in_code:
            found.extend(["::", "", line])
        elif not line:
            end()
        else:
            if ITEM.match(line):
                end()
            paragraph.append(line.strip())
        if found and line and line[0] != " " and found[-1][:1] == " ":
            found.append("")  # code ends where text begins
        before = line
    end()
    return found if not in_code else [*found, ""]


def _code(lines):
    return [".. code-block:: python", "", *(f"    {line}" if line else "" for line in lines), ""]


def _inline(text, links):
    """Returns a paragraph with its code marked, and everything else that RST reads escaped."""
    parts = re.split(r"`([^`]+)`", text)
    bullet = ITEM.match(text)
    for place in range(0, len(parts), 2):
        start = len(bullet[0]) if bullet and not place else 0
        rest = re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", parts[place][start:])
        parts[place] = parts[place][:start] + rest
    for place in range(1, len(parts), 2):
        code, after = parts[place].strip(), parts[place + 1][:1]
        is_link = code in links
        marked = f":py:obj:`{code} <{links[code]}>`" if is_link else f"``{code}``"
        joined = parts[place - 1][-1:].isalnum()
        parts[place] = "\\ " * joined + marked + "\\ " * (after.isalnum() or after == "'")
    return "".join(parts)


def _field(name, lines):
    return [*_hanging(f":{name}: ", lines), ""]


def _hanging(begin, lines):
    """Returns lines of which the first follows `begin`, and the others are indented."""
    lines = lines[:-1] if lines and not lines[-1] else lines
    if not lines:
        return [begin.rstrip()]
    rest = [f"    {line}" if line else "" for line in lines[1:]]
    if lines[0] == "::":
        return [begin.rstrip(), "", "    ::", *rest]
    return [begin + lines[0], *rest]


def _dedented(lines):
    depths = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    depth = min(depths, default=0)
    return [line[depth:] for line in lines]
