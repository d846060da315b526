# shellcheck shell=bash
# Docker: that it is there and runs, the image, and that nothing of it stays. Read by run.sh.

IMAGE=cyphonic-testbed
# What the containers need beside our program: to be routers, to measure, to look, and to be used as people use
# machines.
PACKAGES="iproute2 iputils-ping ethtool nftables tcpdump iperf3 curl busybox openssh-client openssh-server"
our_daemon=""
our_images=()
traces=""

# have COMMAND PACKAGE: installs it where that can be done.
have() {
    command -v "$1" >/dev/null && return
    if command -v apt-get >/dev/null && [[ $(id -u) == 0 ]]; then
        say "installing $2"
        apt-get update -qq >/dev/null &&
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >/dev/null &&
            command -v "$1" >/dev/null && return
    fi
    die "$1 is missing. Debian and Ubuntu: apt install $2 (or run this as root). Fedora: dnf install moby-engine docker-compose wireshark-cli. Others: https://docs.docker.com/engine/install"
}

compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose -p "$PROJECT" "$@"
    else
        docker-compose -p "$PROJECT" "$@"
    fi
}

# Ready to use Docker. A daemon that nobody started is started by hand: containers and sandboxes lack systemd.
docker_ready() {
    have docker docker.io
    docker compose version >/dev/null 2>&1 || have docker-compose docker-compose
    [[ -c /dev/net/tun ]] || die "there is no /dev/net/tun: modprobe tun"
    docker info >/dev/null 2>&1 && return
    have dockerd docker.io
    have iptables iptables
    [[ $(id -u) == 0 ]] || die "no Docker daemon answers: start it (systemctl start docker), or run this as root"
    traces=$WORK/before
    mkdir -p "$traces"
    cat /proc/sys/net/ipv4/ip_forward >"$traces/ip_forward"
    iptables -S FORWARD 2>/dev/null | head -1 >"$traces/forward" || true
    ip link show docker0 >/dev/null 2>&1 && touch "$traces/docker0" || rm -f "$traces/docker0"
    say "starting dockerd (its log: $WORK/dockerd.log)"
    dockerd >"$WORK/dockerd.log" 2>&1 &
    our_daemon=$!
    for _ in $(seq 150); do
        docker info >/dev/null 2>&1 && return
        kill -0 "$our_daemon" 2>/dev/null || die "dockerd ended: $(tail -1 "$WORK/dockerd.log")"
        sleep 0.2
    done
    die "dockerd does not answer: $(tail -1 "$WORK/dockerd.log")"
}

# Ends the daemon that we started, with the bridge and the rules that a daemon leaves behind.
daemon_away() {
    [[ -n $our_daemon ]] || return 0
    kill "$our_daemon" 2>/dev/null || true
    # Not `wait`: an earlier run may have started it.
    for _ in $(seq 100); do
        kill -0 "$our_daemon" 2>/dev/null || break
        sleep 0.1
    done
    our_daemon=""
    rm -f "$traces/daemon"
    [[ ! -e $traces/docker0 ]] || return 0
    ip link del docker0 2>/dev/null || true
    local tables
    for tables in iptables ip6tables; do
        "$tables-save" 2>/dev/null | grep -vi docker | "$tables-restore" 2>/dev/null || true
    done
    # -P FORWARD ACCEPT, as `iptables -S` prints it.
    read -ra forward <"$traces/forward" && iptables "${forward[@]}" || true
    cat "$traces/ip_forward" >/proc/sys/net/ipv4/ip_forward
}

# Lets the daemon that we started run on, and notes it for `down`.
daemon_stays() {
    [[ -n $our_daemon ]] || return 0
    echo "$our_daemon" >"$traces/daemon"
    disown "$our_daemon"
}

# Ends the daemon that an earlier `up` started, if it is still that one.
daemon_of_up_away() {
    traces=$WORK/before
    [[ -s $traces/daemon ]] || return 0
    our_daemon=$(<"$traces/daemon")
    if [[ $(cat "/proc/$our_daemon/comm" 2>/dev/null) == dockerd ]]; then
        daemon_away
    fi
    rm -rf "$traces"
    our_daemon=""
}

# Removes keys, configuration and captures of the network.
keys_away() {
    rm -rf "${WORK:?}/run" "$WORK/www"
    rmdir "$WORK" 2>/dev/null || true
}

# Removes the images that this run made.
images_away() {
    ((${#our_images[@]} == 0)) || docker rmi -f "${our_images[@]}" >/dev/null 2>&1 || true
    docker image prune -f --filter "label=project=$PROJECT" >/dev/null 2>&1 || true
}

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

# Sets `base` to the name of an image with Debian in it.
base_image() {
    base=debian:bookworm-slim
    have_image "$base" && return
    if timeout 60 docker pull -q "$base" >/dev/null 2>&1; then
        our_images+=("$base")
        return
    fi
    base=cyphonic-base:$(cksum <<<"$PACKAGES" | cut -d' ' -f1)
    have_image "$base" && return
    say "images cannot be pulled: making one with debootstrap"
    have debootstrap debootstrap
    [[ $(id -u) == 0 ]] || die "debootstrap needs root"
    local folder mirror
    folder=$(mktemp -d)
    mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | head -1 || true)
    debootstrap --variant=minbase --include="${PACKAGES// /,}" bookworm "$folder" \
        "${mirror:-http://deb.debian.org/debian}" >"$WORK/debootstrap.log" 2>&1 || {
        rm -rf "$folder"
        die "debootstrap: $(tail -2 "$WORK/debootstrap.log")"
    }
    rm -rf "$folder"/var/cache/apt/archives/*.deb "$folder"/var/lib/apt/lists/*
    tar -C "$folder" -c . | docker import - "$base" >/dev/null
    rm -rf "$folder"
    our_images+=("$base")
}

build() {
    local program=${CYPHONIC:-} base
    if [[ -z $program ]]; then
        command -v cargo >/dev/null || die "Rust is missing (https://rustup.rs), or set CYPHONIC to the program"
        (cd "$root" && cargo build --release -p cyphonic)
        program=${CARGO_TARGET_DIR:-$root/target}/release/cyphonic
    fi
    mkdir -p "$WORK/image"
    # Without its symbols it is a tenth as large.
    if command -v strip >/dev/null; then strip -o "$WORK/image/cyphonic" "$program"; else cp "$program" "$WORK/image/cyphonic"; fi
    cp "$here/entry.sh" "$here/Dockerfile" "$WORK/image/"
    base_image
    have_image "$IMAGE" || our_images+=("$IMAGE")
    # The old builder: Debian's docker.io has no other.
    DOCKER_BUILDKIT=0 docker build -q --label "project=$PROJECT" --build-arg BASE="$base" --build-arg PACKAGES="$PACKAGES" \
        -t "$IMAGE" "$WORK/image" >"$WORK/build.log" 2>&1 || die "the image cannot be built: $(tail -2 "$WORK/build.log")"
    docker run --rm --entrypoint cyphonic "$IMAGE" --version >/dev/null ||
        die "the program does not run in Debian 12: build it there, or on a system with glibc 2.36 or older, and set CYPHONIC"
}
