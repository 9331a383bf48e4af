#!/usr/bin/env python3
"""Runs the commands of pages that are to be typed, and looks at what they say.

    commands.py --binaries DIRECTORY [--with NEED] [PAGE...]

A block that begins with ```sh is run, all blocks of a page in one shell, in the root of the repository. What is said behind `sh`:

    sh              must end with exit code 0
    sh exit=3       must end with that code
    sh needs=AWS    is only parsed: what it needs is not to be had in a test, unless --with says that it is there
    sh by=TEST      is only parsed: that test runs it

A block ```text after it is what one then sees: each of its lines, with … for anything, must be in the output, in this order.
A comment `<!-- given: NAME -->` brings something about first, as givens.sh says. A block of another kind is not looked at. On every other
page, too, a block that begins with ```sh must be right for a shell, and marked as what is only parsed.

Only the standard library. Exit: 0 all is as the pages say, 1 not.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stage import ROOT, Stage, free_port

# Pages whose commands are run, in this order. Each has the stage for itself.
PAGES = [
    "docs/tutorial.md",
    "docs/runbook.md",
    "docs/message-format.md",
    "docs/statistics-in-plain-words.md",
    "localstack/README.md",
    "README.md",
]

FENCE = re.compile(r"^```(\w*) ?(.*)$")
GIVEN = re.compile(r"^<!-- given: ([a-z-]+) -->$")
# How long one block may take.
PATIENCE = 420


class Block:
    """A block of commands, what must be brought about before, and what is to be seen after."""

    def __init__(self, page, number, words, given):
        self.where = f"{page}:{number}"
        self.options = dict(word.split("=", 1) for word in words)
        self.given = given
        self.lines = []
        self.seen = []

    @property
    def text(self):
        return "\n".join(self.lines) + "\n"

    @property
    def run(self):
        return not {"needs", "by"} & self.options.keys()


def blocks(page, text):
    found, given, inside, kind = [], None, False, ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if inside:
            if line == "```":
                inside = False
            elif kind == "sh":
                found[-1].lines.append(line)
            elif kind == "text" and found:
                found[-1].seen.append(line)
        elif fence:
            inside, kind = True, fence[1]
            if kind == "sh":
                found.append(Block(page, number, fence[2].split(), given))
                given = None
            elif kind in ("console", "bash", "shell"):
                raise SystemExit(f"{page}:{number}: a block of {kind}; expected sh, which is run, or text")
        elif GIVEN.match(line):
            given = GIVEN.match(line)[1]
    return found


def missing(seen, output):
    """The first line of `seen` that is not in the output after the one before."""
    lines = [re.sub(r"\s+", " ", line).strip() for line in output.replace("\r", "\n").splitlines()]
    start = 0
    for line in seen:
        words = re.sub(r"\s+", " ", line).strip()
        if not words or words == "…":
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in words.split("…")))
        for index in range(start, len(lines)):
            if pattern.search(lines[index]):
                start = index + 1
                break
        else:
            return line
    return None


class Page:
    """A page that is played in one shell."""

    def __init__(self, name, binaries, there=()):
        self.name = name
        self.blocks = blocks(name, (ROOT / name).read_text(encoding="utf-8"))
        for block in self.blocks:
            if block.options.get("needs") in there:
                del block.options["needs"]
        self.binaries = binaries
        self.there = there
        self.findings = []

    def parse(self, block):
        checked = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
        if checked.returncode:
            self.findings.append(f"{block.where}: {checked.stderr.strip()}")

    def play(self):
        with tempfile.TemporaryDirectory() as directory:
            stage = Stage(self.binaries, Path(directory))
            # Nothing is built here: `cargo` runs what is there.
            (Path(directory) / "bin").mkdir()
            (Path(directory) / "bin/cargo").symlink_to(ROOT / "docs/tests/cargo")
            stage.environment.update(
                PATH=f"{directory}/bin:{self.binaries}:{os.environ['PATH']}",
                BINARIES=str(self.binaries),
                TMPDIR=directory,
                PAGE_DIRECTORY=directory,
                LOCALSTACK_PORT=os.environ.get("LOCALSTACK_PORT", "4566"),
                FREE_PORT=str(free_port()),
            )
            log = Path(directory) / "shell.out"
            # What is typed comes by a pipe of its own: some commands would read it up, were it their standard input.
            reader, writer = os.pipe()
            with log.open("wb") as output:
                shell = subprocess.Popen(
                    ["bash", "--norc", f"/dev/fd/{reader}"],
                    cwd=ROOT,
                    env=stage.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[reader],
                    start_new_session=True,  # its jobs can be ended with it
                )
                os.close(reader)
                self.keyboard = os.fdopen(writer, "w")
                try:
                    self.type(shell, f". {ROOT / 'docs/tests/givens.sh'}", log)
                    for block in self.blocks:
                        self.parse(block)
                        if block.run and not self.findings:
                            self.run(shell, block, log)
                    self.type(shell, "the_end", log, patience=90)
                    self.keyboard.close()
                    shell.wait(timeout=30)
                finally:
                    if shell.poll() is None:
                        # A command that hangs; nothing may be left running.
                        os.killpg(shell.pid, signal.SIGKILL)

    def type(self, shell, text, log, patience=PATIENCE):
        """Types into the shell; what came out, and the exit code."""
        mark = f"--- {time.monotonic_ns()}"
        before = log.stat().st_size
        self.keyboard.write(f"{text}\n__code=$?; echo; echo '{mark}' $__code\n")
        self.keyboard.flush()
        end = time.monotonic() + patience
        while time.monotonic() < end:
            with log.open("rb") as output:
                output.seek(before)
                said = output.read().decode(errors="replace")
            found = re.search(rf"^{mark} (\d+)$", said, re.MULTILINE)
            if found:
                return said[: found.start()], int(found[1])
            if shell.poll() is not None:
                raise SystemExit(f"{self.name}: the shell has ended:\n{said}")
            time.sleep(0.1)
        raise SystemExit(f"{self.name}: not within {patience} s: {text}\n{said[-3000:]}")

    def run(self, shell, block, log):
        began = time.monotonic()
        if block.given:
            said, code = self.type(shell, f"given_{block.given.replace('-', '_')}", log)
            if code:
                self.findings.append(f"{block.where}: given {block.given}: exit {code}\n{said}")
                return
        said, code = self.type(shell, block.text, log)
        expected = int(block.options.get("exit", 0))
        absent = missing(block.seen, said)
        print(f"{block.where}: exit {code}, {time.monotonic() - began:.0f} s", flush=True)
        if code != expected:
            self.findings.append(f"{block.where}: exit {code}, expected {expected}:\n{block.text}----\n{said[-3000:]}")
        elif absent is not None:
            self.findings.append(f"{block.where}: it does not say {absent!r}:\n{block.text}----\n{said[-3000:]}")


def others():
    """The pages that are not played."""
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [Page(name, None) for name in listed if name not in PAGES]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", required=True, help="directory of worker, canary and embedded-sqs")
    parser.add_argument("--with", action="append", default=[], dest="there", metavar="NEED", help="what is there: blocks that need it are run")
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="PAGE", help="only these")
    arguments = parser.parse_args()
    findings, count, skipped = [], 0, 0
    for page in others():
        for block in page.blocks:
            page.parse(block)
            if block.run:
                page.findings.append(f"{block.where}: this page is not played; expected needs=… or by=…, or the page in PAGES")
        findings += page.findings
        skipped += len(page.blocks)
    for name in arguments.pages:
        page = Page(name, Path(arguments.binaries).resolve(), arguments.there)
        page.play()
        if page.findings:
            # A good release is refused by chance once in a hundred times: that is what the pages say, too.
            print("\n".join([*page.findings, f"{name}: once more"]), flush=True)
            page = Page(name, page.binaries, page.there)
            page.play()
        findings += page.findings
        count += sum(block.run for block in page.blocks)
        skipped += sum(not block.run for block in page.blocks)
    print("\n".join([*findings, f"{count} blocks run, {skipped} only parsed, {len(findings)} findings"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
