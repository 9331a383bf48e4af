#!/usr/bin/env python3
"""Checks that the binaries and the tests are built of one AWS SDK: `cargo run --bin NAME` from the workspace's root, then `cargo test
--workspace`, must not compile it twice, which takes minutes.

Cargo compiles a crate anew for every other set of features of it or of what it depends on, so it compares both plans of cargo, crate by crate
with all that is below. Feature `as-tested` of the crate `canary` keeps them alike. Exit: 0 alike, 1 not.
"""

import functools
import json
import os
import subprocess
import sys


def crates(*command):
    """What cargo would compile of registries: by a key that differs when a crate has to be compiled anew, its name."""
    # The plan is shown by unstable cargo only; the plan itself is the stable one's.
    environment = {**os.environ, "RUSTC_BOOTSTRAP": "1"}
    command = ["cargo", *command, "--locked", "-Z", "unstable-options", "--unit-graph"]
    units = json.loads(subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout)["units"]

    @functools.cache
    def key(index):
        unit = units[index]
        profile = {name: value for name, value in unit["profile"].items() if name != "name"}
        below = sorted((each["extern_crate_name"], key(each["index"])) for each in unit["dependencies"])
        return hash((unit["pkg_id"], unit["mode"], str(unit["target"]), str(sorted(unit["features"])), str(profile), str(below)))

    return {key(index): unit["pkg_id"].rsplit("#", 1)[1] for index, unit in enumerate(units) if "registry+" in unit["pkg_id"]}


def main():
    tests, twice = crates("test", "--workspace", "--no-run"), set()
    for binary in ("canary", "worker"):
        built = crates("build", "--bin", binary)
        anew = {name for key, name in built.items() if key not in tests}
        print(f"{binary}: {len(built)} crates, {len(anew)} of them other than in tests: {' '.join(sorted(anew))}")
        twice |= {name for name in anew if name.startswith(("aws-", "tokio@", "hyper"))}
    if twice:
        print(f"compiled once for the binaries and once more for the tests: {' '.join(sorted(twice))}")
        print("see the feature as-tested in deploy/canary/Cargo.toml; `cargo tree --workspace -e features -i CRATE` says who asks for which")
    return 1 if twice else 0


if __name__ == "__main__":
    sys.exit(main())
