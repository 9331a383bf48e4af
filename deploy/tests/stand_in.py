#!/usr/bin/env python3
"""Stands in for a program that buildspecs call: `stand_in.py PROGRAM ARGUMENT...`, for buildspecs.py.

It notes the call in the file STAND_IN_CALLS, fails when the regular expression STAND_IN_FAILS matches it, and answers otherwise as the
program would: `aws`, `curl`, `docker` and `pyenv`, as far as buildspecs use them, and the release tool, `canary`. Where STAND_IN_STAYS is
set, a rollout stays until it gets SIGTERM, and notes that.
"""

import hashlib
import json
import os
import re
import signal
import sys
from pathlib import Path

PROGRAMS = ("aws", "canary", "curl", "docker", "pyenv")
STAYS = 20  # seconds at most


def digest(*parts):
    """What a registry calls the image that was made of these."""
    return "sha256:" + hashlib.sha256("|".join(parts).encode()).hexdigest()


def note(**call):
    with open(os.environ["STAND_IN_CALLS"], "a") as calls:
        calls.write(json.dumps(call) + "\n")


def stand_in(program, arguments):
    call = {"program": program, "arguments": arguments}
    if program == "docker" and arguments[:1] == ["login"]:
        call["password"] = sys.stdin.read().strip()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # who reads the note may send it
    note(**call)
    if re.search(os.environ.get("STAND_IN_FAILS") or "(?!)", " ".join([program, *arguments])):
        print(f"{program}: fails, as the test wants it", file=sys.stderr)
        return 1
    if program == "aws":
        print("the password")
    elif program == "curl":
        print(':>"$HOME/rustup-ran"; mkdir -p "$HOME/.cargo"; :>"$HOME/.cargo/env"')
    elif program == "docker":
        return docker(arguments)
    elif program == "canary":
        return canary(arguments, Path())
    return 0


def docker(arguments):
    option = {name: value for name, value in zip(arguments, arguments[1:]) if name.startswith("--")}
    match arguments:
        case ["buildx", "build", *_, context]:
            if not Path(context, option["--file"]).is_file():
                print(f"no Dockerfile {option['--file']}", file=sys.stderr)
                return 1
            made = digest(option["--file"], os.environ["STAND_IN_MACHINE"])
            Path(option["--metadata-file"]).write_text(json.dumps({"containerimage.digest": made}))
            print("what the build says must not get into the digest")
        case ["buildx", "imagetools", "create", *_]:
            print("what the registry says must not get into the digest")
        case ["buildx", "imagetools", "inspect", image, "--format", "{{ json .Manifest }}"]:
            print(json.dumps({"schemaVersion": 2, "digest": digest("index", image)}))
        case ["buildx", "imagetools", "inspect", image, "--format", template] if re.match(r"{{ ?\.Manifest", template):
            # The real one prints its table for whatever begins with the manifest: seen of 0.13, known of those after it.
            print(f"Name:      {image}\nDigest:    {digest('index', image)}")
        case ["buildx", "imagetools", "inspect", _, "--format", "{{ json .SBOM }}"]:
            print('{"SPDX": {"name": "worker"}}')
        case ["run", *_]:
            return canary(arguments[arguments.index(os.environ["CANARY_IMAGE"]) + 1 :], Path(option["--volume"].rsplit(":", 1)[0]))
    return 0


def canary(command, report):
    if command[0] == "rollout":
        if os.environ.get("STAND_IN_STAYS"):
            note(program="canary", arguments=[], stopped=signal.sigtimedwait({signal.SIGTERM}, STAYS) is not None)
        return int(os.environ["STAND_IN_VERDICT"])
    if "--html" in command:
        (report / command[command.index("--html") + 1]).write_text("<html>")
    print("{}" if "--json" in command else "a summary")
    return 0


if __name__ == "__main__":
    sys.exit(stand_in(sys.argv[1], sys.argv[2:]))
