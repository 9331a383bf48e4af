# shellcheck shell=bash disable=SC2154
# A Docker engine, a registry and the project's images for deploy/tests/compose and deploy/tests/rollouts --containers. To be sourced
# after ministack.sh, with `here`, `cache`, `scratch` and `environment` set. Linux only: containers and this machine reach each other
# over a bridge.

network=queue-worker-rollouts
# ECS's own address for metadata and credentials; the bridge's on this machine.
address=169.254.170.2
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Unpacks packages into the directory $1: of Debian $2, or of this machine's own sources where it is "own". Nothing is installed.
unpack() {
    local directory=$1 suite=$2 archive package
    local -a apt=(apt-get)
    shift 2
    mkdir -p "$directory" "$scratch/apt-$suite/lists/partial" "$scratch/apt-$suite/cache/archives/partial"
    (
        cd "$scratch/apt-$suite"
        if [[ $suite == own ]]; then
            # The package lists may be missing or old; to fetch them takes root.
            apt-get download "$@" || { apt-get update && apt-get download "$@"; }
        else
            # The mirror that this machine takes its own packages from.
            # shellcheck disable=SC2016 # APT's own variable
            archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/*$')
            echo "deb [signed-by=$keyring] $archive $suite main" >sources.list
            apt+=(-o "Dir::Etc::sourcelist=$PWD/sources.list" -o Dir::Etc::sourceparts=-
                -o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o APT::Sandbox::User=)
            "${apt[@]}" update
            "${apt[@]}" download "$@"
        fi
        for package in *.deb; do dpkg-deb --extract "$package" "$directory"; done
        rm -f ./*.deb
    ) >"$scratch/unpack.log" 2>&1 || {
        tail -n 5 "$scratch/unpack.log" >&2
        fail 1 "the packages $* cannot be had"
    }
}

# Client, engine and registry, from Debian trixie: bookworm's engine is too old for build contexts. But for runc, tini and iptables,
# which trixie links with its own C library. The engine needs iptables inside containers, where it turns names of other containers into
# addresses.
engine_of_debian() {
    local unpacked=$scratch/engine program
    engine=$cache/engine-26-compose
    [[ ! -f $engine/complete ]] || return 0
    say "unpacking a Docker engine into $engine"
    unpack "$unpacked" trixie docker.io docker-cli docker-buildx docker-compose docker-registry containerd
    unpack "$scratch/own" own runc tini iptables libxtables12 libip4tc2 libip6tc2 libnftnl11 libmnl0 libnetfilter-conntrack3 libnfnetlink0
    rm -rf "$engine"
    mkdir -p "$engine/bin" "$engine/cli-plugins"
    for program in dockerd docker docker-proxy docker-registry containerd containerd-shim-runc-v2; do
        mv "$unpacked"/usr/*bin/"$program" "$engine/bin/"
    done
    mv "$scratch/own/usr/sbin/runc" "$engine/bin/"
    mv "$scratch/own/usr/bin/tini-static" "$engine/bin/docker-init"
    mv "$unpacked"/usr/libexec/docker/cli-plugins/docker-{buildx,compose} "$engine/cli-plugins/"
    mv "$scratch/own" "$engine/iptables"
    for program in iptables ip6tables; do
        # shellcheck disable=SC2016 # for the script itself
        printf '#!/bin/sh\nhere=${0%%/*}/../iptables/usr\nset -- "$here/sbin/xtables-nft-multi" %s "$@"\n%s\n' "$program" \
            'for lib in "$here"/lib/*/; do LD_LIBRARY_PATH=$lib XTABLES_LIBDIR=${lib}xtables exec "$@"; done' >"$engine/bin/$program"
        chmod +x "$engine/bin/$program"
    done
    rm -rf "$unpacked"
    touch "$engine/complete"
}

# As root on Debian an engine of our own for the time of the test, beside one that may be there. It touches no rule of this machine's
# firewall: its containers talk to each other and to this machine only. Else the one that answers.
start_engine() {
    if ((EUID == 0)) && [[ -f $keyring ]]; then
        engine_of_debian
        export PATH=$engine/bin:$PATH DOCKER_CONFIG=$scratch/docker DOCKER_HOST=unix://$scratch/docker.sock
        mkdir -p "$DOCKER_CONFIG"
        ln -s "$engine/cli-plugins" "$DOCKER_CONFIG/cli-plugins"
        echo '{}' >"$scratch/docker.json" # no settings of this machine
        # In a session of its own: an interrupt is for this script, which still needs the engine to leave nothing.
        setsid dockerd --host "$DOCKER_HOST" --data-root "$scratch/data" --exec-root "$scratch/exec" --pidfile "$scratch/docker.pid" \
            --config-file "$scratch/docker.json" --bridge none --iptables=false --ip6tables=false --userland-proxy-path "$engine/bin/docker-proxy" \
            >"$scratch/dockerd.log" 2>&1 &
        dockerd=$!
        until_answers "$dockerd" "$scratch/dockerd.log" docker info
        return
    fi
    local version
    version=$(docker version --format '{{.Server.APIVersion}}' 2>/dev/null) ||
        fail 69 "no Docker engine answers, and only root on Debian can start one here"
    [[ $(printf '%s\n' 1.42 "$version" | sort --version-sort | head -n 1) == 1.42 ]] ||
        fail 69 "the Docker engine that answers is too old: its API is $version; expected 1.42 or newer (Docker 23)"
    docker buildx version >/dev/null 2>&1 || fail 69 "no docker buildx"
    registry_of_own
    export PATH=$PATH:$cache/registry/bin
}

# The registry, from this machine's own packages.
registry_of_own() {
    [[ ! -d $cache/registry/bin ]] || return 0
    command -v apt-get dpkg-deb >/dev/null || fail 69 "no apt-get, with which a registry is fetched"
    unpack "$scratch/unpacked" own docker-registry
    mkdir -p "$cache/registry"
    mv "$scratch/unpacked/usr/bin" "$cache/registry/bin"
}

# Waits until a command succeeds, as long as the process $1 is there; $2 is its log.
until_answers() {
    local process=$1 log=$2 deadline=$((SECONDS + 60))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! kill -0 "$process" 2>/dev/null || ((SECONDS > deadline)); then
            tail -n 20 "$log" >&2
            fail 1 "it does not answer: $*; the lines above are its log"
        fi
        read -rt 0.2 <> <(:) || true
    done
}

# A registry on loopback, which is one without TLS to every engine.
start_registry() {
    local port
    port=$(free_port)
    registry=localhost:$port
    cat >"$scratch/registry.yml" <<YAML
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $scratch/registry}}
http: {addr: "127.0.0.1:$port"}
YAML
    docker-registry serve "$scratch/registry.yml" >"$scratch/registry.log" 2>&1 &
    registry_process=$!
    until_answers "$registry_process" "$scratch/registry.log" bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
}

# What stands for the images' base where it cannot be pulled: the C library, libgcc and certificates, of this machine's Debian.
build_base() {
    base=$cache/base-$(dpkg-query --show --showformat '${Version}' libc6 | tr -c 'A-Za-z0-9.\n' -)
    [[ ! -d $base ]] || return 0
    rm -rf "$base.new"
    unpack "$base.new" own libc6 libgcc-s1 ca-certificates
    cat "$base.new"/usr/share/ca-certificates/mozilla/*.crt >"$base.new/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$base.new"/usr/share/{doc,man,lintian}
    mv "$base.new" "$base"
}

# build DOCKERFILE BASE VERSION TAG: an image from the project's Dockerfile, with the binaries that were built already.
build() {
    docker buildx build --quiet --provenance=false --file "$1" \
        --build-context "binaries=$scratch/binaries" --build-context "base=$base" \
        --build-arg BUILD_IMAGE=scratch --build-arg "BASE_IMAGE=$2" --build-arg "VERSION=$3" --tag "$4" "$here/../.." \
        >"$scratch/build.log" 2>&1 || {
        tail -n 20 "$scratch/build.log" >&2
        fail 1 "the image $4 cannot be built; the lines above are the builder's"
    }
}

# What `build` puts into images: the binaries in $1, and a base.
prepare_images() {
    local program
    mkdir -p "$scratch/binaries"
    for program in worker canary; do
        # A debug build is ten times as large with its symbols.
        strip -o "$scratch/binaries/$program" "$1/$program" 2>/dev/null || cp "$1/$program" "$scratch/binaries/"
    done
    build_base
}

# Builds the images from the binaries in $1, brings the worker's into the registry, and writes what there is to $scratch/made.json.
build_images() {
    local release tag from
    local -a made=()
    mkdir -p "$scratch/logs"
    prepare_images "$1"
    build "$here/../canary/Dockerfile" base 1.0.0 "$network/canary"
    for release in 1.0.0 1.1.0 2.0.0 broken; do
        tag=$registry/orders-worker:$release
        from=base
        [[ $release != broken ]] || from=scratch # without the libraries that it needs
        build "$here/../../worker/Dockerfile" "$from" "$release" "$tag"
        docker push --quiet "$tag" >/dev/null
        made+=("\"$release\": \"$(docker image inspect --format '{{index .RepoDigests 0}}' "$tag")\"")
        docker image rm "$tag" >/dev/null # so that it must be pulled
    done
    printf '{"network": "%s", "canary": "%s/canary", "logs": "%s", "releases": {%s}}\n' \
        "$network" "$network" "$scratch/logs" "$(IFS=,; printf '%s' "${made[*]}")" >"$scratch/made.json"
}

# The bridge has a name of its own: one that a killed run left behind is taken again, where a second one would have the same address.
start_network() {
    docker network create --subnet 169.254.170.0/24 --gateway "$address" --opt com.docker.network.bridge.name=queue-worker0 \
        "$network" >/dev/null
}

# Leaves nothing of the above: an engine that was there before has neither containers nor images nor a network of ours.
stop_engine() {
    local process deadline=$((SECONDS + 30))
    local -a left=()
    # Again while there is one: what was being started when this run was interrupted comes late.
    while docker network inspect "$network" >/dev/null 2>&1 && ((SECONDS < deadline)); do
        mapfile -t left < <(docker ps --all --quiet --filter "network=$network")
        ((${#left[@]} == 0)) || docker rm --force "${left[@]}" >/dev/null 2>&1 || true
        docker network rm "$network" >/dev/null 2>&1 || read -rt 0.2 <> <(:) || true
    done
    # With the engine of our own goes all it has.
    if [[ -z ${dockerd:-} && -n ${registry:-} ]]; then
        mapfile -t left < <(docker images --quiet --filter "reference=$registry/orders-worker" --filter "reference=$network/canary")
        ((${#left[@]} == 0)) || docker image rm --force "${left[@]}" >/dev/null || true
    fi
    for process in "${registry_process:-}" "${dockerd:-}"; do
        [[ -n $process ]] || continue
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
}
