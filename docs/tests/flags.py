#!/usr/bin/env python3
"""Asks the programs themselves whether they know every subcommand and flag that the documentation names.

    flags.py --binaries DIRECTORY

Looked at is code alone, in blocks and in lines, of every tracked Markdown file: `canary`, `worker` and `embedded-sqs`, also by `cargo run --bin …`,
with what they say to --help; and a flag that stands for itself, as `--watch`, must be one of some program of this project.

Only the standard library. Exit: 0 all are known, 1 not.
"""

import argparse
import functools
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("canary", "worker", "embedded-sqs")
# Programs that say their flags in words of their own.
SCRIPTS = ("localstack/start", "localstack/demo", "localstack/orders.py", "deploy/deploy.sh", "deploy/verify-on-aws.sh")
# Flags of other programs that the pages name by themselves: Compose, Docker, Cargo, render.py, start_test.sh.
OTHERS = {"--scale", "--build-arg", "--features", "--parameter", "--slow"}

FENCE = re.compile(r"^\s*```(\w*)")
SPAN = re.compile(r"(`+)(.+?)\1")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
SUBCOMMAND = re.compile(r"^  ([a-z][a-z-]*)(?:  |$)", re.MULTILINE)
SEPARATOR = re.compile(r"[|;&()]|\s#\s|\\$")


def code(text):
    """Lines of blocks, and spans within lines: (number, text, whether it is a block that is run)."""
    kind = None
    lines = text.splitlines()
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        fence = FENCE.match(line)
        if kind is None and fence:
            kind = fence[1]
        elif kind is not None:
            if line.strip() == "```":
                kind = None
            elif kind not in ("toml", "json", "rust", "promql", "mermaid"):
                at = number
                while line.endswith("\\") and number < len(lines):
                    line = line[:-1] + lines[number]
                    number += 1
                yield at, line, kind == "sh"
        elif line.startswith("    "):
            yield number, line, False
        else:
            for _, span in SPAN.findall(line):
                yield number, span, False


class Programs:
    """What the programs know."""

    def __init__(self, binaries):
        self.binaries = binaries

    @functools.cache
    def help(self, *command):
        path = self.binaries / command[0] if command[0] in PROGRAMS else ROOT / command[0]
        done = subprocess.run([path, *command[1:], "--help"], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} --help: exit {done.returncode}: {done.stderr}")
        return done.stdout

    def flags(self, *command):
        return set(FLAG.findall(self.help(*command))) | {"--help", "--version"}

    def subcommands(self, *command):
        listed = self.help(*command).partition("\nCommands:\n")[2].partition("\n\n")[0]
        return set(SUBCOMMAND.findall(listed))

    def all(self):
        known = set()
        for program in PROGRAMS:
            known |= self.flags(program)
            for first in self.subcommands(program) - {"help"}:
                known |= self.flags(program, first)
                for second in self.subcommands(program, first) - {"help"}:
                    known |= self.flags(program, first, second)
        for script in SCRIPTS:
            known |= self.flags(script)
        return known

    def faults(self, words, is_run):
        """What is wrong with a command, `words` from the program's name on."""
        command, rest = [words[0]], words[1:]
        known = self.subcommands(*command)
        while known and rest and re.fullmatch(r"[a-z-]+", rest[0]) and not rest[0].startswith("-"):
            if rest[0] not in known:
                if is_run or any(word.startswith("--") for word in rest):
                    yield f"{' '.join(command)} has no command {rest[0]}"
                return
            command.append(rest.pop(0))
            known = self.subcommands(*command)
        flags = self.flags(*command)
        for word in rest:
            if word == "--":
                return
            if FLAG.fullmatch(word.split("=")[0]) and word.split("=")[0] not in flags:
                yield f"{' '.join(command)} has no flag {word}"


def commands(text):
    """The commands of PROGRAMS in a piece of code, as words."""
    # What is quoted is one word, whatever is in it; brackets only say that something may be left out.
    plain = re.sub(r"\"[^\"]*\"|'[^']*'", "QUOTED", text).replace("[", " ").replace("]", " ")
    for part in SEPARATOR.split(plain):
        words = part.split()
        for index, word in enumerate(words):
            name = word.rsplit("/", 1)[-1]
            before = words[index - 1] if index else ""
            if "cargo" in words[:index] and not {"run", "--example"} & set(words) == {"run"}:
                break
            if name in PROGRAMS and before in ("--bin", "-p", "--package") and "--" in words[index:]:
                yield [name, *words[words.index("--", index) + 1 :]]
                break
            starts = index == 0 or all("=" in earlier for earlier in words[:index]) or before in ("exec", "fleet", "$", "timeout")
            if name in PROGRAMS and starts:
                yield [name, *words[index + 1 :]]
                break


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", required=True, type=Path, help="directory of canary, worker and embedded-sqs")
    programs = Programs(parser.parse_args().binaries.resolve())
    known = programs.all() | OTHERS
    findings, count = [], 0
    files = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for file in files:
        for number, text, is_run in code((ROOT / file).read_text(encoding="utf-8")):
            for words in commands(text):
                count += 1
                findings += [f"{file}:{number}: {fault}" for fault in programs.faults(words, is_run)]
            alone = re.match(r"--[a-z][a-z0-9-]*", text)
            if alone and alone[0] not in known:
                findings.append(f"{file}:{number}: no program here has the flag {alone[0]}")
    if count < 100:
        findings.append(f"only {count} commands were found in {len(files)} pages: are they still written so?")
    print("\n".join([*findings, f"{count} commands in {len(files)} pages, {len(findings)} findings"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
