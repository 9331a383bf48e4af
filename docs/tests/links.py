#!/usr/bin/env python3
"""Follows every relative link of the Markdown files: the file must be there and tracked, and the heading too.

    links.py          every tracked *.md file
    links.py --test   that it finds what it is to find

Addresses on the web are not asked. Only the standard library. Exit: 0 all lead somewhere, 1 some do not.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]

FENCE = re.compile(r"^\s*(```|~~~)")
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s*<?(\S+?)>?(?:\s+\"[^\"]*\")?\s*$")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:")


def prose(text):
    """The lines outside code blocks, with their numbers; code spans are emptied."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced and not (line.startswith("    ") and "](" not in line):
            yield number, re.sub(r"`[^`]*`", "``", line)


def anchors(text):
    """The headings of a page as GitHub names them, and explicit anchors."""
    seen, found, fenced = {}, set(), False
    for line in text.splitlines():
        if FENCE.match(line):
            fenced = not fenced
        heading = None if fenced else HEADING.match(line)
        found.update(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", line))
        if heading:
            words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading[2]).lower()
            slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
            count = seen.get(slug, 0)
            seen[slug] = count + 1
            found.add(f"{slug}-{count}" if count else slug)
    return found


def broken(root, pages, tracked):
    """Every link of `pages` that leads nowhere, as a line to show."""
    texts = {}

    def page(path):
        if path not in texts:
            texts[path] = (root / path).read_text(encoding="utf-8")
        return texts[path]

    for name in pages:
        for number, line in prose(page(name)):
            targets = [*LINK.findall(line), *REFERENCE.findall(line)]
            for target in targets:
                if ELSEWHERE.match(target):
                    continue
                path, _, anchor = target.partition("#")
                other = name
                if path:
                    resolved = ((root / name).parent / unquote(path)).resolve()
                    if not resolved.is_relative_to(root):
                        yield f"{name}:{number}: {target} leads out of the repository"
                        continue
                    other = str(resolved.relative_to(root))
                    if other not in tracked and not any(file.startswith(other + "/") for file in tracked):
                        yield f"{name}:{number}: {target}: there is no {other} in the repository"
                        continue
                if anchor and other.endswith(".md") and anchor not in anchors(page(other)):
                    yield f"{name}:{number}: {target}: {other} has no heading #{anchor}"


def self_test():
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory).resolve()
        (root / "docs").mkdir()
        (root / "a.md").write_text(
            "# A [link](b.md)\n\n## Two `words`, here\n\n[ok](docs/b.md#b-x) [ok](#two-words-here) [dir](docs)\n"
            "[gone](c.md) [no heading](docs/b.md#c) ![picture](docs/p.svg) [web](https://example.org/x#y)\n"
            "```\n[in a block](nowhere.md)\n```\n`[in a span](nowhere.md)` [out](../x.md)\n[ref]: d.md\n"
        )
        (root / "docs/b.md").write_text("# B: x\n[back](../a.md#a-link)\n")
        found = list(broken(root, ["a.md", "docs/b.md"], {"a.md", "docs/b.md"}))
    wanted = ["a.md:1: b.md", "a.md:6: c.md", "a.md:6: docs/b.md#c", "a.md:6: docs/p.svg", "a.md:10: ../x.md", "a.md:11: d.md"]
    assert [line.split(": ")[0] + ": " + re.split(r"[: ]", line.split(": ", 1)[1])[0] for line in found] == wanted, found


def main(arguments):
    if arguments == ["--test"]:
        self_test()
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 64
    # Also what is new and not yet committed.
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    tracked = set(subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines())
    tracked = {name for name in tracked if (ROOT / name).exists()}
    pages = sorted(name for name in tracked if name.endswith(".md"))
    lines = list(broken(ROOT, pages, tracked))
    print("\n".join([*lines, f"{len(pages)} pages, {len(lines)} broken links"]))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
