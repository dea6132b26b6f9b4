# shellcheck shell=bash disable=SC2034
# Shared by the scripts: sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\n==> %s\n' "$*" >&2; }
die() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: $*"
    fi
}

apt_updated=
apt_install() {
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -qq </dev/null
        apt_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null >&2
}

# install "what it is for" "Debian packages" "Fedora packages" "Homebrew formulae"
install() {
    say "installing $1"
    # Unquoted on purpose: each argument is a list.
    # shellcheck disable=SC2086
    if command -v apt-get >/dev/null; then
        apt_install $2
    elif command -v dnf >/dev/null; then
        as_root dnf install -y -q $3 </dev/null >&2
    elif command -v brew >/dev/null; then
        brew install -q $4 </dev/null >&2
    else
        die "please install $1: no apt-get, dnf or brew here to do it"
    fi
}
