#!/bin/bash
# fetch-kernels.sh DIR RELEASE...: unpacks Debian's newest cloud kernel of each RELEASE (such as 6.12) into DIR/RELEASE.
#
# A machine's own suites hold one kernel; the others come from further suites of the same mirrors, through an apt state
# of our own under DIR. Installs nothing and needs no privilege. A RELEASE that is there already is not fetched again.
set -eu
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

wanted=()
for release in "$@"; do
    [ -e "$dir/$release/complete" ] || wanted+=("$release")
done
[ ${#wanted[@]} -gt 0 ] || exit 0

mirror() { # mirror PATTERN: the first configured repository whose address ends so
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E "$1" | head -1
}
main=$(mirror '/debian/?$') || true
security=$(mirror '/debian-security/?$') || true
if [ -z "$main" ] || [ -z "$security" ]; then
    echo "apt's sources name no Debian mirror with a security archive" >&2
    exit 1
fi

apt=$dir/.apt
mkdir -p "$apt"/{lists/partial,cache/archives/partial,parts}
key=/usr/share/keyrings/debian-archive-keyring.gpg
{
    for suite in bookworm trixie-backports; do echo "deb [signed-by=$key] $main $suite main"; done
    for suite in bullseye bookworm trixie; do echo "deb [signed-by=$key] $security $suite-security main"; done
} > "$apt/sources.list"
options=(-qq -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o "Dir::Etc::SourceList=$apt/sources.list"
    -o "Dir::Etc::SourceParts=$apt/parts" -o APT::Sandbox::User=
    # The oldest suite may no longer be renewed; signatures are checked all the same.
    -o Acquire::Check-Valid-Until=false)
apt-get "${options[@]}" update || echo "apt-get could not read every suite" >&2

newest() { # newest KIND RELEASE: the newest such package; 6.12 is taken as built for Debian 13, older builds panic in QEMU
    apt-cache "${options[@]}" pkgnames "linux-$1-$2" | grep -E "^linux-$1-${2//./\\.}[.-][.0-9-]*(\+deb13)?-cloud-amd64$" | sort -V | tail -1
}
for release in "${wanted[@]}"; do
    work=$dir/$release
    rm -rf "$work"
    mkdir -p "$work/debs"
    packages=("$(newest image "$release")")
    # From 7 on the image package only depends on one with the kernel and one with its modules.
    binary=$(newest binary "$release")
    [ -z "$binary" ] || packages=("$binary" "linux-modules-${binary#linux-binary-}")
    if [ -z "${packages[0]}" ]; then
        echo "no kernel $release in the Debian suites of $main and $security" >&2
        exit 1
    fi
    (cd "$work/debs" && apt-get "${options[@]}" download "${packages[@]}")
    for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work"; done
    rm -r "$work/debs"
    touch "$work/complete"
done
