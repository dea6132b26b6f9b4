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

# Sets PGBIN to the directory of PostgreSQL's programs, unless it is set.
find_postgres() {
    PGBIN=${PGBIN:-$(dirname "$(find /usr/lib/postgresql -path '*/bin/initdb' | sort -V | tail -n 1)")}
}

# Sets `sources` to the directory of PostgreSQL's sources, of the version that is installed, with its tests built below $cache.
get_postgres() {
    local package version
    package=postgresql-$("$PGBIN/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
    version=$(dpkg-query -W -f '${source:Version}' "$package") || die "$package is not a Debian package here"
    sources=$cache/$package-$version
    [ -e "$sources/complete" ] && return
    say "getting and building the tests of $package $version"
    for tool in cc make bison flex perl bzip2 xz; do
        command -v "$tool" >/dev/null && continue
        install "what PostgreSQL's tests are built with" "build-essential bison flex perl bzip2 xz-utils" "" ""
        break
    done
    rm -rf "$sources"
    mkdir -p "$sources/apt/lists/partial" "$sources/apt/sources"
    # The archives that the package may have come from, asked for sources.
    local url file
    for url in $(apt-cache policy "$package" | sed -nE 's/^ +-?[0-9]+ (https?:[^ ]+) .*/\1/p' | sort -u); do
        grep -lsF "$url" /etc/apt/sources.list /etc/apt/sources.list.d/* || true
    done | sort -u | while read -r file; do
        sed -E 's/^Types:.*/Types: deb-src/; s/^deb /deb-src /' "$file" >"$sources/apt/sources/${file##*/}"
    done
    local options=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$sources/apt/sources"
        -o "Dir::State::lists=$sources/apt/lists" -o "Dir::Cache=$sources/apt" -o "APT::Sandbox::User=$(id -un)")
    apt-get "${options[@]}" update >&2
    (cd "$sources/apt" && apt-get "${options[@]}" source --download-only "$package=$version" >&2)
    tar -xf "$sources"/apt/*.orig.tar.* -C "$sources" --strip-components=1
    (
        cd "$sources"
        ./configure --without-readline --without-zlib --without-icu CFLAGS=-O1
        make -C src/test/regress
        make -C contrib/spi
        make -C src/test/modules/libpq_pipeline
    ) >"$sources/build.log" 2>&1 || die "the build failed: $sources/build.log"
    touch "$sources/complete"
}
