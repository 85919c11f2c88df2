#!/bin/bash
# fetch-qemu.sh DIR: unpacks qemu-system-x86_64 and the libraries that this machine lacks into DIR, from its own mirror.
#
# Installs nothing and needs no privilege: on a machine with a newer qemu-utils the package could only be installed by
# removing that. DIR/qemu-system-x86_64 then runs it from there.
set -eu
mkdir -p "$1/debs"
dir=$(cd "$1" && pwd)
cd "$dir/debs"
packages=$(apt-get -s install --no-install-recommends qemu-system-x86 | awk '$1 == "Inst" { print $2 }')
# shellcheck disable=SC2086 # one word per package
apt-get -qq -o APT::Sandbox::User= download $packages
for deb in *.deb; do dpkg -x "$deb" "$dir"; done
cat > "$dir/qemu-system-x86_64" <<'RUN'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
libraries=$(echo "$here"/usr/lib/*-linux-gnu "$here"/lib/*-linux-gnu "$here"/usr/lib/*-linux-gnu/pulseaudio | tr ' ' :)
for modules in "$here"/usr/lib/*-linux-gnu/qemu; do export QEMU_MODULE_DIR="$modules"; done
LD_LIBRARY_PATH=$libraries exec "$here/usr/bin/qemu-system-x86_64" -L "$here/usr/share/seabios" -L "$here/usr/share/qemu" "$@"
RUN
chmod +x "$dir/qemu-system-x86_64"
rm -r "$dir/debs"
